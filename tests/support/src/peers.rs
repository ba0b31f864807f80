//! Engines in this process, with their log and payloads beside.

use crate::daemon::PATIENCE;
use crate::engine::{read_log, teach};
use crate::oracle::Oracle;
use crate::{capture, trace};
use penstock_peer::engine::{Command, EngineConfig, Engines, Numbering, Source, State};
use penstock_peer::faults::{Faults, Selector};
use penstock_peer::trace::{TraceConfig, WorkloadConfig};
use std::path::PathBuf;
use tempfile::TempDir;

/// Engines that wait: nothing is published before [`Peers::burst`] or a
/// [`Command::Resume`].
pub struct Peers {
    /// They.
    pub engines: Engines,
    home: TempDir,
    count: usize,
}

/// An engine with replay that publishes what a real one did: a recording by name.
#[must_use]
pub fn recording(name: &str) -> EngineConfig {
    config(Source::Frames {
        path: capture(name),
        numbering: Numbering::Recorded,
        rounds: 1,
    })
}

/// Engines with replay that serve the trace, each with a cache of `blocks`.
#[must_use]
pub fn tracing(engines: usize, blocks: usize) -> EngineConfig {
    let mut config = config(Source::Trace {
        path: trace(),
        workload: WorkloadConfig {
            engines,
            ..WorkloadConfig::default()
        },
        config: TraceConfig {
            capacity_blocks: blocks,
            step_tokens: 512,
            ..TraceConfig::default()
        },
    });
    config.engines = engines;
    config
}

/// These batches are not sent live.
#[must_use]
pub fn losing(sequences: &str) -> Faults {
    Faults {
        drop_live: select(sequences),
        ..Faults::default()
    }
}

/// Sequences as `3,7-9`, `every:100` or `p:0.01`.
///
/// # Panics
/// The text is none of these.
#[must_use]
pub fn select(sequences: &str) -> Selector {
    sequences.parse().unwrap()
}

fn config(source: Source) -> EngineConfig {
    let mut config = EngineConfig::new("tcp://127.0.0.1:*", source);
    config.publisher.replay = Some("tcp://127.0.0.1:*".into());
    config.wait_subscribers = 1;
    config
}

// === impl Peers ===

impl Peers {
    /// Starts them; log and recording are added to the config.
    ///
    /// # Panics
    /// They do not start.
    #[must_use]
    pub fn start(mut config: EngineConfig) -> Self {
        let home = tempfile::tempdir().unwrap();
        config.log = Some(home.path().join("log.jsonl"));
        config.record = Some(home.path().join("record.frames"));
        config.paused = true;
        let count = config.engines;
        Self {
            engines: Engines::start(config).unwrap(),
            home,
            count,
        }
    }

    /// Where the stream of one of them is.
    #[must_use]
    pub fn endpoint(&self, engine: usize) -> String {
        self.engines.progress().engines[engine].endpoint.clone()
    }

    /// Where the replay of one of them is.
    #[must_use]
    pub fn replay(&self, engine: usize) -> Option<String> {
        let progress = self.engines.progress();
        progress.engines[engine].replay_endpoint.clone()
    }

    /// Tells one of them something.
    ///
    /// # Panics
    /// It does not take it.
    pub fn command(&self, engine: usize, command: Command) {
        self.engines.command(engine, command).unwrap();
    }

    /// Publishes so many batches and waits until that is done, subscribers
    /// included. Returns the last sequence.
    ///
    /// # Panics
    /// It takes longer than [`PATIENCE`].
    pub fn burst(&self, engine: usize, batches: u64) -> u64 {
        let before = self.engines.progress().engines[engine].batches;
        self.command(engine, Command::Burst(batches));
        let done = self.engines.wait(PATIENCE, |all| {
            all.engines[engine].batches >= before + batches
        });
        assert!(done, "{:?}", self.engines.progress().engines[engine]);
        self.last(engine)
    }

    /// The last sequence of one of them.
    ///
    /// # Panics
    /// It has published nothing.
    #[must_use]
    pub fn last(&self, engine: usize) -> u64 {
        let last = self.engines.progress().engines[engine].last_sequence;
        last.expect("an engine that has published")
    }

    /// Kills one of them and waits until it is dead.
    ///
    /// # Panics
    /// It takes longer than [`PATIENCE`].
    pub fn kill(&self, engine: usize) {
        self.command(engine, Command::Kill);
        let dead = self
            .engines
            .wait(PATIENCE, |all| all.engines[engine].state == State::Dead);
        assert!(dead, "the engine lives");
    }

    /// Starts a dead one again, with nothing cached and nothing to replay.
    ///
    /// # Panics
    /// It does not take the command.
    pub fn restart(&self, engine: usize) {
        let again = Command::Restart {
            first_sequence: 0,
            wait_subscribers: 1,
        };
        self.command(engine, again);
    }

    /// What was published so far, each engine under its source's name.
    ///
    /// # Panics
    /// The files cannot be read.
    #[must_use]
    pub fn oracle(&self, names: &[&str]) -> Oracle {
        assert_eq!(names.len(), self.count, "a name an engine");
        let names: Vec<String> = names.iter().map(|n| (*n).to_string()).collect();
        let mut oracle = Oracle::default();
        let log = read_log(&self.log()).unwrap();
        let record = self.home.path().join("record.frames");
        teach(&mut oracle, &log, &record, &names).unwrap();
        oracle
    }

    /// Their log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.home.path().join("log.jsonl")
    }
}
