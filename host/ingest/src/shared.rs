//! What the threads of one [`Ingest`](crate::Ingest) share.

use crate::context::Contexts;
use crate::fetch::FetchRequest;
use crate::poll::Waker;
use crate::replay::Gate;
use crate::socket::Subscriber;
use crate::{IngestConfig, Resume, Sources};
use penstock_event::{Outlet, Pool, SourceId, SourceState};
use penstock_order::Micros;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub(crate) struct Shared {
    pub(crate) config: Arc<IngestConfig>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) contexts: Contexts,
    pub(crate) gate: Gate,
    pub(crate) pool: Pool,
    /// Fetches waiting or running.
    pub(crate) fetches: Arc<AtomicUsize>,
    pub(crate) ports: Vec<Port>,
    /// The threads are to end after the turn they are at.
    pub(crate) stopping: AtomicBool,
    /// Which thread has which source.
    owners: Mutex<HashMap<SourceId, usize>>,
    start: Instant,
}

/// The way to one thread.
pub(crate) struct Port {
    sender: Sender<Command>,
    waker: Arc<Waker>,
    lines: AtomicUsize,
    pulse: Mutex<Pulse>,
}

/// Questions and answers of [`Shared::healthy`].
#[derive(Default)]
struct Pulse {
    asked: u64,
    asked_at: Micros,
    answered: u64,
}

/// A thread that does not answer for this long is stuck.
const STUCK: Micros = 10_000_000;

pub(crate) enum Command {
    Add(Box<NewLine>),
    Remove(SourceId),
    Announced(SourceId),
    Fetch(Box<FetchRequest>),
    /// A place among the running replays, for the thread's ticket.
    Granted(u64),
    /// Are you there? To be answered with the number.
    Ping(u64),
    Stop,
}

pub(crate) struct NewLine {
    pub(crate) state: Arc<SourceState>,
    pub(crate) subscriber: Subscriber,
    pub(crate) resume: Option<Resume>,
}

/// Columns kept for reuse by all threads.
const POOLED: usize = 128;

// === impl Shared ===

impl Shared {
    pub(crate) fn new(
        config: IngestConfig,
        outlet: Arc<dyn Outlet>,
        sources: Arc<Sources>,
        ports: Vec<Port>,
    ) -> Self {
        Self {
            contexts: Contexts::new(config.sources_per_context),
            gate: Gate::new(config.replays),
            pool: Pool::new(POOLED),
            fetches: Arc::default(),
            config: Arc::new(config),
            sources,
            outlet,
            ports,
            stopping: AtomicBool::new(false),
            owners: Mutex::default(),
            start: Instant::now(),
        }
    }

    /// Time since ingest started.
    pub(crate) fn now(&self) -> Micros {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Sends a command to a thread. False when the thread has ended.
    pub(crate) fn tell(&self, thread: usize, command: Command) -> bool {
        let Some(port) = self.ports.get(thread) else {
            return false;
        };
        let sent = port.sender.send(command).is_ok();
        port.waker.wake();
        sent
    }

    /// Sends a command to the thread that has a source.
    pub(crate) fn tell_owner(&self, id: SourceId, command: Command) -> bool {
        self.owner(id)
            .is_some_and(|thread| self.tell(thread, command))
    }

    /// False when a thread has ended, or has not answered the last question for long.
    pub(crate) fn healthy(&self) -> bool {
        let now = self.now();
        let well = |(thread, port): (usize, &Port)| {
            let mut pulse = port.pulse.lock().unwrap_or_else(PoisonError::into_inner);
            if pulse.answered < pulse.asked {
                return now.saturating_sub(pulse.asked_at) < STUCK;
            }
            pulse.asked += 1;
            pulse.asked_at = now;
            let ping = Command::Ping(pulse.asked);
            drop(pulse);
            self.tell(thread, ping)
        };
        self.ports.iter().enumerate().all(well)
    }

    pub(crate) fn pong(&self, thread: usize, n: u64) {
        if let Some(port) = self.ports.get(thread) {
            let mut pulse = port.pulse.lock().unwrap_or_else(PoisonError::into_inner);
            pulse.answered = n;
        }
    }

    /// The thread with the fewest lines; it is counted as having one more.
    pub(crate) fn least_busy(&self) -> usize {
        let lines = self.ports.iter().map(|port| port.lines.load(Relaxed));
        let thread = lines.enumerate().min_by_key(|(_, lines)| *lines);
        let thread = thread.map_or(0, |(thread, _)| thread);
        self.count_line(thread, true);
        thread
    }

    pub(crate) fn count_line(&self, thread: usize, more: bool) {
        if let Some(port) = self.ports.get(thread) {
            if more {
                port.lines.fetch_add(1, Relaxed);
            } else {
                port.lines.fetch_sub(1, Relaxed);
            }
        }
    }

    pub(crate) fn owner(&self, id: SourceId) -> Option<usize> {
        self.owners().get(&id).copied()
    }

    pub(crate) fn own(&self, id: SourceId, thread: usize) {
        self.owners().insert(id, thread);
    }

    pub(crate) fn disown(&self, id: SourceId) {
        self.owners().remove(&id);
    }

    fn owners(&self) -> std::sync::MutexGuard<'_, HashMap<SourceId, usize>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Port ===

impl Port {
    pub(crate) fn new(sender: Sender<Command>, waker: Arc<Waker>) -> Self {
        Self {
            sender,
            waker,
            lines: AtomicUsize::new(0),
            pulse: Mutex::default(),
        }
    }
}
