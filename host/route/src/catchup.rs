//! A lane reads a source from its ring, and what the ring lost from the engine.
//!
//! ```text
//! told ──── lost from the ring ────┬── held by the ring ──┐
//!   fetch from the engine, or gap  │  decode and hand on  │ head: attach
//! ```

use crate::fetch::Fetched;
use crate::lane::{Decode, Lane, Place, Queued};
use crate::reader::{Reader, Told};
use crate::ring::{Entry, Kept, Ring};
use crate::router::{Inner, SourceRoute};
use penstock_event::{
    Batch, Change, Epoch, GapReason, Item, Payload, Position, Sequence, SourceId, SourceState,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

/// Entries and bytes a turn takes from a ring: then other sources and calls.
const TURN_ENTRIES: usize = 64;
const TURN_BYTES: usize = 1 << 20;
/// Bytes of a fetch that may wait for the lane's thread.
const FETCH_BYTES: usize = 8 << 20;
/// Fetches in a row that began where the one before did: then it becomes a gap.
const FETCHES: u32 = 3;

/// A source that a lane reads by itself.
pub(crate) struct Detached {
    route: Arc<SourceRoute>,
    fetching: Option<Fetching>,
    /// It fetched: the ring keeps more until it is attached again.
    holding: bool,
    fetches: Fetches,
    /// Items of the lane that come first: those queued before it detached.
    pub after: u64,
}

/// Whether fetches for a source help.
#[derive(Default)]
struct Fetches {
    in_vain: u32,
    last: Option<(Epoch, Sequence)>,
}

/// A fetch under way: `next..=last` of `epoch` are still to come.
struct Fetching {
    epoch: Epoch,
    next: Sequence,
    last: Sequence,
    /// It has brought something: a hole from here on is a loss on the way, not the
    /// end of what the engine remembers.
    begun: bool,
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Inbox {
    ready: AtomicBool,
    inner: Mutex<Arrived>,
}

#[derive(Default)]
struct Arrived {
    batches: VecDeque<(Sequence, Payload)>,
    bytes: usize,
    /// By the engine, or because more came than may wait. What is still missing is
    /// asked for again.
    ended: bool,
}

/// What a turn found under the source's lock, to be handed on without it.
struct Step {
    place: Place,
    what: What,
}

enum What {
    Change(Change),
    Batch(Kept),
}

// === impl Detached ===

impl Fetches {
    /// Whether to ask for what begins here. A source may outrun the lane for long: it is
    /// where it begins that tells whether fetches help, not how much is missing.
    fn may_begin(&mut self, first: (Epoch, Sequence)) -> bool {
        let again = self.last.replace(first).is_some_and(|last| first <= last);
        self.in_vain = if again { self.in_vain + 1 } else { 0 };
        self.in_vain < FETCHES
    }
}

impl Detached {
    pub fn new(route: Arc<SourceRoute>) -> Self {
        Self {
            route,
            fetching: None,
            holding: false,
            fetches: Fetches::default(),
            after: 0,
        }
    }

    /// True when its turn may come, `taken` items having been taken. No lock.
    pub fn has_work(&self, taken: u64) -> bool {
        taken >= self.after && self.has_news()
    }

    /// False only while a fetch has brought nothing new, and while nobody knows whether
    /// the engine is still the one of the checkpoint.
    pub fn has_news(&self) -> bool {
        self.fetching
            .as_ref()
            .is_none_or(|f| f.inbox.ready.load(Relaxed))
            && !self.route.unproven()
    }

    /// True while nothing is to be read before the source's engine was heard.
    pub fn rests(&self) -> bool {
        self.route.unproven()
    }

    /// Reads on. False: the source is attached again, or gone.
    pub fn turn(
        &mut self,
        lane: &Lane,
        decode: &mut Decode,
        caught: &mut VecDeque<Queued>,
    ) -> bool {
        if self.fetching.is_some() {
            self.take_fetched(lane, decode, caught);
            return true;
        }
        let route = self.route.clone();
        let mut steps = Vec::new();
        let mut guard = route.lock();
        let Inner {
            ring,
            readers,
            left,
        } = &mut *guard;
        let Some(at) = readers.iter().position(|r| std::ptr::eq(&*r.lane, lane)) else {
            return false;
        };
        let reader = &mut readers[at];
        let me = Arc::downgrade(&reader.lane);
        self.greet(reader, ring, &mut steps);
        let mut stay = true;
        match self.lost(reader, ring, lane, &mut steps) {
            Some(range) => {
                self.fetching = Some(range);
                if !std::mem::replace(&mut self.holding, true) {
                    ring.hold(true);
                }
            }
            None => {
                read(reader, route.state.info.id, ring, &mut steps);
                if reader.next >= ring.end() {
                    stay = false;
                    if std::mem::take(&mut self.holding) {
                        ring.hold(false);
                    }
                    if *left {
                        steps.push(Step::change(reader, Change::Left(route.state.info.id)));
                        readers.remove(at);
                    } else {
                        reader.attached = true;
                    }
                }
            }
        }
        drop(guard);
        for step in steps {
            let item = match step.what {
                What::Change(change) => Item::Change(change),
                What::Batch(kept) => decoded(&route.state, lane, decode, kept),
            };
            caught.push_back(queued(item, step.place));
        }
        if let Some(fetching) = &self.fetching {
            start(&route, me, lane, fetching);
        }
        stay
    }

    fn greet(&mut self, reader: &mut Reader, ring: &Ring, out: &mut Vec<Step>) {
        if let Some((epoch, first, last)) = reader.dropped.take() {
            let gap = Change::Gap {
                source: self.route.state.info.id,
                epoch,
                first,
                last,
                reason: GapReason::LaneFull,
            };
            out.push(Step::change(reader, gap));
        }
        if reader.told.joined {
            return;
        }
        let joined = Change::Joined(self.route.state.clone());
        out.push(Step::change(reader, joined));
        reader.told.joined = true;
        if reader.told.placed {
            return;
        }
        let epoch = match ring.get(reader.next.max(ring.start())) {
            Some(Entry::Batch(kept)) => kept.position.epoch,
            Some(Entry::Gap { epoch, .. }) => *epoch,
            Some(Entry::Reset { epoch, .. }) => Epoch(epoch.0.saturating_sub(1)),
            None => ring.epoch(),
        };
        // A newcomer need not hear of a life that the engine has forgotten too.
        let over = matches!(ring.get(reader.next), Some(Entry::Reset { .. }));
        reader.told = Told {
            joined: true,
            placed: true,
            epoch,
            sequence: over.then(|| self.last_of(ring, epoch)).flatten(),
        };
        if ring.start() > 0 && !over && reader.next >= ring.start() {
            // The ring begins in the middle: what was before counts as lost.
            reader.next = ring.start().saturating_sub(1);
        }
    }

    fn last_of(&self, ring: &Ring, epoch: Epoch) -> Option<Sequence> {
        ring.spans().find(|s| s.epoch == epoch).and_then(|s| s.last)
    }

    /// Tells what was lost from the ring between the lane's place and the ring's
    /// start. A range of the running epoch is fetched instead, and returned.
    fn lost(
        &mut self,
        reader: &mut Reader,
        ring: &Ring,
        lane: &Lane,
        out: &mut Vec<Step>,
    ) -> Option<Fetching> {
        if reader.next >= ring.start() {
            return None;
        }
        let id = self.route.state.info.id;
        let spec = &self.route.state.info.spec;
        let running = ring.epoch();
        let (to, upto) = match ring.get(ring.start()) {
            Some(Entry::Batch(kept)) => (kept.position.epoch, Some(kept.position.sequence)),
            Some(Entry::Gap { epoch, first, .. }) => (*epoch, Some(*first)),
            Some(Entry::Reset { epoch, .. }) => (Epoch(epoch.0.saturating_sub(1)), None),
            None => (running, None),
        };
        let from = reader.told.epoch;
        for span in ring.spans().filter(|s| s.epoch >= from) {
            if span.epoch > to {
                break;
            }
            if span.epoch > reader.told.epoch {
                let change = Change::Reset {
                    source: id,
                    epoch: span.epoch,
                    reason: span.reason.unwrap_or(penstock_event::ResetReason::Unproven),
                };
                out.push(Step::change(reader, change.clone()));
                reader.note(&change);
            }
            let first = reader
                .told
                .sequence
                .map_or(spec.first_sequence, |s| s.saturating_add(1));
            let last = if span.epoch == to && upto.is_some() {
                upto.and_then(|s| s.checked_sub(1))
            } else {
                span.last
            };
            let Some(last) = last.filter(|last| first <= *last) else {
                continue;
            };
            if span.epoch == running
                && spec.replay.is_some()
                && self.fetches.may_begin((running, first))
            {
                return Some(Fetching {
                    epoch: running,
                    next: first,
                    last,
                    begun: false,
                    inbox: Arc::default(),
                });
            }
            let change = missed(&self.route.state, lane, span.epoch, first, last);
            out.push(Step::change(reader, change.clone()));
            reader.note(&change);
        }
        reader.next = ring.start();
        None
    }

    fn take_fetched(&mut self, lane: &Lane, decode: &mut Decode, caught: &mut VecDeque<Queued>) {
        let Some(fetching) = &mut self.fetching else {
            return;
        };
        let state = self.route.state.clone();
        let (batches, ended) = {
            let mut inner = fetching
                .inbox
                .inner
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            fetching.inbox.ready.store(false, Relaxed);
            inner.bytes = 0;
            (std::mem::take(&mut inner.batches), inner.ended)
        };
        let epoch = fetching.epoch;
        // Should it come again, it is fetched again: the ring lost it.
        let place = |next: Sequence| Place {
            offset: 0,
            before: Told {
                joined: true,
                placed: true,
                epoch,
                sequence: next.checked_sub(1),
            },
        };
        let mut over = ended;
        for (sequence, payload) in batches {
            if sequence < fetching.next || sequence > fetching.last {
                continue;
            }
            if sequence > fetching.next {
                if fetching.begun {
                    // An engine's replay loses messages where its pipe is full: the
                    // rest is asked for again.
                    over = true;
                    break;
                }
                let hole = missed(&state, lane, epoch, fetching.next, sequence - 1);
                caught.push_back(queued(Item::Change(hole), place(fetching.next)));
            }
            fetching.begun = true;
            fetching.next = sequence + 1;
            let kept = Kept {
                digest: penstock_event::digest(&payload),
                position: Position { epoch, sequence },
                received_us: now_us(),
                replayed: true,
                payload,
            };
            let item = decoded(&state, lane, decode, kept);
            caught.push_back(queued(item, place(sequence)));
        }
        over |= fetching.next > fetching.last;
        let reached = fetching.next.checked_sub(1);
        let mut guard = self.route.lock();
        let reader = (guard.readers.iter_mut()).find(|r| std::ptr::eq(&*r.lane, lane));
        if let (Some(reader), Some(reached)) = (reader, reached) {
            reader.told.epoch = epoch;
            reader.told.sequence = Some(reached).max(reader.told.sequence);
        }
        drop(guard);
        if over {
            self.fetching = None;
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if self.holding {
            self.route.lock().ring.hold(false);
        }
    }
}

impl Step {
    fn change(reader: &Reader, change: Change) -> Self {
        Self {
            place: reader.place(),
            what: What::Change(change),
        }
    }
}

fn queued(item: Item, place: Place) -> Queued {
    Queued {
        item,
        bytes: 0,
        place,
    }
}

/// Reads what the ring holds.
fn read(reader: &mut Reader, source: SourceId, ring: &Ring, out: &mut Vec<Step>) {
    let mut bytes = 0;
    for _ in 0..TURN_ENTRIES {
        let Some(entry) = ring.get(reader.next) else {
            return;
        };
        let place = reader.place();
        match entry {
            Entry::Batch(kept) => {
                bytes += kept.payload.len();
                if !reader.told.knows(kept.position) {
                    reader.told = Told::at(kept.position);
                    let what = What::Batch(kept.clone());
                    out.push(Step { place, what });
                }
            }
            Entry::Gap {
                epoch,
                first,
                last,
                reason,
            } => {
                let change = Change::Gap {
                    source,
                    epoch: *epoch,
                    first: *first,
                    last: *last,
                    reason: *reason,
                };
                if let Some(change) = reader.told.news_in(change) {
                    out.push(Step::change(reader, change.clone()));
                    reader.note(&change);
                }
            }
            Entry::Reset { epoch, reason } => {
                let change = Change::Reset {
                    source,
                    epoch: *epoch,
                    reason: *reason,
                };
                if let Some(change) = reader.told.news_in(change) {
                    out.push(Step::change(reader, change.clone()));
                    reader.note(&change);
                }
            }
        }
        reader.next += 1;
        if bytes >= TURN_BYTES {
            return;
        }
    }
}

fn start(route: &SourceRoute, me: Weak<Lane>, lane: &Lane, fetching: &Fetching) {
    let inbox = fetching.inbox.clone();
    let take = move |fetched: Fetched| {
        let mut inner = inbox.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let go_on = match fetched {
            Fetched::Batch(sequence, payload) => {
                inner.bytes += payload.len();
                inner.batches.push_back((sequence, payload));
                inner.ended = inner.bytes > FETCH_BYTES;
                !inner.ended
            }
            Fetched::End => {
                inner.ended = true;
                false
            }
        };
        drop(inner);
        inbox.ready.store(true, Relaxed);
        if let Some(lane) = me.upgrade() {
            lane.nudge();
        }
        go_on
    };
    let (first, last) = (fetching.next, fetching.last);
    (lane.fetch).fetch(route.state.info.id, first, last, Box::new(take));
}

fn missed(
    state: &SourceState,
    lane: &Lane,
    epoch: Epoch,
    first: Sequence,
    last: Sequence,
) -> Change {
    let many = last - first + 1;
    let (source, plugin): (&str, &str) = (&state.info.name, lane.name());
    tracing::error!(
        plugin,
        source,
        epoch = epoch.0,
        first,
        last,
        "neither the host nor the engine holds what this plugin missed"
    );
    lane.counts.missed.fetch_add(many, Relaxed);
    metrics::counter!("penstock_lane_missed_batches_total", "plugin" => lane.name().to_string())
        .increment(many);
    Change::Gap {
        source: state.info.id,
        epoch,
        first,
        last,
        reason: GapReason::Missed,
    }
}

fn decoded(state: &Arc<SourceState>, lane: &Lane, decode: &mut Decode, kept: Kept) -> Item {
    decode_kept(state, lane.config.columns, decode, kept)
}

/// A batch of a ring, with these columns; or a gap, where it cannot be decoded.
pub(crate) fn decode_kept(
    state: &Arc<SourceState>,
    wanted: penstock_event::ColumnSet,
    decode: &mut Decode,
    kept: Kept,
) -> Item {
    let mut columns = decode.pool.take();
    let mut skipped = Vec::new();
    let head = decode.decoder.decode(
        &kept.payload,
        wanted,
        &state.dictionary,
        &mut columns,
        &mut skipped,
    );
    let Position { epoch, sequence } = kept.position;
    match head {
        Ok(head) => Item::Batch(Arc::new(Batch {
            source: state.info.id,
            epoch,
            sequence,
            rank: head.rank,
            published_us: head.published_us,
            received_us: kept.received_us,
            replayed: kept.replayed,
            dictionary_len: state.dictionary.len(),
            columns,
            payload: kept.payload,
            digest: kept.digest,
            skipped,
        })),
        Err(error) => Item::Change(Change::Gap {
            source: state.info.id,
            epoch,
            first: sequence,
            last: sequence,
            reason: if error.too_large() {
                GapReason::TooLarge
            } else {
                GapReason::Undecodable
            },
        }),
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}
