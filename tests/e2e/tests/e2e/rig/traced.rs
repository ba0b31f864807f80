//! An engine that works through the trace, and the judgement of answers about it.

use super::query;
use penstock_event::{By, Query};
use penstock_peer::engine::{Command, EngineConfig, Engines, Source, Summary};
use penstock_peer::trace::{Trace, TraceConfig, Workload, WorkloadConfig};
use penstock_query::Rank;
use penstock_query::client::ZmqClient;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::engine::{read_log, teach};
use penstock_testkit::oracle::Oracle;
use penstock_testkit::wait;
use std::cell::Cell;
use std::sync::Arc;
use tempfile::TempDir;

/// One engine with what it works on and what it published.
pub struct Traced {
    engines: Engines,
    workload: Workload,
    home: TempDir,
    /// Its restarts.
    life: Cell<u32>,
}

/// Prompts and hashes asked in a comparison, of each.
const ASKED: u64 = 120;

// === impl Traced ===

impl Traced {
    /// An engine on free ports that publishes `rate` batches a second, 0: as fast as
    /// it can, once somebody has subscribed. A small cache, so that blocks leave.
    pub fn start(rate: f64) -> Self {
        Self::open(rate, false, 100_000)
    }

    fn open(rate: f64, paused: bool, kept: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let requests = WorkloadConfig {
            adapter_share: 0.2,
            ..WorkloadConfig::default()
        };
        let source = Source::Trace {
            path: penstock_testkit::trace(),
            workload: requests.clone(),
            config: TraceConfig {
                capacity_blocks: 4_096,
                step_tokens: 1_024,
                ..TraceConfig::default()
            },
        };
        let mut config = EngineConfig::new("tcp://127.0.0.1:*", source);
        config.publisher.replay = Some("tcp://127.0.0.1:*".into());
        config.publisher.buffer_batches = kept;
        config.rate = rate;
        config.paused = paused;
        config.wait_subscribers = 1;
        config.wait_timeout = Some(PATIENCE);
        config.log = Some(home.path().join("engine.log"));
        config.record = Some(home.path().join("engine.frames"));
        let lines = Trace::load(&penstock_testkit::trace()).unwrap();
        Self {
            engines: Engines::start(config).unwrap(),
            workload: Workload::new(Arc::new(lines), requests),
            home,
            life: Cell::new(0),
        }
    }

    /// The same, but it publishes in bursts alone.
    pub fn idle() -> Self {
        Self::open(0.0, true, 100_000)
    }

    /// The same, and it keeps only so many batches for replay.
    pub fn forgetful(kept: usize) -> Self {
        Self::open(0.0, true, kept)
    }

    /// Makes it a source.
    pub fn source(&self, setup: Setup, name: &str) -> Setup {
        let engine = &self.engines.progress().engines[0];
        setup.source(name, &engine.endpoint, engine.replay_endpoint.as_deref())
    }

    /// Batches published so far.
    pub fn published(&self) -> u64 {
        self.engines.progress().batches
    }

    /// Waits until so many more batches were published.
    pub fn wait_more(&self, batches: u64) {
        let wanted = self.published() + batches;
        let there = self.engines.wait(PATIENCE, |p| p.batches >= wanted);
        assert!(there, "the engine does not publish");
    }

    /// Stops publishing, and gives the last batch's number once it stands.
    pub fn pause(&self) -> u64 {
        self.command(Command::Pause);
        let mut before = None;
        wait::until("the engine's pause", PATIENCE, || {
            let paused = self.engines.progress().engines[0].state;
            let last = self.engines.progress().engines[0].last_sequence;
            let stands = before.replace(last) == Some(last);
            (stands && paused == penstock_peer::engine::State::Paused).then_some(())
        });
        before.flatten().unwrap()
    }

    /// Publishes again.
    pub fn resume(&self) {
        self.command(Command::Resume);
    }

    /// Publishes so many batches at once, and waits until that is done.
    pub fn burst(&self, batches: u64) {
        let wanted = self.published() + batches;
        self.command(Command::Burst(batches));
        let there = self.engines.wait(PATIENCE, |p| p.batches >= wanted);
        assert!(there, "the engine does not publish");
    }

    /// Begins anew, as an engine that was restarted does: from sequence 0, an empty
    /// cache, nothing to replay. It waits for nobody.
    pub fn restart(&self) {
        self.command(Command::Restart {
            first_sequence: 0,
            wait_subscribers: 0,
        });
        self.life.set(self.life.get() + 1);
        let again = |p: &Summary| p.engines[0].restarts == self.life.get();
        assert!(
            self.engines.wait(PATIENCE, again),
            "the engine does not restart"
        );
    }

    /// Waits until it has published past a sequence.
    pub fn wait_past(&self, sequence: u64) {
        let past = |p: &Summary| p.engines[0].last_sequence > Some(sequence);
        assert!(
            self.engines.wait(PATIENCE, past),
            "the engine does not publish"
        );
    }

    fn command(&self, command: Command) {
        self.engines.command(0, command).unwrap();
    }

    /// Pauses, waits until the daemon has received everything, and knows the truth.
    /// Not every plugin may be that far: some never get there.
    pub fn settle(&self, daemon: &Daemon, name: &str) -> Oracle {
        let last = self.pause();
        wait::until("the last batch", PATIENCE, || {
            let at = daemon.source(name)?.position?;
            (at.sequence == last).then_some(())
        });
        self.oracle(name)
    }

    /// The truth so far. The engine must be paused.
    pub fn oracle(&self, name: &str) -> Oracle {
        let log = read_log(&self.home.path().join("engine.log")).unwrap();
        let mut oracle = Oracle::default();
        let record = self.home.path().join("engine.frames");
        teach(&mut oracle, &log, &record, &[name.into()]).unwrap();
        oracle
    }

    /// Compares the index with the oracle, by prompts and by single hashes, each at
    /// the position that the answer carries. With the engine paused, answers must be
    /// at its last batch.
    pub fn compare(&self, daemon: &Daemon, plugin: &str, name: &str, oracle: &mut Oracle) {
        let last = self.engines.progress().engines[0].last_sequence.unwrap();
        let mut client = ZmqClient::connect(&daemon.zmq).unwrap();
        let caught_up = |client: &mut ZmqClient| {
            let answer = client.query(Some(plugin), &query(By::Tokens(Arc::new([]))));
            answer
                .ok()?
                .positions
                .get(name)?
                .sequence
                .filter(|s| *s == last)
        };
        wait::until("the plugin's position", PATIENCE, || caught_up(&mut client));
        let mut ask = |query: Query| {
            let answer = client.query(Some(plugin), &query).unwrap();
            let at = &answer.positions[name];
            assert!(at.complete, "nothing was lost, yet it says so");
            assert_eq!(at.sequence, Some(last));
            // A daemon that was not there has not counted every life.
            assert!(at.epoch <= Some(self.life.get()));
            let blocks = (answer.instances.get(name))
                .and_then(|i| i.blocks.get(&Rank(0)).copied())
                .unwrap_or(0);
            let tokens = answer.scores.get(name).and_then(|s| s.get(&Rank(0)));
            (tokens.copied().unwrap_or(0), blocks)
        };
        let held = oracle.at(name, self.life.get() as usize, Some(last));
        let next = self.engines.progress().engines[0].next_request.unwrap();
        let mut hits = 0;
        for request in next.saturating_sub(ASKED)..next {
            let prompt = self.workload.prompt(request);
            let adapter = prompt.adapter.as_ref().map_or("", |a| &a.name);
            let right = held.longest(&prompt.tokens, adapter, "");
            let mut question = query(By::Tokens(prompt.tokens.into()));
            question.adapter = adapter.into();
            let (tokens, _) = ask(question);
            assert_eq!(u64::from(tokens), right, "request {request} at {last}");
            hits += u64::from(right > 0);
        }
        assert!(hits > 0, "a comparison of nothing proves nothing");
        let step = (held.len() / ASKED as usize).max(1);
        for hash in held.hashes().step_by(step) {
            let (_, blocks) = ask(query(By::EngineHashes(Arc::new([hash]))));
            assert_eq!(blocks, 1, "{hash} is held at {last}");
            let (_, blocks) = ask(query(By::EngineHashes(Arc::new([!hash]))));
            assert_eq!(blocks, 0, "{hash} was never stored");
        }
    }
}
