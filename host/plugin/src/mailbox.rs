//! What a runner is asked from other threads: lookups, requests, a swap, the
//! end. Bounded: what does not fit is answered `Busy` at once.

use crate::Role;
use crate::handover::Moved;
use crate::reply::Reply;
use bytes::Bytes;
use penstock_event::{Answer, LookupError, Query};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Thread;
use std::time::Instant;

/// A lookup on its way.
pub(crate) struct Lookup {
    pub(crate) query: Query,
    /// When nobody waits for the answer any more.
    pub(crate) expires: Instant,
    pub(crate) reply: Reply<Result<Answer, LookupError>>,
}

/// A request in the plugin's own form.
pub(crate) struct Request {
    pub(crate) body: Bytes,
    pub(crate) expires: Instant,
    pub(crate) reply: Reply<Result<Vec<u8>, LookupError>>,
}

pub(crate) struct Mailbox {
    queues: Mutex<Queues>,
    lookups: AtomicUsize,
    /// Anything at all that is not a lookup.
    other: AtomicBool,
    thread: Mutex<Option<Thread>>,
    max_lookups: usize,
}

#[derive(Default)]
struct Queues {
    lookups: VecDeque<Lookup>,
    requests: VecDeque<Request>,
    roles: VecDeque<(Role, Reply<()>)>,
    /// The runner is to end, and may empty its feed until then.
    stop: Option<Instant>,
    revive: bool,
    handovers: VecDeque<SyncSender<Moved>>,
    /// Ends the running call of the instance that runs.
    cut: Option<Arc<AtomicBool>>,
    closed: bool,
}

/// Requests that may wait; they are rare and may be large.
const MAX_REQUESTS: usize = 64;

// === impl Mailbox ===

impl Mailbox {
    pub(crate) fn new(max_lookups: usize) -> Self {
        Self {
            queues: Mutex::default(),
            lookups: AtomicUsize::new(0),
            other: AtomicBool::new(false),
            thread: Mutex::default(),
            max_lookups,
        }
    }

    /// Called by each thread that runs the instance from then on.
    pub(crate) fn attach(&self, thread: Thread) {
        *self.thread.lock().unwrap_or_else(|e| e.into_inner()) = Some(thread);
    }

    pub(crate) fn ask(&self, lookup: Lookup) {
        let mut queues = self.lock();
        if queues.closed {
            return; // The reply says so when it is dropped.
        }
        if queues.lookups.len() >= self.max_lookups {
            drop(queues);
            lookup.reply.send(Err(LookupError::Busy));
            return;
        }
        queues.lookups.push_back(lookup);
        self.lookups.store(queues.lookups.len(), SeqCst);
        drop(queues);
        self.wake();
    }

    pub(crate) fn request(&self, request: Request) {
        let mut queues = self.lock();
        if queues.closed {
            return;
        }
        if queues.requests.len() >= MAX_REQUESTS {
            drop(queues);
            request.reply.send(Err(LookupError::Busy));
            return;
        }
        queues.requests.push_back(request);
        self.other(queues);
    }

    /// Roles are taken up in their order.
    pub(crate) fn role(&self, role: Role, taken: Reply<()>) {
        let mut queues = self.lock();
        if queues.closed {
            return;
        }
        queues.roles.push_back((role, taken));
        self.other(queues);
    }

    /// One after the other.
    pub(crate) fn hand_over(&self, out: SyncSender<Moved>) {
        let mut queues = self.lock();
        if queues.closed {
            return;
        }
        queues.handovers.push_back(out);
        self.other(queues);
    }

    pub(crate) fn revive(&self) {
        let mut queues = self.lock();
        queues.revive = true;
        self.other(queues);
    }

    pub(crate) fn stop(&self, drain_until: Instant) {
        let mut queues = self.lock();
        queues.stop = Some(drain_until);
        self.other(queues);
    }

    /// Called by the runner's thread for each set-up that it runs.
    pub(crate) fn runs(&self, cut: Arc<AtomicBool>) {
        self.lock().cut = Some(cut);
    }

    /// Ends the call that runs.
    pub(crate) fn cut(&self) {
        if let Some(cut) = &self.lock().cut {
            cut.store(true, Relaxed);
        }
    }

    /// Lookups that wait, without a lock.
    pub(crate) fn lookups(&self) -> usize {
        self.lookups.load(Relaxed)
    }

    pub(crate) fn next_lookup(&self) -> Option<Lookup> {
        if self.lookups() == 0 {
            return None;
        }
        let mut queues = self.lock();
        let lookup = queues.lookups.pop_front();
        self.lookups.store(queues.lookups.len(), SeqCst);
        lookup
    }

    /// Whatever waits beside lookups, without a lock when nothing does.
    pub(crate) fn next_other(&self) -> Option<Other> {
        if !self.other.load(Relaxed) {
            return None;
        }
        let mut queues = self.lock();
        if let Some(until) = queues.stop {
            return Some(Other::Stop(until));
        }
        if std::mem::take(&mut queues.revive) {
            return Some(Other::Revive);
        }
        if let Some((role, taken)) = queues.roles.pop_front() {
            return Some(Other::Role(role, taken));
        }
        if let Some(out) = queues.handovers.pop_front() {
            return Some(Other::HandOver(out));
        }
        let request = queues.requests.pop_front().map(Other::Request);
        if queues.requests.is_empty() {
            self.other.store(false, SeqCst);
        }
        request
    }

    /// Nothing is taken from now on; what waits is answered as lost.
    pub(crate) fn close(&self) {
        let mut queues = self.lock();
        queues.closed = true;
        self.lookups.store(0, SeqCst);
        let rest = (
            std::mem::take(&mut queues.lookups),
            std::mem::take(&mut queues.requests),
            std::mem::take(&mut queues.roles),
            std::mem::take(&mut queues.handovers),
        );
        drop(queues);
        drop(rest);
    }

    fn other(&self, queues: MutexGuard<'_, Queues>) {
        self.other.store(true, SeqCst);
        drop(queues);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = &*self.thread.lock().unwrap_or_else(|e| e.into_inner()) {
            thread.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What waits beside lookups, the most urgent first.
pub(crate) enum Other {
    Stop(Instant),
    Role(Role, Reply<()>),
    Revive,
    HandOver(SyncSender<Moved>),
    Request(Request),
}
