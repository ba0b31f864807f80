//! What an operator makes of its sources, as streams for the plugins after it.
//!
//! ```text
//! engine    41 [a b c]   42 [d]   gap 43   44 [e f]
//! operator  keeps a, c   none     told     keeps all
//! derived   41 [a c]     42 []    gap 43   44 [e f]     the very same batch
//! ```
//! Names and numbers stay, so that each batch of a source is one batch here: order, gaps
//! and restarts mean the same. What is lost here cannot be had again: the engine's replay
//! holds what the operator read, not what it made of it.
//!
//! Guarantees: no batch is there twice, whoever emits it again.

use crate::Router;
use crate::catchup::decode_kept;
use crate::lane::Decode;
use crate::reader::Told;
use crate::ring::Kept;
use penstock_decode::{Part, events, splice};
use penstock_event::{
    Batch, Beginning, Change, Columns, Emit, Emitted, Epoch, GapReason, Item, Outlet, Payload,
    Position, ResetReason, SourceId, SourceState,
};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The streams of one operator, whichever build of it runs.
pub struct Derived {
    name: Arc<str>,
    router: Arc<Router>,
    inner: Mutex<Inner>,
}

struct Inner {
    streams: HashMap<SourceId, Stream>,
    decode: Decode,
}

struct Stream {
    state: Arc<SourceState>,
    /// What was emitted last.
    told: Told,
}

// === impl Derived ===

impl Derived {
    /// The streams of a plugin, none yet, within the bounds of the engines' router.
    #[must_use]
    pub fn new(plugin: &str, engines: &Router) -> Self {
        Self {
            name: plugin.into(),
            router: engines.beside(),
            inner: Mutex::new(Inner {
                streams: HashMap::new(),
                decode: Decode::new(engines.limits()),
            }),
        }
    }

    /// What those after it read from.
    #[must_use]
    pub fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// The operator reads a source; `past`: where it goes on in it.
    pub fn join(&self, origin: &Arc<SourceState>, past: Option<Position>) {
        let mut inner = self.lock();
        let id = origin.info.id;
        if inner.streams.contains_key(&id) {
            return;
        }
        let before = origin.beginning();
        let (epoch, resumed) = match past {
            Some(at) if at.epoch >= before.epoch => (at.epoch, Some(at.sequence)),
            // Of an epoch that is over: it is told of what came since.
            _ => (before.epoch, None),
        };
        let beginning = Beginning {
            lineage: before.lineage,
            epoch,
            resumed,
        };
        let state = Arc::new(SourceState::derived(origin, beginning));
        let told = past.map_or_else(Told::nothing, Told::at);
        let stream = Stream {
            state: state.clone(),
            told,
        };
        inner.streams.insert(id, stream);
        let joined = Item::Change(Change::Joined(state.clone()));
        self.router.deliver(&state, joined);
    }

    /// The operator reads no other sources than these any more.
    pub fn only(&self, sources: &HashSet<SourceId>) {
        let mut inner = self.lock();
        let all: Vec<_> = inner.streams.keys().copied().collect();
        for gone in all.into_iter().filter(|id| !sources.contains(id)) {
            self.leave(&mut inner, gone);
        }
    }

    /// The state of a source as those after it know it.
    #[must_use]
    pub fn state(&self, source: SourceId) -> Option<Arc<SourceState>> {
        Some(self.lock().streams.get(&source)?.state.clone())
    }

    fn leave(&self, inner: &mut Inner, source: SourceId) {
        if let Some(stream) = inner.streams.remove(&source) {
            let left = Item::Change(Change::Left(source));
            self.router.deliver(&stream.state, left);
        }
    }

    /// The batch that takes a batch's place; a gap, should it be past all bounds.
    fn made(
        &self,
        stream: &Stream,
        decode: &mut Decode,
        batch: &Arc<Batch>,
        emitted: &[Emitted],
    ) -> Item {
        let wanted = self.router.wanted(batch.source);
        let payload = if is_whole(batch, emitted) {
            if batch.columns.filled.contains(wanted) {
                return Item::Batch(batch.clone());
            }
            batch.payload.clone()
        } else {
            match payload(batch, emitted, &stream.state) {
                Ok(payload) => payload,
                Err(error) => {
                    let (plugin, source) = (&*self.name, &*stream.state.info.name);
                    tracing::error!(plugin, source, position = %batch.position(), "emitted events lost: {error}");
                    return Item::Change(gap(batch));
                }
            }
        };
        let kept = Kept {
            position: batch.position(),
            received_us: batch.received_us,
            replayed: batch.replayed,
            payload,
            // The engine's: by it the source is known again after a restart.
            digest: batch.digest,
        };
        decode_kept(&stream.state, wanted, decode, kept)
    }

    /// The operator may have been down as the engine restarted, and not know of it.
    fn catch_up(&self, stream: &Stream, epoch: Epoch) {
        if stream.told.placed && epoch > stream.told.epoch {
            let reset = Change::Reset {
                source: stream.state.info.id,
                epoch,
                reason: ResetReason::Unproven,
            };
            self.router.deliver(&stream.state, Item::Change(reset));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Emit for Derived {
    fn batch(&self, batch: &Arc<Batch>, emitted: Vec<Emitted>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Some(stream) = inner.streams.get_mut(&batch.source) else {
            return;
        };
        let at = batch.position();
        if stream.told.knows(at) {
            return;
        }
        self.catch_up(stream, at.epoch);
        let item = self.made(stream, &mut inner.decode, batch, &emitted);
        stream.told = Told::at(at);
        stream.state.set_mark(batch.mark());
        let state = stream.state.clone();
        self.router.deliver(&state, item);
    }

    fn change(&self, change: &Change) {
        let mut inner = self.lock();
        match change {
            Change::Joined(state) => {
                drop(inner);
                return self.join(state, None);
            }
            Change::Left(source) => return self.leave(&mut inner, *source),
            Change::Reset { .. } | Change::Gap { .. } => {}
        }
        let Some(stream) = inner.streams.get_mut(&change.source()) else {
            return;
        };
        let Some(news) = stream.told.news_in(change.clone()) else {
            return;
        };
        match news {
            Change::Gap { epoch, last, .. } => {
                self.catch_up(stream, epoch);
                stream.told = Told::at(Position {
                    epoch,
                    sequence: last,
                });
            }
            Change::Reset { epoch, .. } => {
                stream.told = Told {
                    joined: true,
                    placed: true,
                    epoch,
                    sequence: None,
                };
            }
            Change::Joined(_) | Change::Left(_) => {}
        }
        let state = stream.state.clone();
        self.router.deliver(&state, Item::Change(news));
    }
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derived")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// All events, as they came and in their order.
fn is_whole(batch: &Batch, emitted: &[Emitted]) -> bool {
    let mut next = 0;
    for part in emitted {
        let Emitted::Kept(indices) = part else {
            return false;
        };
        for index in indices {
            if *index as usize != next {
                return false;
            }
            next += 1;
        }
    }
    next == batch.columns.len()
}

fn payload(
    batch: &Batch,
    emitted: &[Emitted],
    state: &SourceState,
) -> Result<Payload, penstock_decode::DecodeError> {
    let write = |made: &Columns| events(made, &state.dictionary);
    let made: Vec<Vec<Vec<u8>>> = (emitted.iter())
        .map(|part| match part {
            Emitted::Kept(_) => Vec::new(),
            Emitted::Made(made) => write(made),
        })
        .collect();
    let mut parts = Vec::new();
    for (part, made) in emitted.iter().zip(&made) {
        match part {
            Emitted::Kept(indices) => parts.extend(indices.iter().map(|i| Part::Kept(*i))),
            Emitted::Made(_) => parts.extend(made.iter().map(|bytes| Part::Made(bytes))),
        }
    }
    splice(&batch.payload, &batch.skipped, &parts).map(Payload::from)
}

fn gap(batch: &Batch) -> Change {
    Change::Gap {
        source: batch.source,
        epoch: batch.epoch,
        first: batch.sequence,
        last: batch.sequence,
        reason: GapReason::Undecodable,
    }
}
