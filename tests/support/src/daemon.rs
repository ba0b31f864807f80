//! The daemon as operators run it: a config file, a plugin directory, a process.

use crate::process::Process;
use crate::{binary, plugin_file, wait};
use penstock_query::client::{ControlClient, HttpClient};
use penstock_query::{PluginStatus, SourceStatus, Status};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;

/// How long things may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a daemon is started with.
pub struct Setup {
    /// Config, plugin directory and whatever sinks write.
    pub home: TempDir,
    config: String,
    start: Start,
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    /// The process; before the directory, since fields are dropped in order.
    pub process: Process,
    /// Its directory.
    pub home: TempDir,
    /// `http://…`
    pub http: String,
    /// `tcp://…`
    pub zmq: String,
    start: Start,
}

/// How it was started.
#[derive(Clone, Default)]
struct Start {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

// === impl Setup ===

impl Setup {
    /// A daemon without sources and plugins, its doors on free ports.
    ///
    /// # Panics
    /// There is no room for a temporary directory.
    #[must_use]
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("plugins.d")).unwrap();
        Self {
            home,
            config: String::new(),
            start: Start::default(),
        }
    }

    /// Adds TOML to the config file. The doors stand in `[query]` already; keys
    /// before the first table go first.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config += toml;
        self.config += "\n";
        self
    }

    /// Adds a source.
    #[must_use]
    pub fn source(self, name: &str, endpoint: &str, replay: Option<&str>) -> Self {
        let replay = replay.map_or(String::new(), |r| format!("replay = \"{r}\"\n"));
        self.config(&format!(
            "[[sources]]\nname = \"{name}\"\nendpoint = \"{endpoint}\"\nmodel = \"m\"\n{replay}"
        ))
    }

    /// Drops a plugin in, with the text of its TOML file.
    ///
    /// # Panics
    /// The plugin was not built.
    #[must_use]
    pub fn plugin(self, name: &str, file: &str, toml: &str) -> Self {
        drop_plugin(self.home.path(), name, &plugin_file(file), Some(toml));
        self
    }

    /// Adds arguments of `penstock run`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.start.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.start.variables.push((name.into(), value.into()));
        self
    }

    /// The command, for those who want to see it fail.
    ///
    /// # Panics
    /// The config file cannot be written.
    #[must_use]
    pub fn command(&self) -> Command {
        let doors = format!(
            "[query]\nhttp = \"127.0.0.1:0\"\nzmq = \"tcp://127.0.0.1:*\"\ncontrol = \"{}\"\n",
            self.home.path().join("penstock.sock").display()
        );
        let path = self.home.path().join("penstock.toml");
        let (first, rest) = match self.config.find('[') {
            Some(at) => self.config.split_at(at),
            None => (self.config.as_str(), ""),
        };
        std::fs::write(&path, format!("{first}{doors}{rest}")).unwrap();
        self.start.command(&path)
    }

    /// Starts the daemon and waits until it is ready.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn start(self) -> Daemon {
        let command = self.command();
        Daemon::start(self.home, self.start, command)
    }
}

// === impl Start ===

impl Start {
    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new(binary());
        command
            .args(["run", "--config"])
            .arg(config)
            .args(&self.arguments);
        // Overrides meant for another daemon stay out.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PENSTOCK_") {
                command.env_remove(name);
            }
        }
        // What one daemon has compiled serves all.
        command.env("PENSTOCK_CACHE_DIR", crate::target().join("cache"));
        command.envs(self.variables.iter().cloned());
        command
    }
}

// === impl Daemon ===

impl Daemon {
    fn start(home: TempDir, start: Start, mut command: Command) -> Self {
        let mut process = Process::start(&mut command);
        let http = wait::until("the daemon's doors", PATIENCE, || {
            if let Some(status) = process.ended() {
                panic!("the daemon ended with {status}:\n{}", process.output());
            }
            process.line("doors open")
        });
        let field = |name: &str| {
            let rest = http.split(&format!("{name}=")).nth(1).unwrap_or_default();
            let value = rest.split(' ').next().unwrap_or_default();
            value.trim_matches('"').to_string()
        };
        let daemon = Daemon {
            http: format!("http://{}", field("http")),
            zmq: field("zmq"),
            home,
            process,
            start,
        };
        wait::until("readiness", PATIENCE, || daemon.ready().then_some(()));
        daemon
    }

    /// Ends it by a signal, and starts it again in the same directory; other things may
    /// happen meanwhile. Its doors are elsewhere then.
    ///
    /// # Panics
    /// It does not end, or does not get ready again.
    #[must_use]
    pub fn again(mut self, signal: &str, meanwhile: impl FnOnce()) -> Self {
        match signal {
            // Without a process in between: the moment counts.
            "KILL" => self.process.kill(),
            _ => self.process.signal(signal),
        }
        self.process.wait(PATIENCE);
        meanwhile();
        let command = self.start.command(&self.path("penstock.toml"));
        Self::start(self.home, self.start, command)
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts a plugin into the directory as careful operators do: written beside, then
/// renamed.
///
/// # Panics
/// A file cannot be written.
pub fn drop_plugin(home: &Path, name: &str, wasm: &Path, toml: Option<&str>) {
    let directory = home.join("plugins.d");
    let place = |bytes: &[u8], file: String| {
        let beside = directory.join(format!(".{file}.new"));
        std::fs::write(&beside, bytes).unwrap();
        std::fs::rename(beside, directory.join(file)).unwrap();
    };
    if let Some(toml) = toml {
        place(toml.as_bytes(), format!("{name}.toml"));
    }
    place(&std::fs::read(wasm).unwrap(), format!("{name}.wasm"));
}

impl Daemon {
    /// A path in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// True once it says so.
    #[must_use]
    pub fn ready(&self) -> bool {
        let ready = HttpClient::new(&self.http).get::<serde_json::Value>("/ready");
        ready.is_ok_and(|r| r["ready"] == true)
    }

    /// Its control socket.
    #[must_use]
    pub fn control(&self) -> ControlClient {
        ControlClient::new(&self.path("penstock.sock"), PATIENCE)
    }

    /// All it tells.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn status(&self) -> Status {
        self.control().status().unwrap()
    }

    /// What it tells of one source.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<SourceStatus> {
        let sources = self.control().sources().unwrap();
        sources.into_iter().find(|s| s.name == name)
    }

    /// What it tells of one plugin.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<PluginStatus> {
        let plugins = self.control().plugins().unwrap();
        plugins.into_iter().find(|p| p.name == name)
    }

    /// Waits until every plugin has applied a source up to a position.
    ///
    /// # Panics
    /// It takes longer than [`PATIENCE`].
    pub fn wait_for(&self, source: &str, epoch: u32, sequence: u64) {
        let there = wait::within(PATIENCE, || {
            let at = self.source(source)?.position?;
            let there = (at.epoch, at.sequence) >= (epoch, sequence);
            // Ingest is ahead of the lanes.
            let idle = |p: PluginStatus| p.queue_items == 0;
            let done = || {
                self.control()
                    .plugins()
                    .is_ok_and(|p| p.into_iter().all(idle))
            };
            (there && done()).then_some(())
        });
        if there.is_none() {
            let at = self.source(source);
            panic!("not at {epoch}/{sequence} within {PATIENCE:?}: {at:#?}");
        }
    }

    /// One of its metrics, summed over labels.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let text = ureq::get(format!("{}/metrics", self.http)).call();
        let text = text
            .ok()
            .and_then(|mut r| r.body_mut().read_to_string().ok());
        let text = text.unwrap_or_default();
        let of_name = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        of_name
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// SIGTERM, and its exit.
    pub fn stop(mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.process.wait(PATIENCE)
    }
}
