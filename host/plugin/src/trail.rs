//! What one instance has handled, for another one that must not get ahead of it.
//!
//! ```text
//! leader ── handles 41, 42 ──> trail: 42 ──> follower may handle up to 42, muted
//!    │ hold                      │ final
//!    v                           v
//!  (stops at a batch boundary)   follower leads: muted up to 42, effects from 43 on
//! ```
//!
//! So the effects of a plugin are had once across a swap, and again from the batch
//! that the leader died of after a crash: whoever takes over has never passed it.

use penstock_event::{Change, Item, Position, SourceId};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

/// How far a source was handled: batches, gaps and resets alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) epoch: u32,
    /// The first sequence of the epoch that was not handled.
    pub(crate) next: u64,
}

/// What an instance has handled. One writes, its own thread; others follow.
#[derive(Default)]
pub struct Trail {
    inner: Mutex<Inner>,
    /// Somebody follows: each new mark is to be written.
    followed: AtomicBool,
    /// All marks are to be written, once.
    wanted: AtomicBool,
    /// The follower waits for more.
    waits: AtomicBool,
    /// The leader is to say what each call published.
    shadowed: AtomicBool,
    leader: OnceLock<Thread>,
    followers: Mutex<Vec<Thread>>,
}

#[derive(Default)]
struct Inner {
    marks: HashMap<SourceId, Mark>,
    /// All marks of the leader are here.
    complete: bool,
    effects: VecDeque<Said>,
}

/// What a call of the leader published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) source: SourceId,
    pub(crate) mark: Mark,
    /// Messages, and a digest of them in their order.
    pub(crate) effects: (u32, u64),
}

/// Calls of the leader that a shadow may be behind.
const MAX_SAID: usize = 16_384;

// === impl Mark ===

impl Mark {
    /// A source that has left: nothing comes after it.
    pub(crate) const END: Self = Self {
        epoch: u32::MAX,
        next: u64::MAX,
    };

    /// Where a source stands once this batch was handled.
    pub(crate) fn at(position: Position) -> Self {
        Self {
            epoch: position.epoch.0,
            next: position.sequence.saturating_add(1),
        }
    }

    /// Where a source stands once this was handled; none: where it stood.
    pub(crate) fn after(item: &Item) -> Option<Self> {
        match item {
            Item::Batch(batch) => Some(Self::at(batch.position())),
            Item::Change(Change::Gap { epoch, last, .. }) => Some(Self::at(Position {
                epoch: *epoch,
                sequence: *last,
            })),
            Item::Change(Change::Reset { epoch, .. }) => Some(Self {
                epoch: epoch.0,
                next: 0,
            }),
            Item::Change(Change::Left(_)) => Some(Self::END),
            Item::Change(Change::Joined(_)) => None,
        }
    }
}

// === impl Trail ===

impl Trail {
    /// Called once by the leader's thread.
    pub(crate) fn leads(&self, thread: Thread) {
        // A second call would be a second leader; the first one stays.
        drop(self.leader.set(thread));
    }

    /// The calling thread follows from now on.
    pub(crate) fn follow(&self, shadow: bool) {
        self.followers().push(std::thread::current());
        if shadow {
            self.shadowed.store(true, SeqCst);
        }
        self.waits.store(true, SeqCst);
        self.followed.store(true, SeqCst);
        self.wanted.store(true, SeqCst);
        if let Some(leader) = self.leader.get() {
            leader.unpark();
        }
    }

    /// The calling thread does not follow any more. The marks stay, for who takes over.
    pub(crate) fn unfollow(&self) {
        let own = std::thread::current().id();
        let mut followers = self.followers();
        followers.retain(|thread| thread.id() != own);
        if followers.is_empty() {
            self.followed.store(false, SeqCst);
            self.shadowed.store(false, SeqCst);
            self.lock().effects.clear();
        }
    }

    /// How many batches one is behind the other, over the sources that `counts`
    /// names; none: by an epoch, or unknown.
    #[must_use]
    pub fn behind(&self, leader: &Self, counts: impl Fn(SourceId) -> bool) -> Option<u64> {
        let (ours, theirs) = (self.marks()?, leader.marks()?);
        let mut behind = 0u64;
        for (source, mark) in theirs {
            if mark == Mark::END || !counts(source) {
                continue;
            }
            let at = ours.get(&source).copied().unwrap_or_default();
            if at.epoch < mark.epoch {
                return None;
            }
            if at.epoch == mark.epoch {
                behind = behind.saturating_add(mark.next.saturating_sub(at.next));
            }
        }
        Some(behind)
    }

    /// Whether the leader was last seen at these positions, or past them. It is asked to
    /// say where it is.
    #[must_use]
    pub fn reached(&self, positions: &HashMap<SourceId, Position>) -> bool {
        let inner = self.lock();
        let there = |(source, at): (&SourceId, &Position)| {
            (inner.marks.get(source)).is_some_and(|mark| *mark >= Mark::at(*at))
        };
        if positions.iter().all(there) {
            return true;
        }
        drop(inner);
        self.wanted.store(true, SeqCst);
        if let Some(leader) = self.leader.get() {
            leader.unpark();
        }
        false
    }

    /// Whether the leader is to write marks.
    pub(crate) fn followed(&self) -> bool {
        self.followed.load(SeqCst)
    }

    /// Whether the leader is to say what it published.
    pub(crate) fn shadowed(&self) -> bool {
        self.shadowed.load(SeqCst)
    }

    /// Whether the leader is to write all of its marks now.
    pub(crate) fn wants_all(&self) -> bool {
        self.wanted.load(Relaxed) && self.wanted.swap(false, SeqCst)
    }

    /// The leader's marks, all of them.
    pub(crate) fn all(&self, marks: impl Iterator<Item = (SourceId, Mark)>) {
        let mut inner = self.lock();
        for (source, mark) in marks {
            raise(&mut inner.marks, source, mark);
        }
        inner.complete = true;
        drop(inner);
        self.wake();
    }

    /// The leader has handled something.
    pub(crate) fn note(&self, source: SourceId, mark: Mark, effects: Option<(u32, u64)>) {
        let mut inner = self.lock();
        raise(&mut inner.marks, source, mark);
        if let Some(effects) = effects {
            if inner.effects.len() >= MAX_SAID {
                inner.effects.pop_front();
            }
            inner.effects.push_back(Said {
                source,
                mark,
                effects,
            });
        }
        drop(inner);
        self.wake();
    }

    /// A source that had left has joined again.
    pub(crate) fn joined(&self, source: SourceId) {
        let mut inner = self.lock();
        if let Some(mark) = inner.marks.get_mut(&source).filter(|m| **m == Mark::END) {
            *mark = Mark::default();
        }
        drop(inner);
        self.wake();
    }

    /// Up to where the leader has handled a source; none: it has not seen it.
    pub(crate) fn mark(&self, source: SourceId) -> Option<Mark> {
        // Before the look: a mark that comes after it wakes.
        self.waits.store(true, SeqCst);
        self.lock().marks.get(&source).copied()
    }

    /// Every mark, once the leader has written all.
    pub(crate) fn marks(&self) -> Option<HashMap<SourceId, Mark>> {
        let inner = self.lock();
        inner.complete.then(|| inner.marks.clone())
    }

    /// What the leader published when it handled this; none: not to be known.
    pub(crate) fn said(&self, source: SourceId, mark: Mark) -> Option<(u32, u64)> {
        let mut inner = self.lock();
        let at = (inner.effects.iter()).position(|s| s.source == source && s.mark == mark)?;
        inner.effects.remove(at).map(|said| said.effects)
    }

    fn wake(&self) {
        if self.waits.swap(false, SeqCst) {
            self.followers().iter().for_each(Thread::unpark);
        }
    }

    fn followers(&self) -> MutexGuard<'_, Vec<Thread>> {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trail").finish_non_exhaustive()
    }
}

/// An instance that began anew does not undo what was published before.
fn raise(marks: &mut HashMap<SourceId, Mark>, source: SourceId, mark: Mark) {
    let known = marks.entry(source).or_insert(mark);
    *known = (*known).max(mark);
}
