//! Sockets of the engines to ordered, decoded batches.
//!
//! ```text
//!  engine PUB ──> SUB ──┐                        ┌─ StartReplay ─> DEALER ──> engine ROUTER
//!                       ├─> order machine ───────┤
//!  monitor (connects) ──┘   (one a source)       └─ Deliver ─> decode ─> Outlet (the router)
//! ```
//!
//! A few threads own all sockets, each waiting with epoll; the order machine and
//! the decoder run on them too, so a batch meets no queue before the router.
//!
//! Guarantees, for each source:
//! - [`Change::Joined`] comes first, [`Change::Left`] last; in between, every
//!   sequence number arrives exactly once and in order, or within a reported gap.
//! - A source that a checkpoint knows ([`Sources::resume_from`]) goes on behind it, with
//!   nothing delivered before its engine has shown that it is the same; or is reset.
//! - A socket is always read, whoever is slow behind it, and no publisher keeps
//!   another one waiting for more than a turn.
//! - Bad messages cost themselves, never the source. Everything left out is counted
//!   with its reason.
//!
//! It does not know plugins, lanes or discovery, and it keeps no payload once it is
//! delivered.
//!
//! [`Change::Joined`]: penstock_event::Change::Joined
//! [`Change::Left`]: penstock_event::Change::Left

mod batch;
mod config;
mod context;
mod endpoint;
mod error;
mod fetch;
mod frame;
mod hints;
mod limits;
mod line;
mod meters;
mod peers;
mod poll;
mod registry;
mod replay;
mod replays;
mod resume;
mod sabotage;
mod shared;
mod slab;
mod socket;
mod source;
#[cfg(test)]
mod testing;
mod thread;
mod timers;

pub use batch::{BatchMaker, Undecoded};
pub use config::{IngestConfig, Keepalive};
pub use endpoint::{EndpointError, check_endpoint, with_rank};
pub use error::IngestError;
pub use fetch::{FetchItem, FetchTaker};
pub use hints::overlaps;
pub use limits::raise_descriptor_limit;
pub use registry::Sources;
pub use resume::Resume;
pub use sabotage::Sabotage;

use crate::fetch::{FetchRequest, Taker};
use crate::poll::{Poller, Waker};
use crate::resume::set_out;
use crate::shared::{Command, NewLine, Port, Shared};
use crate::socket::Subscriber;
use crate::thread::Thread;
use penstock_event::{Mode, Outlet, Sequence, SourceId, SourceSpec, SourceState};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The threads and their sockets. Dropping it stops them without waiting.
pub struct Ingest {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Its senders live in the threads: disconnected means all have ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

/// How long [`Ingest::quiet`] waits.
const QUIET: Duration = Duration::from_millis(500);

// === impl Ingest ===

impl Ingest {
    /// Starts the threads. Sources are added later.
    ///
    /// # Errors
    /// [`IngestError::Thread`]: no thread or no descriptor to be had.
    pub fn start(
        config: IngestConfig,
        outlet: Arc<dyn Outlet>,
        sources: Arc<Sources>,
    ) -> Result<Self, IngestError> {
        if let Some(fault) = config.sabotage {
            tracing::error!(
                fault = fault.name(),
                "a fault was switched on; data will be wrong"
            );
        }
        let mut ports = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..config.threads.clamp(1, 64) {
            let waker = Arc::new(Waker::new().map_err(IngestError::Thread)?);
            let poller = Poller::new(&waker).map_err(IngestError::Thread)?;
            let (sender, receiver) = mpsc::channel();
            ports.push(Port::new(sender, waker.clone()));
            ends.push((poller, receiver, waker));
        }
        let shared = Arc::new(Shared::new(config, outlet, sources, ports));
        let (running, ended) = mpsc::channel();
        let ingest = Self {
            shared,
            threads: Mutex::default(),
            ended: Mutex::new(ended),
        };
        for (index, (poller, receiver, waker)) in ends.into_iter().enumerate() {
            let thread = Thread::new(index, ingest.shared.clone(), poller, receiver, waker);
            let running = running.clone();
            let handle = std::thread::Builder::new()
                .name(format!("ingest-{index}"))
                .spawn(move || {
                    let _running = running;
                    thread.run();
                })
                .map_err(IngestError::Thread)?;
            ingest.threads().push(handle);
        }
        Ok(ingest)
    }

    /// Adds a source: its endpoints are checked and its socket opened before this
    /// returns. Either side may start first. With [`Mode::Bind`] the state returned
    /// is the bound socket's; its sources are learnt from their topics. Where
    /// [`Sources::resume_from`] has a point for it, the source goes on there.
    ///
    /// # Errors
    /// A wrong endpoint, a name that is taken, or a socket that libzmq refuses.
    pub fn add(&self, mut spec: SourceSpec) -> Result<Arc<SourceState>, IngestError> {
        let name = spec.name();
        let wrong = |cause| IngestError::Endpoint {
            name: name.clone(),
            cause,
        };
        if spec.endpoints.is_empty() {
            return Err(IngestError::NoEndpoint { name });
        }
        for endpoint in &mut spec.endpoints {
            *endpoint = check_endpoint(endpoint, spec.mode).map_err(wrong)?;
        }
        if let Some(replay) = &mut spec.replay {
            *replay = check_endpoint(replay, Mode::Connect).map_err(wrong)?;
        }
        line::warn_of_overlaps(&spec, &self.shared.sources);
        let listener = spec.mode == Mode::Bind;
        let state = self.shared.sources.register(spec, listener)?;
        let id = state.info.id;
        let opened = Subscriber::open(&state.info, &self.shared.contexts, &self.shared.config);
        let subscriber = match opened {
            Ok(subscriber) => subscriber,
            Err(error) => {
                self.shared.sources.forget(id);
                return Err(error);
            }
        };
        let thread = self.shared.least_busy();
        self.shared.own(id, thread);
        let resume = match listener {
            true => None,
            false => set_out(&state, &self.shared.sources),
        };
        let new = NewLine {
            state: state.clone(),
            subscriber,
            resume,
        };
        if !self.shared.tell(thread, Command::Add(Box::new(new))) {
            self.shared.disown(id);
            self.shared.sources.forget(id);
            return Err(IngestError::Stopped);
        }
        Ok(state)
    }

    /// Removes a source, or a bound socket with all its sources. Its name is free
    /// at once; `Left` is delivered by its thread soon after.
    pub fn remove(&self, id: SourceId) {
        self.shared.sources.retire(id);
        self.shared.tell_owner(id, Command::Remove(id));
    }

    /// Discovery says that the engine of this source is a new one.
    pub fn announce(&self, id: SourceId) {
        self.shared.tell_owner(id, Command::Announced(id));
    }

    /// Asks the engine of a source for `from..=to` of the running epoch, outside the
    /// ordered stream. It ends early when nothing more comes within the replay wait,
    /// when the connection is lost or the engine restarts, and at once when the
    /// source has no replay endpoint or too many fetches run.
    pub fn fetch(&self, id: SourceId, from: Sequence, to: Sequence, done: FetchTaker) {
        let running = self.shared.fetches.clone();
        let before = running.fetch_add(1, Relaxed);
        let over = Box::new(move || {
            running.fetch_sub(1, Relaxed);
        });
        let taker = Taker::new(done, over);
        if before >= self.shared.config.fetches {
            metrics::counter!("penstock_ingest_fetches_refused_total").increment(1);
            return;
        }
        let request = FetchRequest {
            source: id,
            from,
            to,
            taker,
        };
        self.shared
            .tell_owner(id, Command::Fetch(Box::new(request)));
    }

    /// The context of all `inproc://` endpoints, for publishers in this process.
    #[must_use]
    pub fn inproc_context(&self) -> zmq::Context {
        self.shared.contexts.inproc().clone()
    }

    /// The sources.
    #[must_use]
    pub fn sources(&self) -> &Arc<Sources> {
        &self.shared.sources
    }

    /// True while the loops turn: each thread runs, and none has left a question
    /// unanswered for 10 s. To be asked now and then; it does not wait.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.shared.healthy()
    }

    /// Stops reading and ends the threads; at `deadline` those that have not ended
    /// are left behind. Sources do not leave: the plugins keep what they know.
    pub fn shutdown(self, deadline: Instant) {
        self.end(deadline);
    }

    /// As [`Ingest::shutdown`], for those who share it: nothing is delivered after
    /// this returns, unless a thread is stuck for more than 500 ms. Calls after it
    /// find no thread: sources are refused, fetches end at once.
    pub fn quiet(&self) {
        self.end(Instant::now() + QUIET);
    }

    fn end(&self, deadline: Instant) {
        self.stop();
        let patience = deadline.saturating_duration_since(Instant::now());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: only the end of the last thread ends the wait early.
        if ended.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("ingest threads did not end in time");
            return;
        }
        for thread in self.threads().drain(..) {
            if thread.join().is_err() {
                tracing::error!("an ingest thread had panicked");
            }
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.shared.stopping.store(true, Relaxed);
        for thread in 0..self.shared.ports.len() {
            self.shared.tell(thread, Command::Stop);
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.stop();
    }
}
