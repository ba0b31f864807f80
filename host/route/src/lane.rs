//! One plugin instance's queue: items pushed by ingest, calls by everyone else.

use crate::catchup::Detached;
use crate::{Budget, Fetch, Filter};
use penstock_decode::{Decoder, Limits};
use penstock_event::{Change, ColumnSet, Item, Pool};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What happens to a source when its lane is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The source detaches and is read from its ring later. Nothing is lost that
    /// the ring or the engine still holds.
    #[default]
    CatchUp,
    /// The batch becomes a gap of this lane.
    Drop,
}

/// One lane's settings.
#[derive(Clone, Debug)]
pub struct LaneConfig {
    /// The plugin's name.
    pub name: Arc<str>,
    /// Sources wanted.
    pub filter: Filter,
    /// Columns wanted.
    pub columns: ColumnSet,
    /// Bytes the lane may hold.
    pub bytes: usize,
    /// Calls that may wait.
    pub calls: usize,
    /// What to do when it is full.
    pub when_full: WhenFull,
}

/// What a lane's thread does next.
pub enum Next<C> {
    /// Hand this to the plugin.
    Item(Item),
    /// Answer this.
    Call(C),
    /// Nothing came in time.
    Idle,
    /// The lane is closed and empty.
    Closed,
}

/// A lane at a glance.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LaneStatus {
    /// Items queued.
    pub items: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Calls queued.
    pub calls: usize,
    /// Sources that are catching up.
    pub detached: usize,
    /// Times a source detached because the lane was full.
    pub detaches: u64,
    /// Batches turned into gaps because the lane was full.
    pub dropped: u64,
    /// Batches that neither ring nor engine held any more.
    pub missed: u64,
}

/// One plugin instance's queue, bounded in bytes. One thread takes from it.
pub struct Lane<C> {
    pub(crate) config: LaneConfig,
    pub(crate) budget: Arc<Budget>,
    pub(crate) fetch: Arc<dyn Fetch>,
    pub(crate) counts: Counts,
    inner: Mutex<Inner<C>>,
    wake: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub detaches: AtomicU64,
    pub dropped: AtomicU64,
    pub missed: AtomicU64,
}

struct Inner<C> {
    queue: VecDeque<(Item, usize)>,
    bytes: usize,
    /// Items ever queued and ever taken: which came before a source detached.
    pushed: u64,
    popped: u64,
    calls: VecDeque<C>,
    /// Sources to be read from their rings, in turn.
    detached: VecDeque<Detached<C>>,
    /// What the current turn of catching up brought, before anything queued.
    caught: VecDeque<Item>,
    catching: usize,
    decoder: Option<Box<Decode>>,
    waiting: bool,
    closed: bool,
    generation: u64,
}

/// The lane's own decoder, for batches read from rings.
pub(crate) struct Decode {
    pub decoder: Decoder,
    pub pool: Pool,
}

impl<C: Send + 'static> Lane<C> {
    pub(crate) fn new(
        config: LaneConfig,
        budget: Arc<Budget>,
        fetch: Arc<dyn Fetch>,
        limits: Limits,
    ) -> Self {
        let decoder = Box::new(Decode {
            decoder: Decoder::new(limits),
            pool: Pool::new(16),
        });
        Self {
            config,
            budget,
            fetch,
            counts: Counts::default(),
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                bytes: 0,
                pushed: 0,
                popped: 0,
                calls: VecDeque::new(),
                detached: VecDeque::new(),
                caught: VecDeque::new(),
                catching: 0,
                decoder: Some(decoder),
                waiting: false,
                closed: false,
                generation: 0,
            }),
            wake: Condvar::new(),
        }
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// A glance.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        let inner = self.lock();
        LaneStatus {
            items: inner.queue.len() + inner.caught.len(),
            bytes: inner.bytes,
            calls: inner.calls.len(),
            detached: inner.detached.len() + inner.catching,
            detaches: self.counts.detaches.load(Relaxed),
            dropped: self.counts.dropped.load(Relaxed),
            missed: self.counts.missed.load(Relaxed),
        }
    }

    /// Queues a call.
    ///
    /// # Errors
    /// Gives the call back when too many wait or the lane is closed.
    pub fn call(&self, call: C) -> Result<(), C> {
        let mut inner = self.lock();
        if inner.closed || inner.calls.len() >= self.config.calls {
            return Err(call);
        }
        inner.calls.push_back(call);
        self.notify(inner);
        Ok(())
    }

    /// Queues a call that must not be refused: swaps, not lookups.
    pub fn command(&self, call: C) {
        let mut inner = self.lock();
        inner.calls.push_front(call);
        self.notify(inner);
    }

    /// What to do next, waiting up to `wait`. With `calls` false, a waiting batch
    /// comes before a waiting call; with true, the call comes first.
    pub fn next(&self, wait: Duration, calls: bool) -> Next<C> {
        let until = Instant::now() + wait;
        let mut inner = self.lock();
        loop {
            if calls && let Some(call) = inner.calls.pop_front() {
                return Next::Call(call);
            }
            if let Some(item) = inner.caught.pop_front() {
                return Next::Item(item);
            }
            if let Some(at) = self.may_catch_up(&inner)
                && let Some(detached) = inner.detached.remove(at)
            {
                inner.catching += 1;
                let generation = inner.generation;
                let decode = inner.decoder.take();
                drop(inner);
                inner = self.catch_up(detached, generation, decode);
                continue;
            }
            if let Some((item, bytes)) = inner.queue.pop_front() {
                inner.bytes -= bytes;
                inner.popped += 1;
                self.budget.give(bytes);
                return Next::Item(item);
            }
            if let Some(call) = inner.calls.pop_front() {
                return Next::Call(call);
            }
            if inner.closed {
                return Next::Closed;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Idle;
            }
            inner.waiting = true;
            inner = self
                .wake
                .wait_timeout(inner, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
            inner.waiting = false;
        }
    }

    /// No more items or calls come in; what is queued can still be taken.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        self.notify(inner);
    }

    /// Bytes queued right now.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.lock().bytes
    }

    /// True while a source reads from its ring or items wait.
    #[must_use]
    pub fn behind(&self) -> bool {
        let inner = self.lock();
        inner.detached.iter().any(Detached::has_news)
            || inner.catching > 0
            || !inner.queue.is_empty()
            || !inner.caught.is_empty()
    }

    /// The next source to read from its ring. It waits until the lane is half
    /// drained, so that it does not detach again at once, and until everything
    /// queued before it detached was taken, so that order holds.
    fn may_catch_up(&self, inner: &Inner<C>) -> Option<usize> {
        if inner.bytes > self.config.bytes / 2 {
            return None;
        }
        let popped = inner.popped;
        inner.detached.iter().position(|d| d.has_work(popped))
    }

    fn catch_up(
        &self,
        mut detached: Detached<C>,
        generation: u64,
        mut decode: Option<Box<Decode>>,
    ) -> MutexGuard<'_, Inner<C>> {
        let mut caught = VecDeque::new();
        let stay = match decode.as_deref_mut() {
            Some(decode) => detached.turn(self, decode, &mut caught),
            None => true,
        };
        let mut inner = self.lock();
        inner.decoder = decode;
        inner.catching -= 1;
        if inner.generation == generation {
            inner.caught.append(&mut caught);
            if stay {
                inner.detached.push_back(detached);
            }
        }
        inner
    }

    // What the router does.

    /// Queues an item unless the lane is full.
    pub(crate) fn push(&self, item: &Item, bytes: usize) -> bool {
        let inner = self.lock();
        if inner.closed {
            return true;
        }
        if inner.bytes + bytes > self.config.bytes || !self.budget.take(bytes) {
            return false;
        }
        self.queue(inner, item.clone(), bytes);
        true
    }

    /// Queues a change, full or not: changes are small and few.
    pub(crate) fn push_change(&self, change: Change) {
        let inner = self.lock();
        if inner.closed {
            return;
        }
        let bytes = std::mem::size_of::<Item>();
        self.budget.force(bytes);
        self.queue(inner, Item::Change(change), bytes);
    }

    fn queue(&self, mut inner: MutexGuard<'_, Inner<C>>, item: Item, bytes: usize) {
        inner.bytes += bytes;
        inner.pushed += 1;
        inner.queue.push_back((item, bytes));
        self.notify(inner);
    }

    pub(crate) fn detach(&self, mut detached: Detached<C>) {
        let mut inner = self.lock();
        detached.after = inner.pushed;
        inner.detached.push_back(detached);
        self.notify(inner);
    }

    /// Forgets everything queued, for an instance that starts anew.
    pub(crate) fn forget(&self) {
        let mut inner = self.lock();
        let bytes = inner.bytes;
        inner.queue.clear();
        inner.caught.clear();
        inner.detached.clear();
        inner.bytes = 0;
        inner.popped = inner.pushed;
        inner.generation += 1;
        self.budget.give(bytes);
    }

    /// Wakes the lane's thread: a fetch brought something.
    pub(crate) fn nudge(&self) {
        let inner = self.lock();
        self.notify(inner);
    }

    fn notify(&self, inner: MutexGuard<'_, Inner<C>>) {
        let waiting = inner.waiting;
        drop(inner);
        if waiting {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C>> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl<C> Drop for Lane<C> {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(|e| e.into_inner());
        let bytes = inner.bytes;
        self.budget.give(bytes);
    }
}
