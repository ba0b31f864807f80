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
//!
//! Instances that share a plugin's sources write one trail, each with a [`Pen`]: no
//! source is two instances', so that who follows need not know how many lead.

use penstock_event::{Change, Item, Position, SourceId};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// How far a source was handled: batches, gaps and resets alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) epoch: u32,
    /// The first sequence of the epoch that was not handled.
    pub(crate) next: u64,
}

/// What the instances of a plugin have handled. Each writes of its own sources, on its
/// own thread; others follow.
pub struct Trail {
    inner: Mutex<Inner>,
    /// Somebody follows: each new mark is to be written.
    followed: AtomicBool,
    /// How often all marks were asked for. Each leader writes its own once for it.
    wanted: AtomicU64,
    /// The leader is to say what each call published.
    shadowed: AtomicBool,
    /// Threads of the leaders, by their numbers, once they run.
    leaders: Mutex<Vec<Option<Thread>>>,
    followers: AtomicUsize,
}

struct Inner {
    marks: HashMap<SourceId, Mark>,
    /// Leaders whose marks are all here, by their numbers.
    wrote: Vec<bool>,
    effects: VecDeque<Said>,
}

/// One leader's hand on a trail.
pub struct Pen {
    trail: Arc<Trail>,
    number: usize,
    /// The last time that all marks were asked for and written.
    answered: u64,
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
    /// A trail that so many instances write.
    #[must_use]
    pub fn new(leaders: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                marks: HashMap::new(),
                wrote: vec![false; leaders],
                effects: VecDeque::new(),
            }),
            followed: AtomicBool::new(false),
            wanted: AtomicU64::new(0),
            shadowed: AtomicBool::new(false),
            leaders: Mutex::new(vec![None; leaders]),
            followers: AtomicUsize::new(0),
        })
    }

    /// The hand of the leader of this number, from 0. Who comes after it goes on in its
    /// place.
    #[must_use]
    pub fn pen(self: &Arc<Self>, number: usize) -> Pen {
        Pen {
            trail: self.clone(),
            number,
            answered: 0,
        }
    }

    /// Another one follows from now on.
    pub(crate) fn follow(&self, shadow: bool) {
        self.followers.fetch_add(1, SeqCst);
        if shadow {
            self.shadowed.store(true, SeqCst);
        }
        self.followed.store(true, SeqCst);
        self.ask();
    }

    /// One does not follow any more. The marks stay, for who takes over.
    pub(crate) fn unfollow(&self) {
        if self.followers.fetch_sub(1, SeqCst) == 1 {
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
        self.ask();
        false
    }

    /// Every leader is to write all of its marks.
    fn ask(&self) {
        self.wanted.fetch_add(1, SeqCst);
        self.leaders().iter().flatten().for_each(Thread::unpark);
    }

    /// Whether the leader is to write marks.
    pub(crate) fn followed(&self) -> bool {
        self.followed.load(SeqCst)
    }

    /// Whether the leader is to say what it published.
    pub(crate) fn shadowed(&self) -> bool {
        self.shadowed.load(SeqCst)
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
    }

    /// A source that had left has joined again.
    pub(crate) fn joined(&self, source: SourceId) {
        let mut inner = self.lock();
        if let Some(mark) = inner.marks.get_mut(&source).filter(|m| **m == Mark::END) {
            *mark = Mark::default();
        }
    }

    /// Up to where the leader has handled a source; none: it has not seen it.
    pub(crate) fn mark(&self, source: SourceId) -> Option<Mark> {
        self.lock().marks.get(&source).copied()
    }

    /// Every mark, once all leaders have written all of theirs.
    pub(crate) fn marks(&self) -> Option<HashMap<SourceId, Mark>> {
        let inner = self.lock();
        let complete = inner.wrote.iter().all(|wrote| *wrote);
        complete.then(|| inner.marks.clone())
    }

    /// The marks that were written so far.
    pub(crate) fn known(&self) -> HashMap<SourceId, Mark> {
        self.lock().marks.clone()
    }

    /// What the leader published when it handled this; none: not to be known.
    pub(crate) fn said(&self, source: SourceId, mark: Mark) -> Option<(u32, u64)> {
        let mut inner = self.lock();
        let at = (inner.effects.iter()).position(|s| s.source == source && s.mark == mark)?;
        inner.effects.remove(at).map(|said| said.effects)
    }

    fn leaders(&self) -> MutexGuard<'_, Vec<Option<Thread>>> {
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Pen ===

impl Pen {
    /// What it writes.
    pub(crate) fn trail(&self) -> &Arc<Trail> {
        &self.trail
    }

    /// Which of the instances writes, from 0, and of how many.
    pub(crate) fn number(&self) -> (usize, usize) {
        (self.number, self.trail.leaders().len())
    }

    /// Called by the leader's thread, first.
    pub(crate) fn leads(&self, thread: Thread) {
        if let Some(leader) = self.trail.leaders().get_mut(self.number) {
            *leader = Some(thread);
        }
    }

    /// Whether this leader is to write all of its marks now.
    pub(crate) fn wants_all(&mut self) -> bool {
        if self.wanted.load(Relaxed) == self.answered {
            return false;
        }
        self.answered = self.wanted.load(SeqCst);
        true
    }

    /// This leader's marks, all of them.
    pub(crate) fn all(&self, marks: impl Iterator<Item = (SourceId, Mark)>) {
        let mut inner = self.lock();
        for (source, mark) in marks {
            raise(&mut inner.marks, source, mark);
        }
        if let Some(wrote) = inner.wrote.get_mut(self.number) {
            *wrote = true;
        }
    }
}

impl std::ops::Deref for Pen {
    type Target = Trail;

    fn deref(&self) -> &Trail {
        &self.trail
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
    // Whoever has more of a source that had left has seen it come back.
    if *known == Mark::END {
        *known = mark;
    }
    *known = (*known).max(mark);
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SourceId = SourceId(2);
    const B: SourceId = SourceId(3);

    fn mark(next: u64) -> Mark {
        Mark { epoch: 0, next }
    }

    #[test]
    fn a_source_that_had_left_is_heard_again_though_nobody_follows() {
        let trail = Trail::new(1);
        let pen = trail.pen(0);
        trail.note(A, Mark::END, None);
        pen.all([(A, mark(5))].into_iter());
        assert_eq!(trail.mark(A), Some(mark(5)));
        pen.all([(A, mark(3))].into_iter());
        assert_eq!(trail.mark(A), Some(mark(5)), "begun anew, nothing undone");
    }

    #[test]
    fn a_trail_is_complete_once_every_leader_has_written() {
        let trail = Trail::new(2);
        let (mut first, mut second) = (trail.pen(0), trail.pen(1));
        assert!(!first.wants_all(), "nobody asked");
        trail.follow(false);
        assert!(first.wants_all() && !first.wants_all(), "once each time");
        first.all([(A, mark(5))].into_iter());
        assert_eq!(trail.marks(), None, "the other one has not written");
        assert_eq!(trail.mark(A), Some(mark(5)), "and yet this is known");
        assert_eq!(trail.known().len(), 1);
        assert!(second.wants_all());
        second.all([(B, mark(9))].into_iter());
        assert_eq!(
            trail.marks(),
            Some(HashMap::from([(A, mark(5)), (B, mark(9))]))
        );

        // Another instance in the place of the second one: it knows nothing yet, and
        // what was handled before stays handled.
        let mut third = trail.pen(1);
        assert!(third.wants_all() && !first.wants_all());
        third.all([(B, mark(0))].into_iter());
        assert_eq!(trail.mark(B), Some(mark(9)));
        trail.follow(false);
        assert!(first.wants_all() && third.wants_all());
    }

    #[test]
    fn how_far_behind_is_summed_over_all_leaders() {
        let (theirs, ours) = (Trail::new(2), Trail::new(1));
        theirs.pen(0).all([(A, mark(5))].into_iter());
        ours.pen(0).all([(A, mark(3)), (B, mark(9))].into_iter());
        assert_eq!(ours.behind(&theirs, |_| true), None, "not all is known");
        theirs.pen(1).all([(B, mark(10))].into_iter());
        assert_eq!(ours.behind(&theirs, |_| true), Some(3));
        assert_eq!(ours.behind(&theirs, |source| source == B), Some(1));
    }

    #[test]
    fn every_leader_is_woken_by_who_follows() {
        let trail = Trail::new(2);
        let leaders: Vec<_> = (0..2)
            .map(|number| {
                let mut pen = trail.pen(number);
                let (ready, told) = std::sync::mpsc::channel();
                let thread = std::thread::spawn(move || {
                    pen.leads(std::thread::current());
                    ready.send(()).unwrap();
                    while !pen.wants_all() {
                        std::thread::park();
                    }
                });
                told.recv().unwrap();
                thread
            })
            .collect();
        trail.follow(false);
        for leader in leaders {
            leader.join().unwrap();
        }
    }
}
