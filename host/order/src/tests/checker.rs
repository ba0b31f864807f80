//! The reference model: what may come out, given what the engine published. It knows
//! the truth, since each batch says who published it.

use super::{Batch, In, Out};
use crate::{Config, Frame, Input, Micros, Note, Output, ReplayId, Status};
use penstock_event::{Epoch, GapReason, Mark, Position, ResetReason};

/// What a run promises the machine, so how much may be demanded of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Replays answer, lose nothing, and the engine keeps all: nothing may be
    /// missing, and no restart reported that was none.
    pub(super) reliable: bool,
    /// One publisher, whose restarts can be known.
    pub(super) one_life_an_epoch: bool,
}

pub(super) struct Checker {
    terms: Terms,
    first: u64,
    epoch: Epoch,
    /// The sequence to come next.
    next: u64,
    /// Life of the epoch's batches, once one came.
    life: Option<u32>,
    complete: bool,
    started: u64,
    pub(super) running: Option<ReplayId>,
    opened: u32,
    filled: u32,
    /// The missing ranges of this epoch.
    pub(super) missing: u64,
    pub(super) resets: u32,
    pub(super) two_publishers: u32,
    /// Live frames that came, and those that were delivered or left out.
    came: u64,
    settled: u64,
    /// What a daemon might have written down after each batch, the newest last.
    pub(super) saved: Vec<Saved>,
    /// The machine began with one of them, and nothing came of it yet.
    resumed: bool,
    /// Connections were lost since the last reset, and no replay to prove anything.
    pub(super) unproven: bool,
}

/// What is known after a batch was applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saved {
    epoch: Epoch,
    batch: Batch,
    pub(super) complete: bool,
}

/// Batches that a checkpoint may lag behind.
const SAVED: usize = 40;

pub(super) type Verdict = Result<(), String>;

macro_rules! demand {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(format!($($why)*));
        }
    };
}
pub(super) use demand;

impl Checker {
    pub(super) fn new(terms: Terms, config: &Config) -> Self {
        Self {
            terms,
            first: config.first,
            epoch: Epoch(0),
            next: config.first,
            life: None,
            complete: true,
            started: 0,
            running: None,
            opened: 0,
            filled: 0,
            missing: 0,
            resets: 0,
            two_publishers: 0,
            came: 0,
            settled: 0,
            saved: Vec::new(),
            resumed: false,
            unproven: false,
        }
    }

    /// The daemon is killed, and another one goes on from what was `saved`: all that
    /// came after it is forgotten, with what waited and was asked for.
    pub(super) fn resume(&mut self, saved: Saved, has_replay: bool) {
        let Saved {
            epoch,
            batch,
            complete,
        } = saved;
        self.epoch = epoch;
        self.next = batch.sequence + 1;
        self.life = Some(batch.life);
        self.complete = complete;
        (self.started, self.running) = (0, None);
        (self.opened, self.filled) = (0, 0);
        (self.came, self.settled) = (0, 0);
        self.missing = 0;
        self.resumed = true;
        self.unproven = !has_replay;
    }

    pub(super) fn input(&mut self, input: &In) {
        self.came += u64::from(matches!(input, Input::Live { .. }));
    }

    /// One output. `life`: the engine's, now.
    pub(super) fn output(&mut self, output: &Out, life: u32) -> Verdict {
        match output {
            Output::Deliver {
                epoch,
                sequence,
                frame,
                digest,
                replayed,
            } => {
                demand!(*digest == frame.digest(), "another's digest");
                self.settled += u64::from(!replayed);
                self.delivered(*epoch, *sequence, frame)
            }
            Output::Gap {
                epoch,
                first,
                last,
                reason,
            } => self.gap(*epoch, *first, *last, *reason, life),
            Output::Reset { epoch, reason } => self.reset(*epoch, *reason, life),
            Output::Resumed => {
                demand!(self.resumed, "resumed, and there was no checkpoint");
                let same = self.life == Some(life);
                demand!(same, "resumed with life {:?} at life {life}", self.life);
                self.resumed = false;
                Ok(())
            }
            Output::StartReplay { replay, .. } => {
                demand!(replay.0 > self.started, "{replay:?} was used before");
                demand!(self.running.is_none(), "{replay:?} beside another");
                self.started = replay.0;
                self.running = Some(*replay);
                Ok(())
            }
            Output::StopReplay { replay } => {
                demand!(self.running == Some(*replay), "{replay:?} does not run");
                self.running = None;
                Ok(())
            }
            Output::Note(Note::GapOpened) => {
                self.opened += 1;
                Ok(())
            }
            Output::Note(Note::GapFilled) => {
                self.filled += 1;
                demand!(self.filled <= self.opened, "more gaps filled than opened");
                Ok(())
            }
            Output::Note(Note::TwoPublishers) => {
                self.settled += 1;
                self.two_publishers += 1;
                self.complete = false;
                Ok(())
            }
            Output::Note(Note::Duplicate | Note::Stale) => {
                self.settled += 1;
                Ok(())
            }
        }
    }

    fn delivered(&mut self, epoch: Epoch, sequence: u64, batch: &Batch) -> Verdict {
        demand!(!self.resumed, "{batch:?} before the checkpoint was checked");
        demand!(epoch == self.epoch, "{epoch:?} without its reset");
        demand!(batch.sequence == sequence, "{batch:?} as {sequence}");
        demand!(
            sequence == self.next,
            "{sequence} where {} is next",
            self.next
        );
        let of_epoch = *self.life.get_or_insert(batch.life);
        demand!(
            of_epoch == batch.life || !self.terms.one_life_an_epoch,
            "{batch:?} in the epoch of life {of_epoch}"
        );
        self.next = sequence + 1;
        if self.saved.len() == SAVED {
            self.saved.remove(0);
        }
        self.saved.push(Saved {
            epoch,
            batch: *batch,
            complete: self.complete,
        });
        Ok(())
    }

    fn gap(&mut self, epoch: Epoch, first: u64, last: u64, why: GapReason, now: u32) -> Verdict {
        demand!(!self.resumed, "a gap before the checkpoint was checked");
        demand!(epoch == self.epoch, "a gap in {epoch:?}, without its reset");
        demand!(
            first == self.next && last >= first,
            "gap {first}..={last} where {} is next",
            self.next
        );
        let over = self.life.is_some_and(|life| life < now) || self.life.is_none() && now > 0;
        demand!(
            over || !self.terms.reliable,
            "gap {first}..={last} {why:?}, and the engine has it all"
        );
        self.next = last + 1;
        self.complete = false;
        self.missing += last - first + 1;
        Ok(())
    }

    fn reset(&mut self, epoch: Epoch, why: ResetReason, now: u32) -> Verdict {
        demand!(
            epoch == self.epoch.next(),
            "{epoch:?} after {:?}",
            self.epoch
        );
        let restarted = self.life.is_none_or(|life| life < now);
        let excused = match why {
            ResetReason::Unproven => self.unproven || !self.terms.reliable,
            ResetReason::Backwards => !self.terms.reliable,
            ResetReason::ContentDiffers | ResetReason::Announced => false,
        };
        demand!(
            restarted || excused || !self.terms.one_life_an_epoch,
            "a reset ({why:?}), and the engine is the same"
        );
        self.epoch = epoch;
        self.next = self.first;
        self.life = None;
        self.complete = true;
        self.missing = 0;
        self.resets += 1;
        self.unproven = false;
        self.resumed = false;
        Ok(())
    }

    /// A replay ended by itself.
    pub(super) fn over(&mut self, replay: ReplayId) {
        self.running = self.running.filter(|r| *r != replay);
    }

    /// After each input.
    pub(super) fn after(
        &self,
        status: Status,
        deadline: Option<Micros>,
        config: &Config,
    ) -> Verdict {
        demand!(
            status.buffered <= config.buffer_frames,
            "{} frames wait",
            status.buffered
        );
        let accounted = self.settled + status.buffered as u64;
        demand!(
            self.came == accounted,
            "{} live frames came, {accounted} are accounted for",
            self.came
        );
        let waits = status.buffered > 0 || self.running.is_some();
        demand!(!waits || deadline.is_some(), "waits for ever: {status:?}");
        demand!(
            status.complete == self.complete,
            "complete: {}, in truth {}",
            status.complete,
            self.complete
        );
        Ok(())
    }

    /// The engine was heard, so the checkpoint was judged.
    pub(super) fn judged(&self) -> bool {
        !self.resumed
    }

    /// The life that the consumer is with, if it has anything.
    pub(super) fn life(&self) -> Option<u32> {
        self.life
    }

    /// The next sequence the consumer expects.
    pub(super) fn next(&self) -> u64 {
        self.next
    }
}

// === impl Saved ===

impl Saved {
    pub(super) fn mark(&self) -> Mark {
        Mark {
            position: Position {
                epoch: self.epoch,
                sequence: self.batch.sequence,
            },
            digest: self.batch.digest(),
        }
    }
}
