//! Engines on one thread: at a rate, or as fast as the daemon drains.

use crate::stream::Stream;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use penstock_peer::Context;
use penstock_peer::publisher::{Publisher, PublisherConfig};
use penstock_testkit::daemon::Daemon;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Batches ahead of what the daemon has drained.
const WINDOW: u64 = 4_096;
/// Batches between two looks at clocks and windows.
const BURST: u64 = 64;
/// Sleep when nothing is due: engines publish once a step, which is rarer still.
const NAP: Duration = Duration::from_millis(2);
/// Time between two questions of how far the daemon is.
const LOOK: Duration = Duration::from_millis(5);

/// How fast.
pub enum Rate<'a> {
    /// As fast as batches come out.
    Drained(&'a Daemon),
    /// So many batches a second.
    Batches(f64),
}

/// The engines, and what they have not published yet.
pub struct Load {
    publishers: Vec<Publisher>,
    payloads: VecDeque<(usize, Bytes)>,
    sent: u64,
}

impl Load {
    /// Opens an engine for each of the stream's.
    pub fn open(stream: &Stream) -> Result<Self> {
        let context = Context::new();
        let open = |_| {
            let config = PublisherConfig {
                replay: Some("tcp://127.0.0.1:*".into()),
                ..PublisherConfig::new("tcp://127.0.0.1:*")
            };
            Ok(Publisher::open(&context, config)?)
        };
        Ok(Self {
            publishers: (0..stream.engines).map(open).collect::<Result<_>>()?,
            payloads: stream.payloads.iter().cloned().collect(),
            sent: 0,
        })
    }

    /// Stream and replay of each.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let all = self.publishers.iter();
        all.map(|publisher| (publisher.endpoint(), publisher.replay_endpoint()))
    }

    /// Answers replays.
    pub fn serve(&mut self) -> Result<()> {
        for publisher in &mut self.publishers {
            publisher.serve_replay()?;
        }
        Ok(())
    }

    /// Takes all batches of one engine, for [`one`](Self::one): looking for the next one takes
    /// longer than publishing it.
    pub fn of(&mut self, engine: usize) -> VecDeque<Bytes> {
        let (own, rest) = std::mem::take(&mut self.payloads)
            .into_iter()
            .partition(|(n, _)| *n == engine);
        self.payloads = rest;
        let own: VecDeque<(usize, Bytes)> = own;
        own.into_iter().map(|(_, payload)| payload).collect()
    }

    /// Publishes one batch of an engine; its sequence.
    pub fn one(&mut self, engine: usize, payload: Bytes) -> Result<u64> {
        Ok(self.publishers[engine].publish(payload)?.sequence)
    }

    /// Publishes up to so many batches, or for so long; how many came out.
    pub fn run(&mut self, rate: Rate<'_>, most: u64, time: Option<Duration>) -> Result<u64> {
        let (begun, first) = (Instant::now(), self.sent);
        let mut drained = (first, begun);
        let end = time.map(|time| begun + time);
        while self.sent - first < most && end.is_none_or(|end| Instant::now() < end) {
            let due = match &rate {
                Rate::Drained(daemon) => {
                    if drained.1.elapsed() >= LOOK {
                        drained = (handled(daemon), Instant::now());
                    }
                    (drained.0 + WINDOW).saturating_sub(self.sent)
                }
                Rate::Batches(rate) => {
                    let due = (begun.elapsed().as_secs_f64() * rate) as u64;
                    due.saturating_sub(self.sent - first)
                }
            };
            let due = due.min(BURST).min(most - (self.sent - first));
            for _ in 0..due {
                let (engine, payload) = self
                    .payloads
                    .pop_front()
                    .context("the payloads have run out: the machine is faster than expected")?;
                let fate = self.publishers[engine].publish(payload)?;
                ensure!(fate.sent, "a batch was not sent");
            }
            self.sent += due;
            self.serve()?;
            if due < BURST {
                std::thread::sleep(NAP);
            }
        }
        let Rate::Drained(daemon) = rate else {
            return Ok(self.sent - first);
        };
        if time.is_none() {
            // All of it is wanted.
            while handled(daemon) < self.sent {
                std::thread::sleep(LOOK);
            }
        }
        Ok(handled(daemon).saturating_sub(first))
    }
}

fn handled(daemon: &Daemon) -> u64 {
    daemon
        .plugin("prefix-index")
        .map_or(0, |plugin| plugin.batches)
}
