//! One plugin on a live engine, its output on the terminal: the daemon itself, with a
//! directory and a config of its own that are gone afterwards.
//!
//! Each sink of the plugin's file becomes a file in that directory, which is read along
//! and printed: a JSON line a message, as the sink kind `file` writes it.

use super::check;
use crate::commands::{
    print::{Out, note},
    stop,
};
use crate::config::{self, load_plugin};
use crate::daemon::Daemon;
use anyhow::{Context, Result};
use penstock_query::client::ControlClient;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use toml::{Table, Value};

/// How often the plugin's numbers are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Options of `penstock plugin run`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock plugin run by_adapter.wasm --endpoint tcp://10.0.0.7:5557
  penstock plugin run forward.wasm --toml forward.toml --endpoint tcp://127.0.0.1:5557 \\
    --replay tcp://127.0.0.1:6557 --model m --http 127.0.0.1:7790

What the plugin publishes is printed to standard output, a JSON line a message; its log and
the daemon's go to standard error. Sinks of the TOML file are not opened: all of them lead
here. `after` does not count: the engine's events come as they are. Ends with 0 at Ctrl-C or SIGTERM.")]
pub struct Args {
    /// The component.
    file: PathBuf,
    /// Where the engine publishes.
    #[arg(long)]
    endpoint: String,
    /// Where it answers replays.
    #[arg(long)]
    replay: Option<String>,
    /// Topic prefix; may be given several times. Default: everything.
    #[arg(long)]
    topic: Vec<String>,
    /// The model, as lookups name it.
    #[arg(long, default_value = "")]
    model: String,
    /// Its `NAME.toml`. Without one everything is granted, the config is empty, and there
    /// is one sink, `out`.
    #[arg(long)]
    toml: Option<PathBuf>,
    /// Address for lookups and requests, such as 127.0.0.1:7790.
    #[arg(long, default_value = "off")]
    http: String,
    /// Log filter.
    #[arg(long, default_value = "warn,plugin=trace")]
    log: String,
}

/// What was printed of one sink.
struct Tail {
    sink: String,
    file: BufReader<File>,
    /// A line that is not whole yet.
    line: String,
}

/// Runs until a signal.
pub fn run(args: &Args) -> Result<ExitCode> {
    // First, so that a plugin that would not be loaded is told of at once.
    let found = check::try_out(&args.file, args.toml.as_deref())?;
    let home = tempfile::tempdir().context("no temporary directory")?;
    let mut tails = furnish(args, home.path())?;
    let config = home.path().join("penstock.toml");
    let loaded = config::load(Some(&config), std::iter::empty())?;
    penstock_telemetry::init_logs(&args.log, penstock_telemetry::LogFormat::Text)
        .map_err(|why| anyhow::anyhow!("--log: {why}"))?;
    let stop = stop::on_signal()?;
    let daemon = Daemon::start(Some(config), loaded, None)?;
    note(format_args!(
        "{} {} follows {}; Ctrl-C ends it",
        found.name, found.version, args.endpoint
    ));
    let client = ControlClient::new(&home.path().join("penstock.sock"), LOOK);
    let mut out = Out::new();
    let mut watch = Watch::default();
    let mut looked = Instant::now();
    while !stop.load(Relaxed) && !out.closed() {
        std::thread::park_timeout(Duration::from_millis(20));
        daemon.beat();
        print(&mut tails, &mut out)?;
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            watch.look(&client);
        }
    }
    watch.look(&client);
    daemon.drain();
    print(&mut tails, &mut out)?;
    out.end()?;
    note(format_args!(
        "{} batches, {} events, {} refused, {} emitted",
        watch.batches, watch.events, watch.refusals, watch.emitted
    ));
    Ok(ExitCode::SUCCESS)
}

/// What is told of the plugin when it changes.
#[derive(Default)]
struct Watch {
    state: String,
    error: Option<String>,
    batches: u64,
    events: u64,
    refusals: u64,
    emitted: u64,
}

// === impl Watch ===

impl Watch {
    /// Says what is new. A daemon that is busy is asked again later.
    fn look(&mut self, client: &ControlClient) {
        let Ok(plugins) = client.plugins() else {
            return;
        };
        let Some(now) = plugins.into_iter().next() else {
            return;
        };
        if now.refusals > self.refusals {
            let more = now.refusals - self.refusals;
            note(format_args!(
                "refused {more} event(s), {} so far",
                now.refusals
            ));
        }
        let error = now.load_error.or(now.last_error);
        if error != self.error || now.state != self.state {
            let why = error.as_deref().map_or(String::new(), |e| format!(": {e}"));
            note(format_args!("{}{why}", now.state));
        }
        (self.state, self.error) = (now.state, error);
        (self.batches, self.events, self.refusals) = (now.batches, now.events, now.refusals);
        self.emitted = now.emitted;
    }
}

/// Config, plugin and its file; the sinks come back, to be read along.
fn furnish(args: &Args, home: &Path) -> Result<Vec<Tail>> {
    let name = args.file.file_stem().and_then(|s| s.to_str());
    let name = name.unwrap_or("plugin");
    let plugins = home.join("plugins.d");
    std::fs::create_dir(&plugins)?;
    std::fs::copy(&args.file, plugins.join(format!("{name}.wasm")))?;
    let mut file = match &args.toml {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("{}: cannot be read", path.display()))?;
            load_plugin(path, &text)?;
            let mut file = toml::from_str::<Table>(&text)?;
            // It runs alone: what it would get from others comes from the engine.
            file.remove("after");
            file
        }
        None => toml::from_str(
            "grants = [\"log\", \"metrics\", \"clock\", \"publish\", \"emit\"]\n[sink.out]\n",
        )?,
    };
    let mut tails = Vec::new();
    if let Some(Value::Table(sinks)) = file.get_mut("sink") {
        for (i, (sink, config)) in sinks.iter_mut().enumerate() {
            let path = home.join(format!("sink-{i}.jsonl"));
            File::create(&path)?;
            *config = Value::Table(table([
                ("kind", "file".into()),
                ("path", text(&path)?.into()),
            ]));
            tails.push(Tail {
                sink: sink.clone(),
                file: BufReader::new(File::open(&path)?),
                line: String::new(),
            });
        }
    }
    std::fs::write(
        plugins.join(format!("{name}.toml")),
        toml::to_string(&file)?,
    )?;
    std::fs::write(home.join("penstock.toml"), daemon(args, home)?)?;
    Ok(tails)
}

fn daemon(args: &Args, home: &Path) -> Result<String> {
    let mut source = BTreeMap::from([
        ("name", Value::from("engine")),
        ("endpoint", args.endpoint.as_str().into()),
        ("model", args.model.as_str().into()),
        ("topics", args.topic.clone().into()),
    ]);
    if let Some(replay) = &args.replay {
        source.insert("replay", replay.as_str().into());
    }
    let query = table([
        ("http", args.http.as_str().into()),
        ("zmq", "off".into()),
        ("control", text(&home.join("penstock.sock"))?.into()),
    ]);
    let config = table([
        ("log", args.log.as_str().into()),
        ("sources", Value::Array(vec![Value::Table(table(source))])),
        ("query", Value::Table(query)),
    ]);
    Ok(toml::to_string(&config)?)
}

fn table<'a>(pairs: impl IntoIterator<Item = (&'a str, Value)>) -> Table {
    let owned = |(key, value): (&str, Value)| (key.to_owned(), value);
    pairs.into_iter().map(owned).collect()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Prints the lines that have come whole.
fn print(tails: &mut [Tail], out: &mut Out) -> Result<()> {
    let mut printed = false;
    for tail in tails {
        loop {
            let read = tail.file.read_line(&mut tail.line);
            if read.context("a sink's file cannot be read")? == 0 || !tail.line.ends_with('\n') {
                break;
            }
            let line = tail.line.trim_end();
            let sink = serde_json::to_string(&tail.sink)?;
            match line.strip_prefix('{') {
                Some(rest) => out.line(format_args!("{{\"sink\":{sink},{rest}"))?,
                None => out.line(line)?,
            }
            tail.line.clear();
            printed = true;
        }
    }
    match printed {
        true => out.flush(),
        false => Ok(()),
    }
}
