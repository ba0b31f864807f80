//! The engines: publishers on one thread, which take turns.

use crate::blocks::Load;
use crate::judge::Log;
use crate::log::Entry;
use crate::waits::now;
use anyhow::{Context as _, Result, anyhow, ensure};
use penstock_peer::Context;
use penstock_peer::endpoint::Side;
use penstock_peer::publisher::{Publisher, PublisherConfig};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Batches published and not out yet, at most, at full speed.
const WINDOW: u64 = 4_096;
/// Batches at a time, at most.
const BURST: u64 = 64;
/// What was missed is made up for no longer than this.
const MISSED: Duration = Duration::from_millis(20);
/// Sleep when nothing is due: engines publish once a step, which is rarer still.
const NAP: Duration = Duration::from_millis(2);
/// Batches kept for replay, each engine: a minute or two. They share their payloads.
const REPLAY: usize = 60_000;

const ANY: &str = "tcp://127.0.0.1:*";

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Not at all.
    Rest,
    /// As fast as batches come out again, up to so many in all.
    Full(u64),
    /// So many batches a second.
    Rate(f64),
}

/// Engines at work.
pub struct Engines {
    /// Stream and replay of each.
    pub endpoints: Vec<(String, String)>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

struct Shared {
    pace: Mutex<Pace>,
    sent: AtomicU64,
    stop: AtomicBool,
}

struct Worker {
    publishers: Vec<Publisher>,
    load: Arc<Load>,
    log: Log,
    shared: Arc<Shared>,
    delivered: Arc<AtomicU64>,
    entries: Vec<Entry>,
}

// === impl Engines ===

impl Engines {
    /// Opens them; they rest.
    pub fn open(
        engines: usize,
        load: Arc<Load>,
        log: Log,
        delivered: Arc<AtomicU64>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            pace: Mutex::new(Pace::Rest),
            sent: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let (opened, open) = channel();
        let mut worker = Worker {
            publishers: Vec::new(),
            load,
            log,
            shared: shared.clone(),
            delivered,
            entries: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("engines".into())
            .spawn(move || worker.run(engines, &opened))?;
        Ok(Self {
            endpoints: open
                .recv()
                .context("the engines did not open their sockets")?,
            shared,
            thread: Some(thread),
        })
    }

    pub fn pace(&self, pace: Pace) {
        *self
            .shared
            .pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = pace;
    }

    /// Batches published so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Relaxed)
    }

    /// An engine has failed.
    pub fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends them.
    pub fn stop(&mut self) -> Result<()> {
        self.shared.stop.store(true, Relaxed);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread
            .join()
            .map_err(|_| anyhow!("the engines' thread panicked"))?
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        // They end by themselves then; nobody waits.
        self.shared.stop.store(true, Relaxed);
    }
}

// === impl Worker ===

impl Worker {
    fn run(&mut self, engines: usize, opened: &Sender<Vec<(String, String)>>) -> Result<()> {
        let context = Context::new();
        for _ in 0..engines {
            let config = PublisherConfig {
                side: Side::Bind,
                replay: Some(ANY.into()),
                buffer_batches: REPLAY,
                linger: Duration::ZERO,
                ..PublisherConfig::new(ANY)
            };
            self.publishers.push(Publisher::open(&context, config)?);
        }
        let at = |p: &Publisher| {
            (
                p.endpoint().into(),
                p.replay_endpoint().unwrap_or_default().into(),
            )
        };
        let endpoints = self.publishers.iter().map(at).collect();
        opened
            .send(endpoints)
            .context("nobody waits for the engines")?;
        let (mut from, mut of_rate, mut before) = (Instant::now(), 0, Pace::Rest);
        while !self.shared.stop.load(Relaxed) {
            let pace = *self
                .shared
                .pace
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if pace != before {
                (from, of_rate, before) = (Instant::now(), 0, pace);
            }
            let sent = self.shared.sent.load(Relaxed);
            let due = match pace {
                Pace::Rest => 0,
                Pace::Full(until) => {
                    let room = (self.delivered.load(Relaxed) + WINDOW).saturating_sub(sent);
                    room.min(until.saturating_sub(sent))
                }
                Pace::Rate(rate) => {
                    let due =
                        ((from.elapsed().as_secs_f64() * rate) as u64).saturating_sub(of_rate);
                    let most = (MISSED.as_secs_f64() * rate) as u64 + 1;
                    of_rate += due.saturating_sub(most);
                    due.min(most)
                }
            };
            let due = due.min(BURST);
            of_rate += due;
            if due > 0 {
                self.publish(sent, due)?;
            }
            // Like vLLM's publisher: between batches, however many there are.
            for publisher in &mut self.publishers {
                publisher.serve_replay()?;
            }
            if due < BURST {
                std::thread::sleep(NAP);
            }
        }
        Ok(())
    }

    /// The next batches, of each engine in turn; the log first.
    fn publish(&mut self, sent: u64, many: u64) -> Result<()> {
        let engines = self.publishers.len() as u64;
        let turns = (sent..sent + many).map(|n| ((n % engines) as usize, n / engines));
        let batches: Vec<_> = turns
            .map(|(engine, number)| (engine, number, self.load.batch(engine, number)))
            .collect();
        let at = now();
        self.entries.clear();
        let entry = |(engine, sequence, (_, digest)): &(usize, u64, (_, u64))| Entry::Batch {
            engine: *engine as u32,
            sequence: *sequence,
            digest: *digest,
            at,
        };
        self.entries.extend(batches.iter().map(entry));
        self.log.write(&self.entries)?;
        for (engine, number, (payload, _)) in batches {
            let fate = self.publishers[engine].publish(payload)?;
            ensure!(
                fate.sent && fate.sequence == number,
                "engine {engine}: {number} was not sent"
            );
        }
        self.shared.sent.store(sent + many, Relaxed);
        Ok(())
    }
}
