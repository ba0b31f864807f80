//! The engines of the whole path: publishers on threads of this process, which
//! send payloads made before as fast as the other side handles them, which is at
//! most [`WINDOW`] behind. Without that bound most of the time would go into
//! memory for what waits, and into getting it from the system.

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use penstock_peer::Context;
use penstock_peer::endpoint::Side;
use penstock_peer::publisher::{Publisher, PublisherConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where an engine is.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Its stream.
    pub stream: String,
    /// Its replay.
    pub replay: String,
}

/// Engines that wait, publish, and then answer replays until they are stopped.
pub struct Publishers {
    /// Where they are.
    pub endpoints: Vec<Endpoints>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    subscribed: AtomicUsize,
    /// Messages of all that have been handled.
    handled: AtomicU64,
    /// Messages of all that have been sent.
    sent: AtomicU64,
    go: AtomicBool,
    stop: AtomicBool,
}

/// Messages sent and not yet handled, at most.
pub const WINDOW: u64 = 8_192;

/// Batches between two looks at the replay socket and at the window.
const BURST: usize = 64;

const ANY: &str = "tcp://127.0.0.1:*";

// === impl Publishers ===

impl Publishers {
    /// Opens one publisher for each list of payloads.
    pub fn open(engines: &[Arc<Vec<Bytes>>]) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (mut endpoints, mut threads) = (Vec::new(), Vec::new());
        for payloads in engines {
            let (opened, open) = channel();
            let (payloads, shared) = (payloads.clone(), shared.clone());
            threads.push(std::thread::spawn(move || {
                work(&payloads, &shared, &opened)
            }));
            endpoints.push(open.recv().context("a publisher did not open")?);
        }
        Ok(Self {
            endpoints,
            shared,
            threads,
        })
    }

    /// True once each has a subscriber.
    pub fn subscribed(&self) -> bool {
        self.shared.subscribed.load(Relaxed) == self.threads.len()
    }

    /// Starts publishing.
    pub fn go(&self) -> Instant {
        let begun = Instant::now();
        self.shared.go.store(true, Relaxed);
        begun
    }

    /// So many messages of all have been handled: more may follow.
    pub fn handled(&self, messages: u64) {
        self.shared.handled.store(messages, Relaxed);
    }

    /// Ends them.
    pub fn stop(mut self) -> Result<()> {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            thread
                .join()
                .map_err(|_| anyhow!("a publisher panicked"))??;
        }
        Ok(())
    }
}

impl Drop for Publishers {
    fn drop(&mut self) {
        // They end by themselves then; nobody waits.
        self.shared.stop.store(true, Relaxed);
    }
}

fn work(payloads: &[Bytes], shared: &Shared, opened: &Sender<Endpoints>) -> Result<()> {
    let context = Context::new();
    let mut publisher = Publisher::open(
        &context,
        PublisherConfig {
            side: Side::Bind,
            replay: Some(ANY.into()),
            // Room for all: a drop at the high-water mark would be repaired by
            // replay, and that is not what is measured here.
            hwm: i32::try_from(payloads.len() + 1_000)?,
            buffer_batches: payloads.len(),
            linger: Duration::ZERO,
            ..PublisherConfig::new(ANY)
        },
    )?;
    let endpoints = Endpoints {
        stream: publisher.endpoint().into(),
        replay: publisher.replay_endpoint().unwrap_or_default().into(),
    };
    opened
        .send(endpoints)
        .context("nobody waits for the publisher")?;
    while publisher.subscribers()? == 0 {
        if shared.stop.load(Relaxed) {
            return Ok(());
        }
        publisher.wait(Duration::from_millis(5))?;
    }
    shared.subscribed.fetch_add(1, Relaxed);
    while !shared.go.load(Relaxed) {
        if shared.stop.load(Relaxed) {
            return Ok(());
        }
        publisher.wait(Duration::from_millis(1))?;
    }
    for burst in payloads.chunks(BURST) {
        while shared.sent.load(Relaxed) >= shared.handled.load(Relaxed) + WINDOW {
            if shared.stop.load(Relaxed) {
                return Ok(());
            }
            publisher.wait(Duration::from_millis(1))?;
        }
        shared.sent.fetch_add(burst.len() as u64, Relaxed);
        for payload in burst {
            let fate = publisher.publish(payload.clone())?;
            ensure!(fate.sent, "a batch was not sent");
        }
        publisher.serve_replay()?;
    }
    while !shared.stop.load(Relaxed) {
        publisher.wait(Duration::from_millis(20))?;
    }
    Ok(())
}
