//! Engines at work: what `penstock publish` runs.
//!
//! ```text
//!             ┌ waiting ── subscribers are there ──> publishing ── source ended ──> serving
//!  start ─────┤                                       │    ^                          │
//!             └───────── none waited for ─────────────┘    └── burst, resume ── paused ┘
//!  any ── kill ──> dead ── restart ──> as at start, with an empty cache
//! ```
//!
//! Each engine is a thread with a publisher. It publishes batches from a
//! recording or from a trace at a rate, answers replay requests all along, and
//! after its last batch until it is told to stop. Commands pause, kill and
//! restart it. What it publishes goes to a log first, so that a log read after
//! a crash knows every batch that may have been seen.
//!
//! Batches that are not sent at the high-water mark are not known here, as they
//! are not known to an engine.

mod feed;
mod log;
mod worker;

pub use feed::{Numbering, Source};
pub use log::LogEntry;

use crate::encode::Style;
use crate::faults::Faults;
use crate::publisher::{PublisherConfig, PublisherStats};
use crate::{PeerError, Result};
use bytes::Bytes;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What engines do.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The first engine's publisher; the others' ports are counted up.
    pub publisher: PublisherConfig,
    /// How many engines, in one process.
    pub engines: usize,
    /// Where batches come from.
    pub source: Source,
    /// How events of a trace are encoded.
    pub style: Style,
    /// Third element of the batches of a trace: the engine's number is added.
    pub rank: Option<u32>,
    /// Batches a second and engine. 0: as fast as it goes.
    pub rate: f64,
    /// Batches an engine publishes; none: all.
    pub batches: Option<u64>,
    /// Subscribers that must be there before the first batch.
    pub wait_subscribers: usize,
    /// How long they are waited for; none: for ever.
    pub wait_timeout: Option<Duration>,
    /// Start as after [`Command::Pause`].
    pub paused: bool,
    /// Go on answering replay requests after the last batch, until stopped.
    pub stay: bool,
    /// JSON lines of what was published, all engines in one file:
    /// [`LogEntry`].
    pub log: Option<PathBuf>,
    /// A `.frames` file of what was published, dropped batches included. With
    /// several engines `-N` goes before the extension.
    pub record: Option<PathBuf>,
}

/// What an engine may be told.
#[derive(Clone, Debug)]
pub enum Command {
    /// Publish nothing more for now; replays are still answered.
    Pause,
    /// Go on.
    Resume,
    /// Publish so many batches at once, whatever the rate, also while paused.
    Burst(u64),
    /// Close the sockets at once.
    Kill,
    /// Kill, then open the same endpoints again with nothing to replay. A
    /// trace's cache is empty then, and its requests go on.
    Restart {
        /// Sequence of the first batch.
        first_sequence: u64,
        /// Subscribers that must be there before it.
        wait_subscribers: usize,
    },
    /// Do these things wrong from now on.
    Faults(Faults),
    /// Send these frames as they are, outside the sequence.
    Raw(Vec<Bytes>),
}

/// Where an engine stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits for subscribers.
    #[default]
    Waiting,
    /// It publishes.
    Publishing,
    /// It was told to pause.
    Paused,
    /// It has published all, and answers replay requests.
    Serving,
    /// It was killed.
    Dead,
    /// It has ended.
    Ended,
}

/// How far an engine is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EngineProgress {
    /// Where it stands.
    pub state: State,
    /// Its stream, with the port that the system chose.
    pub endpoint: String,
    /// Its replay.
    pub replay_endpoint: Option<String>,
    /// Restarts so far.
    pub restarts: u32,
    /// Subscribers connected.
    pub subscribers: usize,
    /// The last batch, since its last start.
    pub last_sequence: Option<u64>,
    /// The next request of its trace.
    pub next_request: Option<u64>,
    /// Events in what it published.
    pub events: u64,
    /// Blocks stored in what it published. Unknown, and 0, for recordings.
    pub blocks: u64,
    /// What its publisher did since its last start.
    pub publisher: PublisherStats,
    /// Batches published over all its starts.
    pub batches: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Batches dropped on purpose, over all its starts.
    pub dropped: u64,
}

/// How far all engines are; when they have ended, what they did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Each engine.
    pub engines: Vec<EngineProgress>,
    /// Sums over the engines.
    pub batches: u64,
    /// As above.
    pub events: u64,
    /// As above.
    pub blocks: u64,
    /// As above.
    pub bytes: u64,
    /// As above.
    pub dropped: u64,
    /// Since the start.
    pub seconds: f64,
}

/// Engines that run.
#[derive(Debug)]
pub struct Engines {
    handles: Vec<Handle>,
    stop: Arc<AtomicBool>,
    begun: Instant,
}

#[derive(Debug)]
struct Handle {
    progress: Arc<Mutex<EngineProgress>>,
    commands: SyncSender<Command>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// Runs engines until `stop` is set, or until all have ended. `progress` is
/// called about ten times a second.
///
/// # Errors
/// The first engine's that failed; the others are stopped then.
pub fn run(
    config: EngineConfig,
    stop: &AtomicBool,
    mut progress: impl FnMut(&Summary),
) -> Result<Summary> {
    let engines = Engines::start(config)?;
    while !stop.load(Relaxed) && !engines.ended() {
        progress(&engines.progress());
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let summary = engines.stop()?;
    progress(&summary);
    Ok(summary)
}

// === impl EngineConfig ===

impl EngineConfig {
    /// One engine at `endpoint` that publishes `source` as fast as it goes and
    /// stays.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, source: Source) -> Self {
        Self {
            publisher: PublisherConfig::new(endpoint),
            engines: 1,
            source,
            style: Style::default(),
            rank: None,
            rate: 0.0,
            batches: None,
            wait_subscribers: 0,
            wait_timeout: None,
            paused: false,
            stay: true,
            log: None,
            record: None,
        }
    }
}

// === impl Engines ===

impl Engines {
    /// Starts the engines, each with a ZeroMQ context of its own. Their sockets
    /// are open when this returns.
    ///
    /// # Errors
    /// [`PeerError`] when a socket or file cannot be had; none runs then.
    pub fn start(config: EngineConfig) -> Result<Self> {
        Self::start_with(None, config)
    }

    /// As [`start`](Self::start), within a context, which `inproc` needs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_in(context: &zmq::Context, config: EngineConfig) -> Result<Self> {
        Self::start_with(Some(context), config)
    }

    fn start_with(context: Option<&zmq::Context>, config: EngineConfig) -> Result<Self> {
        if config.engines == 0 {
            return Err(PeerError::Config("engines: at least one".into()));
        }
        if !config.rate.is_finite() || config.rate < 0.0 {
            return Err(PeerError::Config(format!(
                "rate: {} is not a number of batches a second",
                config.rate
            )));
        }
        let log = config.log.as_deref().map(log::Log::create).transpose()?;
        let log = log.map(|log| Arc::new(Mutex::new(log)));
        let source = feed::Opened::open(&config)?;
        let mut engines = Self {
            handles: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            begun: Instant::now(),
        };
        let config = Arc::new(config);
        for index in 0..config.engines {
            let progress = Arc::new(Mutex::new(EngineProgress::default()));
            let (commands, inbox) = sync_channel(1_024);
            let (ready, opened) = sync_channel(1);
            let mut worker = worker::Worker {
                index,
                config: config.clone(),
                context: context.cloned(),
                feed: source.feed(index)?,
                progress: progress.clone(),
                inbox,
                stop: engines.stop.clone(),
                log: log.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("engine-{index}"))
                .spawn(move || worker.run(&ready))
                .map_err(|e| PeerError::Config(format!("no thread for engine {index}: {e}")))?;
            let handle = Handle {
                progress,
                commands,
                thread: Some(thread),
            };
            engines.handles.push(handle);
            // A worker that fails to open drops its end; its error comes by
            // joining it.
            if opened.recv().is_err() {
                engines.stop()?;
                return Err(PeerError::Panicked(index));
            }
        }
        Ok(engines)
    }

    /// Tells one engine something.
    ///
    /// # Errors
    /// [`PeerError::Config`] when there is no such engine, it has ended, or
    /// 1,024 commands wait already.
    pub fn command(&self, engine: usize, command: Command) -> Result<()> {
        let handle = self.handles.get(engine);
        let handle = handle.ok_or_else(|| PeerError::Config(format!("no engine {engine}")))?;
        handle
            .commands
            .try_send(command)
            .map_err(|e| PeerError::Config(format!("engine {engine} takes no command: {e}")))
    }

    /// How far they are.
    #[must_use]
    pub fn progress(&self) -> Summary {
        let mut all = Summary {
            seconds: self.begun.elapsed().as_secs_f64(),
            ..Summary::default()
        };
        for handle in &self.handles {
            let one = handle.progress.lock().unwrap_or_else(|e| e.into_inner());
            all.batches += one.batches;
            all.events += one.events;
            all.blocks += one.blocks;
            all.bytes += one.bytes;
            all.dropped += one.dropped;
            all.engines.push(one.clone());
        }
        all
    }

    /// Waits until `condition` holds of the progress; false when `timeout`
    /// passed first, or an engine has ended meanwhile.
    #[must_use]
    pub fn wait(&self, timeout: Duration, condition: impl Fn(&Summary) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if condition(&self.progress()) {
                return true;
            }
            if Instant::now() >= deadline || self.ended() {
                return condition(&self.progress());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// True when every engine has ended, or one has failed.
    #[must_use]
    pub fn ended(&self) -> bool {
        let ended = |h: &Handle| h.thread.as_ref().is_none_or(JoinHandle::is_finished);
        let failed = |h: &Handle| {
            let progress = h.progress.lock().unwrap_or_else(|e| e.into_inner());
            ended(h) && progress.state != State::Ended
        };
        self.handles.iter().all(ended) || self.handles.iter().any(failed)
    }

    /// Stops all, and says what they did. Takes as long as the publishers'
    /// linger at most.
    ///
    /// # Errors
    /// The first that an engine failed with.
    pub fn stop(mut self) -> Result<Summary> {
        let mut result = Ok(());
        self.stop.store(true, Relaxed);
        for (index, handle) in self.handles.iter_mut().enumerate() {
            let Some(thread) = handle.thread.take() else {
                continue;
            };
            let ended = thread.join().unwrap_or(Err(PeerError::Panicked(index)));
            result = result.and(ended);
        }
        result.map(|()| self.progress())
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        // Threads end by themselves then; nobody waits for them.
        self.stop.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests;
