//! Who takes part: engines, the judge, and the daemon with the index.

use crate::blocks::Load;
use crate::engines::Engines;
use crate::judge::{Judge, SOURCE};
use crate::options::Options;
use crate::others::Cpu;
use anyhow::{Context, Result, bail, ensure};
use penstock_query::PluginStatus;
use penstock_query::client::ControlClient;
use penstock_testkit::daemon::{Daemon, Setup, drop_plugin};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The plugin that is swapped.
pub const PLUGIN: &str = "prefix-index";

/// Its builds: schema 2 of its state, and schema 1. Both forward what they handle.
const BUILDS: [&str; 2] = ["prefix-index.echo", "prefix-index.echo-second"];

/// Bytes of the index a block, with room: it is never to evict.
const BLOCK_BYTES: u64 = 400;

/// Everything that runs. Ends and leaves nothing behind when dropped.
pub struct Scene {
    pub engines: Engines,
    pub daemon: Daemon,
    pub judge: Judge,
    pub load: Arc<Load>,
}

/// What the test needs and xtask builds.
pub fn check_built() -> Result<()> {
    let target = penstock_testkit::target();
    let mut files = vec![target.join("release/penstock")];
    files.extend(BUILDS.map(|name| target.join(format!("plugins/{name}.wasm"))));
    for file in files {
        let shown = file.display();
        ensure!(
            file.exists(),
            "{shown} is missing; `cargo xtask soak-reload` builds what it needs"
        );
    }
    Ok(())
}

// === impl Scene ===

impl Scene {
    /// Starts everyone; the engines rest.
    ///
    /// # Panics
    /// The daemon does not get ready.
    pub fn start(options: &Options) -> Result<Self> {
        let engines = options.engines as usize;
        let load = Arc::new(Load::new(engines, options.blocks));
        let judge = Judge::start(engines)?;
        let engines = Engines::open(engines, load.clone(), judge.log(), judge.delivered.clone())?;
        let mut setup = Setup::new().config("log = \"info\"\n").plugin(
            PLUGIN,
            BUILDS[0],
            &plugin(&load, &judge.endpoint),
        );
        for (n, (stream, replay)) in engines.endpoints.iter().enumerate() {
            setup = setup.source(&format!("{SOURCE}{n}"), stream, Some(replay));
        }
        let mut scene = Self {
            daemon: setup.start(),
            engines,
            judge,
            load,
        };
        let count = scene.engines.endpoints.len();
        scene.until("the sources to join", Duration::from_secs(60), |scene| {
            let sources = scene.control().sources().unwrap_or_default();
            let live = sources
                .iter()
                .filter(|s| s.link == "live" && s.order_state == "live");
            Ok((live.count() == count).then_some(()))
        })?;
        Ok(scene)
    }

    pub fn control(&self) -> ControlClient {
        ControlClient::new(&self.daemon.path("penstock.sock"), Duration::from_secs(10))
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Cpu {
        let pids = [
            std::process::id(),
            self.daemon.process.pid(),
            self.judge.pid(),
        ];
        Cpu::now(&pids)
    }

    /// What the daemon tells of the plugin.
    pub fn plugin(&self) -> Result<PluginStatus> {
        let plugins = self.control().plugins()?;
        let found = plugins.into_iter().find(|p| p.name == PLUGIN);
        found.with_context(|| format!("the daemon has no plugin {PLUGIN}"))
    }

    /// Drops the build in that swap `number` brings, from 1.
    pub fn drop_build(&self, number: u64) {
        let build = BUILDS[(number % 2) as usize];
        let file = penstock_testkit::plugin_file(build);
        drop_plugin(self.daemon.home.path(), PLUGIN, &file, None);
    }

    /// Asks again and again. An error: it did not come within `limit`, or somebody
    /// ended meanwhile.
    pub fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        loop {
            if let Some(found) = condition(self)? {
                return Ok(found);
            }
            if let Some(status) = self.daemon.process.ended() {
                bail!("the daemon ended with {status}");
            }
            if self.engines.ended() {
                self.engines.stop()?;
                bail!("the engines ended");
            }
            if Instant::now() >= end {
                bail!("waited {limit:?} for {what}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The plugin's file. Its calls are not to be ended because the machine is busy, and
/// no build is on probation when the next one comes.
fn plugin(load: &Load, sink: &str) -> String {
    let bytes = load.blocks() * BLOCK_BYTES + (64 << 20);
    let memory = 2 * bytes;
    format!(
        "grants = [\"log\", \"metrics\", \"publish\"]
[swap]
probation_batches = 0
[limits]
deadline_ms = 5000
memory_bytes = {memory}
[config]
max_bytes = {bytes}
echo = \"out\"
[sink.out]
kind = \"zmq-push\"
endpoint = {sink:?}
queue_messages = 200000
queue_bytes = 1073741824
"
    )
}
