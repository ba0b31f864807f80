//! One plugin instance's queue: items pushed by ingest, taken by one thread.

use crate::catchup::Detached;
use crate::reader::Told;
use crate::{Budget, Fetch, Filter};
use penstock_decode::{Decoder, Limits};
use penstock_event::{Change, ColumnSet, Item, Pool, Position, SourceId};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Thread;

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
    /// What to do when it is full.
    pub when_full: WhenFull,
}

/// A lane at a glance.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LaneStatus {
    /// Items queued.
    pub items: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Sources that are catching up. Those that wait for their engine to show that it
    /// is a checkpoint's do not count.
    pub detached: usize,
    /// Times a source detached because the lane was full.
    pub detaches: u64,
    /// Batches turned into gaps because the lane was full.
    pub dropped: u64,
    /// Batches that neither ring nor engine held any more.
    pub missed: u64,
}

/// One plugin instance's queue, bounded in bytes. One thread takes from it.
pub struct Lane {
    pub(crate) config: LaneConfig,
    pub(crate) budget: Arc<Budget>,
    pub(crate) fetch: Arc<dyn Fetch>,
    pub(crate) counts: Counts,
    inner: Mutex<Inner>,
    thread: Mutex<Option<Thread>>,
    /// The thread looks again by itself, soon.
    resting: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub detaches: AtomicU64,
    pub dropped: AtomicU64,
    pub missed: AtomicU64,
}

/// Where a source's reader must go back to, so that an item comes again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The item's offset in the ring.
    pub offset: u64,
    /// What the lane had been told before it.
    pub before: Told,
}

/// An item on its way.
pub(crate) struct Queued {
    pub item: Item,
    pub bytes: usize,
    pub place: Place,
}

struct Inner {
    queue: VecDeque<Queued>,
    bytes: usize,
    /// Items ever queued and ever taken: which came before a source detached.
    pushed: u64,
    popped: u64,
    /// Sources to be read from their rings, in turn.
    detached: VecDeque<Detached>,
    /// What the current turn of catching up brought, before anything queued.
    caught: VecDeque<Queued>,
    /// Taken and not done yet.
    taken: Option<(SourceId, Place)>,
    /// Taken, and waiting with the taker: where the first of each source was.
    parked: HashMap<SourceId, Place>,
    catching: usize,
    decoder: Option<Box<Decode>>,
    closed: bool,
    generation: u64,
}

/// The lane's own decoder, for batches read from rings.
pub(crate) struct Decode {
    pub decoder: Decoder,
    pub pool: Pool,
}

impl Decode {
    pub fn new(limits: Limits) -> Self {
        Self {
            decoder: Decoder::new(limits),
            pool: Pool::new(16),
        }
    }
}

impl Lane {
    pub(crate) fn new(
        config: LaneConfig,
        budget: Arc<Budget>,
        fetch: Arc<dyn Fetch>,
        limits: Limits,
    ) -> Self {
        let decoder = Box::new(Decode::new(limits));
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
                detached: VecDeque::new(),
                caught: VecDeque::new(),
                taken: None,
                parked: HashMap::new(),
                catching: 0,
                decoder: Some(decoder),
                closed: false,
                generation: 0,
            }),
            thread: Mutex::default(),
            resting: AtomicBool::new(false),
        }
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// The thread that takes from now on: it is unparked when something comes.
    pub fn attach(&self, thread: Thread) {
        *self.thread.lock().unwrap_or_else(|e| e.into_inner()) = Some(thread);
    }

    /// The thread need not be unparked (true), or must be again. It looks for items
    /// after each change.
    pub fn rest(&self, rests: bool) {
        self.resting.store(rests, Relaxed);
    }

    /// A glance.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        let inner = self.lock();
        LaneStatus {
            items: inner.queue.len() + inner.caught.len(),
            bytes: inner.bytes,
            detached: inner.detached.iter().filter(|d| !d.rests()).count() + inner.catching,
            detaches: self.counts.detaches.load(Relaxed),
            dropped: self.counts.dropped.load(Relaxed),
            missed: self.counts.missed.load(Relaxed),
        }
    }

    /// The next item, if there is one. Reads rings of sources that catch up.
    pub fn next(&self) -> Option<Item> {
        let mut inner = self.lock();
        loop {
            if let Some(queued) = inner.caught.pop_front() {
                return Some(inner.take(queued));
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
            let queued = inner.queue.pop_front()?;
            inner.bytes -= queued.bytes;
            inner.popped += 1;
            self.budget.give(queued.bytes);
            return Some(inner.take(queued));
        }
    }

    /// The item taken last was handled: it does not come again.
    pub fn done(&self) {
        self.lock().taken = None;
    }

    /// The item taken last waits with the taker, until [`unpark`](Self::unpark).
    pub fn park(&self) {
        let mut inner = self.lock();
        if let Some((source, place)) = inner.taken.take() {
            inner.parked.entry(source).or_insert(place);
        }
    }

    /// No item of a source waits with the taker any more.
    pub fn unpark(&self, source: SourceId) {
        self.lock().parked.remove(&source);
    }

    /// Nothing more comes in; what is queued can still be taken.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let detached = std::mem::take(&mut inner.detached);
        drop(inner);
        // They let go of their sources, whose locks come before this one.
        drop(detached);
        self.nudge();
    }

    /// Bytes queued right now.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.lock().bytes
    }

    /// True while a source reads from its ring, or items wait or are being handled.
    #[must_use]
    pub fn behind(&self) -> bool {
        let inner = self.lock();
        inner.taken.is_some()
            || inner.detached.iter().any(Detached::has_news)
            || inner.catching > 0
            || !inner.queue.is_empty()
            || !inner.caught.is_empty()
    }

    /// The next source to read from its ring. It waits until the lane is half
    /// drained, so that it does not detach again at once, and until everything
    /// queued before it detached was taken, so that order holds.
    fn may_catch_up(&self, inner: &Inner) -> Option<usize> {
        if inner.bytes > self.config.bytes / 2 {
            return None;
        }
        let popped = inner.popped;
        inner.detached.iter().position(|d| d.has_work(popped))
    }

    fn catch_up(
        &self,
        mut detached: Detached,
        generation: u64,
        mut decode: Option<Box<Decode>>,
    ) -> MutexGuard<'_, Inner> {
        let mut caught = VecDeque::new();
        let stay = match decode.as_deref_mut() {
            Some(decode) => detached.turn(self, decode, &mut caught),
            None => true,
        };
        let mut inner = self.lock();
        inner.decoder = decode;
        inner.catching -= 1;
        let current = inner.generation == generation;
        if current {
            inner.caught.append(&mut caught);
        }
        if current && stay {
            inner.detached.push_back(detached);
            return inner;
        }
        drop(inner);
        // It lets go of its source, whose lock comes before this one.
        drop(detached);
        self.lock()
    }

    // What the router does.

    /// Queues an item unless the lane is full.
    pub(crate) fn push(&self, item: &Item, bytes: usize, place: Place) -> bool {
        let inner = self.lock();
        if inner.closed {
            return true;
        }
        if inner.bytes + bytes > self.config.bytes || !self.budget.take(bytes) {
            return false;
        }
        let item = item.clone();
        self.queue(inner, Queued { item, bytes, place });
        true
    }

    /// Queues a change, full or not: changes are small and few.
    pub(crate) fn push_change(&self, change: Change, place: Place) {
        let inner = self.lock();
        if inner.closed {
            return;
        }
        let bytes = std::mem::size_of::<Item>();
        self.budget.force(bytes);
        let item = Item::Change(change);
        self.queue(inner, Queued { item, bytes, place });
    }

    fn queue(&self, mut inner: MutexGuard<'_, Inner>, queued: Queued) {
        inner.bytes += queued.bytes;
        inner.pushed += 1;
        inner.queue.push_back(queued);
        drop(inner);
        self.nudge();
    }

    /// It has a past with sources that have gone since, or that it is not to get.
    pub(crate) fn forget_others(
        &self,
        from: &HashMap<SourceId, Position>,
        gets: &HashSet<SourceId>,
    ) {
        for id in from.keys().filter(|id| !gets.contains(id)) {
            let place = Place {
                offset: 0,
                before: Told::nothing(),
            };
            self.push_change(Change::Left(*id), place);
        }
    }

    pub(crate) fn detach(&self, mut detached: Detached) {
        let mut inner = self.lock();
        detached.after = inner.pushed;
        inner.detached.push_back(detached);
        drop(inner);
        self.nudge();
    }

    /// Forgets everything queued. Where each source must go back to, so that what
    /// was queued, or taken and not done, comes again.
    pub(crate) fn forget(&self) -> HashMap<SourceId, Place> {
        let mut inner = self.lock();
        let bytes = inner.bytes;
        let mut places = std::mem::take(&mut inner.parked);
        if let Some((source, place)) = inner.taken.take() {
            places.entry(source).or_insert(place);
        }
        let caught = std::mem::take(&mut inner.caught);
        let queue = std::mem::take(&mut inner.queue);
        for queued in caught.iter().chain(&queue) {
            places.entry(queued.item.source()).or_insert(queued.place);
        }
        let detached = std::mem::take(&mut inner.detached);
        inner.bytes = 0;
        inner.popped = inner.pushed;
        inner.generation += 1;
        drop(inner);
        // They let go of their sources, whose locks come before this one.
        drop(detached);
        self.budget.give(bytes);
        places
    }

    /// Wakes the lane's thread.
    pub(crate) fn nudge(&self) {
        // Whoever stops resting takes the lock of the queue next, and sees what came.
        if self.resting.load(Relaxed) {
            return;
        }
        if let Some(thread) = &*self.thread.lock().unwrap_or_else(|e| e.into_inner()) {
            thread.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Inner {
    fn take(&mut self, queued: Queued) -> Item {
        self.taken = Some((queued.item.source(), queued.place));
        queued.item
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(|e| e.into_inner());
        let bytes = inner.bytes;
        self.budget.give(bytes);
    }
}
