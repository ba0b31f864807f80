//! The set: two engines on free ports, and the daemon with its two plugins.

use crate::options::Options;
use anyhow::{Context, Result, ensure};
use penstock_peer::engine::{EngineConfig, Engines, Source};
use penstock_peer::faults::{Faults, Selector};
use penstock_peer::trace::{Trace, TraceConfig, Workload, WorkloadConfig};
use penstock_query::client::ControlClient;
use penstock_testkit::daemon::{Daemon, Setup};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The engines' names, as sources and in answers.
pub const NAMES: [&str; 2] = ["engine-0", "engine-1"];

/// What they serve.
pub const MODEL: &str = "m";

/// Blocks that an engine's cache holds: about a dozen requests, so that prompts
/// asked a little later have lost their ends.
const CAPACITY: usize = 8_192;

/// Tokens computed in a step. Small: the checker reads every token again.
const STEP_TOKENS: usize = 1_024;

/// Everything that runs. Ends and leaves nothing behind when dropped.
pub struct Scene {
    /// The two engines.
    pub engines: Engines,
    /// The daemon, and the directory that all files are in.
    pub daemon: Daemon,
    /// What the engines work on.
    pub workload: Workload,
    /// What they published, as they tell it.
    pub log: PathBuf,
    /// Their payloads.
    pub record: PathBuf,
    /// What came out behind the forward plugin.
    pub forwarded: PathBuf,
}

/// What the demo needs and xtask builds.
pub fn check_built() -> Result<()> {
    let target = penstock_testkit::target();
    let plugins = ["prefix-index", "prefix-index.second", "forward"];
    let mut files = vec![target.join("release/penstock")];
    files.extend(plugins.map(|name| target.join(format!("plugins/{name}.wasm"))));
    for file in files {
        let file = file.display();
        ensure!(
            Path::new(&file.to_string()).exists(),
            "{file} is missing; `cargo xtask demo` builds what the demo needs"
        );
    }
    Ok(())
}

// === impl Scene ===

impl Scene {
    /// Starts the engines, which wait for the daemon, and then the daemon.
    ///
    /// # Panics
    /// The daemon does not get ready.
    pub fn start(options: &Options) -> Result<Self> {
        let setup = Setup::new();
        let home = setup.home.path();
        let (log, record) = (home.join("engines.log"), home.join("engines.frames"));
        let forwarded = home.join("forwarded.jsonl");
        let (requests, _) = trace(options);
        let lines = Trace::load(&penstock_testkit::trace())?;
        let workload = Workload::new(Arc::new(lines), requests);
        let config = engines(options, &log, &record);
        let engines = Engines::start(config).context("the engines do not start")?;
        let mut setup = setup
            .config("log = \"info\"\n")
            .plugin("prefix-index", "prefix-index", "")
            .plugin("forward", "forward", &forward(&forwarded));
        for (name, engine) in NAMES.iter().zip(&engines.progress().engines) {
            setup = setup.source(name, &engine.endpoint, engine.replay_endpoint.as_deref());
        }
        if let Some(sabotage) = options.sabotage {
            setup = setup.argument("--sabotage").argument(sabotage.name());
        }
        Ok(Self {
            daemon: setup.start(),
            engines,
            workload,
            log,
            record,
            forwarded,
        })
    }

    /// The daemon's control socket, with less patience than a test has.
    pub fn control(&self) -> ControlClient {
        ControlClient::new(&self.daemon.path("penstock.sock"), Duration::from_secs(5))
    }
}

/// Which requests there are, and how engines cache them.
pub fn trace(options: &Options) -> (WorkloadConfig, TraceConfig) {
    let requests = WorkloadConfig {
        engines: NAMES.len(),
        adapter_share: 0.2,
        seed: options.seed,
        ..WorkloadConfig::default()
    };
    let cache = TraceConfig {
        capacity_blocks: CAPACITY,
        step_tokens: STEP_TOKENS,
        ..TraceConfig::default()
    };
    (requests, cache)
}

/// Both engines, on ports that the system chooses.
pub fn engines(options: &Options, log: &Path, record: &Path) -> EngineConfig {
    let (workload, config) = trace(options);
    let source = Source::Trace {
        path: penstock_testkit::trace(),
        workload,
        config,
    };
    let mut config = EngineConfig::new("tcp://127.0.0.1:*", source);
    config.publisher.replay = Some("tcp://127.0.0.1:*".into());
    config.publisher.faults = Faults {
        drop_live: Selector::Chance {
            share: options.drop,
            seed: options.seed,
        },
        ..Faults::default()
    };
    // A plugin swapped in late reads all of it again.
    let batches = options.seconds as usize * options.rate as usize;
    config.publisher.buffer_batches = (batches * 2).max(10_000);
    config.engines = NAMES.len();
    config.rate = options.rate.into();
    config.wait_subscribers = 1;
    config.wait_timeout = Some(Duration::from_secs(60));
    config.log = Some(log.into());
    config.record = Some(record.into());
    config
}

/// The forward plugin's file: every payload as it came, into a file.
fn forward(to: &Path) -> String {
    format!(
        "grants = [\"log\", \"metrics\", \"publish\"]

[config]
mode = \"raw\"
sink = \"out\"

[sink.out]
kind = \"file\"
path = {:?}
",
        to.display().to_string()
    )
}
