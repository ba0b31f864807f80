//! State moves from a running instance to a candidate, source by source.
//!
//! ```text
//! old instance's thread                               candidate's maker
//!   piece of A ── lookups ── items of B ── piece of A ─>  restore A
//!   items of A that waited ── items of B ── piece of B ─>  restore B
//! ```
//! Between two pieces of a source its items wait, those of others do not: they are
//! handled for half as long as the piece took. So that this is as short as can be, a source's
//! pieces are made without waiting for the candidate, which takes longer, and the next
//! source begins when it has room again and what waited meanwhile was handled. A source
//! that cannot be moved is fed anew, as to a newcomer. Both sides go on by themselves
//! when the other one is gone.

use crate::instance::Piece;
use crate::{CallError, Candidate};
use penstock_event::{Change, Position, SourceId, SourceState};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Bytes of a piece at most. Everything waits while one is made: a quarter of what the
/// interface allows, two milliseconds of an index.
pub(crate) const PIECE_BYTES: u32 = 256 << 10;

/// Pieces on their way at most.
const ON_THE_WAY: usize = 16;

/// Bytes of one source that are made before the candidate has room, at most.
const AHEAD: usize = 64 << 20;

/// How long a next source waits for the items before it.
const REST: Duration = Duration::from_millis(100);

/// How long the pieces of one source may take.
const LONGEST: Duration = Duration::from_secs(10);

/// How far a source was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// The last batch; none: nothing of this epoch.
    pub position: Option<Position>,
    /// Digest of that batch's payload; none: not known.
    pub digest: Option<u64>,
    /// Nothing is known to be missing up to there.
    pub complete: bool,
}

/// What an instance hands over, source by source.
#[derive(Debug)]
pub enum Moved {
    /// A source begins.
    Begin(Arc<SourceState>),
    /// A piece of its state, under the schema of the old instance.
    Piece(u32, Vec<u8>),
    /// That was all of it.
    Done(At),
    /// It cannot be moved, and why.
    Refused(String),
    /// That was all there is.
    End,
}

/// The old instance's side.
pub(crate) struct Moving {
    out: SyncSender<Moved>,
    schema: u32,
    /// There is no state, only positions.
    whole: bool,
    left: VecDeque<SourceId>,
    /// The source whose pieces are being made, and the next one's cursor.
    current: Option<(SourceId, u64)>,
    /// When they must be done: its items wait.
    patience: Option<Instant>,
    ready: VecDeque<Moved>,
    ended: bool,
    /// Bytes in `ready`.
    ahead: usize,
    /// Items come first until then.
    rests: Option<Instant>,
}

/// Where a candidate stands after a handover.
#[derive(Debug, Default)]
pub struct Past {
    /// Sources whose state it has, and up to where they were applied.
    pub positions: HashMap<SourceId, Position>,
    /// Sources that it must be fed anew, by name, and why.
    pub anew: Vec<(Arc<str>, String)>,
}

/// Why a handover came to nothing. The candidate is of no use then.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The candidate failed on it.
    #[error("restore: {0}")]
    Failed(CallError),
    /// The old instance did not finish in time.
    #[error("the state did not arrive within {0:?}")]
    Late(Duration),
}

/// What the worker is to do next.
pub(crate) enum Step {
    /// Make a piece of this source from this cursor on.
    Piece(SourceId, u64),
    /// Begin with this source.
    Begin(SourceId),
    /// Nothing for now: the other side is not that far.
    Wait,
    /// All is said.
    Over,
}

/// Both ends of a handover.
pub(crate) fn channel() -> (SyncSender<Moved>, Receiver<Moved>) {
    sync_channel(ON_THE_WAY)
}

// === impl Moved ===

impl Moved {
    fn bytes(&self) -> usize {
        match self {
            Self::Piece(_, bytes) => bytes.len(),
            _ => 0,
        }
    }
}

// === impl Moving ===

impl Moving {
    pub(crate) fn new(
        out: SyncSender<Moved>,
        schema: u32,
        whole: bool,
        sources: impl IntoIterator<Item = SourceId>,
    ) -> Self {
        Self {
            out,
            schema,
            whole,
            left: sources.into_iter().collect(),
            current: None,
            patience: None,
            ready: VecDeque::new(),
            ended: false,
            ahead: 0,
            rests: None,
        }
    }

    /// Sends what is ready, and says what is to be made next. `idle`: no item waits.
    pub(crate) fn step(&mut self, idle: bool) -> Step {
        while let Some(next) = self.ready.pop_front() {
            let bytes = next.bytes();
            match self.out.try_send(next) {
                Ok(()) => self.ahead -= bytes,
                Err(TrySendError::Full(next)) => {
                    self.ready.push_front(next);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return Step::Over,
            }
        }
        if !idle && self.rests.is_some_and(|until| Instant::now() < until) {
            return Step::Wait;
        }
        if self.current.is_some() && self.patience.is_some_and(|until| Instant::now() > until) {
            self.refused(format!("it has no end: {LONGEST:?} were not enough"));
        }
        if let Some((source, cursor)) = self.current {
            return match self.ahead < AHEAD {
                true => Step::Piece(source, cursor),
                false => Step::Wait,
            };
        }
        if !self.ready.is_empty() {
            return Step::Wait;
        }
        match self.left.pop_front() {
            Some(source) => Step::Begin(source),
            None if self.ended => Step::Over,
            None => {
                self.ended = true;
                self.ready.push_back(Moved::End);
                self.step(idle)
            }
        }
    }

    pub(crate) fn begin(&mut self, state: Arc<SourceState>, at: At) {
        let source = state.info.id;
        self.ready.push_back(Moved::Begin(state));
        match self.whole {
            true => self.ready.push_back(Moved::Done(at)),
            false => {
                self.current = Some((source, 0));
                self.patience = Some(Instant::now() + LONGEST);
            }
        }
    }

    /// A piece was made, in so long; `at` is where the source stands when it was the
    /// last.
    pub(crate) fn made(&mut self, piece: Piece, at: At, took: Duration) {
        self.ahead += piece.bytes.len();
        self.ready.push_back(Moved::Piece(self.schema, piece.bytes));
        match (piece.next, &mut self.current) {
            (Some(next), Some((_, cursor))) => *cursor = next,
            _ => {
                self.current = None;
                self.ready.push_back(Moved::Done(at));
            }
        }
        let rest = if self.current.is_some() {
            took / 2
        } else {
            REST
        };
        self.rests = Some(Instant::now() + rest);
    }

    pub(crate) fn refused(&mut self, why: String) {
        self.current = None;
        self.ready.push_back(Moved::Refused(why));
    }

    /// Whether an item of this source must wait.
    pub(crate) fn holds(&self, source: SourceId) -> bool {
        self.current.is_some_and(|(current, _)| current == source)
    }
}

// === impl Candidate ===

impl Candidate {
    /// Takes the state that a running instance hands over.
    ///
    /// # Errors
    /// [`HandoverError`]; the candidate is of no use then.
    pub(crate) fn inherit(
        &mut self,
        from: &Receiver<Moved>,
        limit: Duration,
    ) -> Result<Past, HandoverError> {
        let until = Instant::now() + limit;
        let mut heir = self.heir();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match from.recv_timeout(left) {
                Ok(moved) => heir.take(moved)?,
                // Said all, or dead: what it had not said is fed anew.
                Err(RecvTimeoutError::Disconnected) => return heir.end(),
                Err(RecvTimeoutError::Timeout) => return Err(HandoverError::Late(limit)),
            }
        }
    }

    /// Takes state piece by piece, from a running instance or from a file.
    pub fn heir(&mut self) -> Heir<'_> {
        Heir {
            candidate: self,
            past: Past::default(),
            current: None,
        }
    }

    fn tell(&mut self, change: &Change) -> Result<(), HandoverError> {
        self.applied.change(change);
        self.instance
            .on_source(change)
            .map_err(HandoverError::Failed)
    }
}

/// A candidate that is given the state of another instance.
pub struct Heir<'a> {
    candidate: &'a mut Candidate,
    past: Past,
    /// The source that is being moved; none: what comes of it is left out.
    current: Option<Arc<SourceState>>,
}

// === impl Heir ===

impl Heir<'_> {
    /// Takes the next step of a handover.
    ///
    /// # Errors
    /// [`HandoverError::Failed`]; the candidate is of no use then.
    pub fn take(&mut self, moved: Moved) -> Result<(), HandoverError> {
        match moved {
            Moved::Begin(state) => {
                self.candidate.tell(&Change::Joined(state.clone()))?;
                self.current = Some(state);
            }
            Moved::Piece(schema, bytes) => {
                let Some(state) = &self.current else {
                    return Ok(());
                };
                let source = state.info.id;
                match self.candidate.instance.restore(source, schema, &bytes) {
                    Ok(()) => {}
                    Err(CallError::Refused(why)) => self.forget(why)?,
                    Err(error) => return Err(HandoverError::Failed(error)),
                }
            }
            Moved::Done(at) => match (self.current.take(), at.position) {
                (Some(state), Some(position)) => {
                    let source = state.info.id;
                    self.candidate.applied.inherit(source, position, &at);
                    self.past.positions.insert(source, position);
                }
                // Nothing of it was applied: it joins like any other.
                (Some(state), None) => self.candidate.tell(&Change::Left(state.info.id))?,
                (None, _) => {}
            },
            Moved::Refused(why) => self.forget(why)?,
            Moved::End => {}
        }
        Ok(())
    }

    /// Nothing more comes. Where the candidate stands.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub fn end(mut self) -> Result<Past, HandoverError> {
        self.forget("the instance before ended meanwhile".into())?;
        Ok(self.past)
    }

    /// The current source is fed anew.
    fn forget(&mut self, why: String) -> Result<(), HandoverError> {
        let Some(state) = self.current.take() else {
            return Ok(());
        };
        self.past.anew.push((state.info.name.clone(), why));
        self.candidate.tell(&Change::Left(state.info.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_event::{Epoch, SourceInfo, SourceSpec};

    fn begun(id: u32) -> Arc<SourceState> {
        let spec = SourceSpec {
            instance: format!("e{id}"),
            ..SourceSpec::default()
        };
        Arc::new(SourceState::new(SourceInfo {
            id: SourceId(id),
            name: spec.name().into(),
            spec,
        }))
    }

    fn piece(next: Option<u64>) -> Piece {
        Piece {
            bytes: vec![0; 1 << 20],
            next,
        }
    }

    /// The candidate takes nothing: the first source is not held for that, and the
    /// second one does not begin.
    #[test]
    fn a_source_is_held_no_longer_than_its_pieces_take() {
        let (out, inbox) = channel();
        let mut moving = Moving::new(out, 1, false, [SourceId(1), SourceId(2)]);
        let at = At {
            position: Some(Position {
                epoch: Epoch(0),
                sequence: 9,
            }),
            digest: None,
            complete: true,
        };
        assert!(matches!(moving.step(true), Step::Begin(SourceId(1))));
        moving.begin(begun(1), at);
        for cursor in 0..29 {
            assert!(matches!(moving.step(false), Step::Piece(SourceId(1), c) if c == cursor));
            assert!(moving.holds(SourceId(1)));
            moving.made(
                piece((cursor < 28).then_some(cursor + 1)),
                at,
                Duration::ZERO,
            );
        }
        assert!(!moving.holds(SourceId(1)));
        assert!(matches!(moving.step(true), Step::Wait));
        // Taken meanwhile; items come before the next source.
        let mut taken = 0;
        while taken < 31 {
            taken += inbox.try_iter().count();
            moving.step(false);
        }
        assert!(matches!(moving.step(true), Step::Begin(SourceId(2))));
    }
}
