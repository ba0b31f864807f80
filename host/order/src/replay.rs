//! Replays: what they are for, and what becomes of what they bring.

use crate::machine::{Machine, State};
use crate::transition::{Transition, mutant};
use crate::{Frame, Micros, Output, ReplayId};
use penstock_event::{GapReason, ResetReason, Sequence};

/// A replay that was asked for and is not over.
#[derive(Debug)]
pub(crate) struct Replay {
    pub id: ReplayId,
    pub purpose: Purpose,
    /// It is given up then.
    pub deadline: Micros,
    /// It brought something new.
    progress: bool,
    /// It brought anything.
    heard: bool,
    /// Replays before it that brought nothing new.
    attempts: u32,
    /// The start of a hole that was asked for again.
    hole: Option<Sequence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Everything from the first sequence on.
    Join,
    /// What is missing before the frames that wait.
    Fill,
    /// What comes after the last frame, if anything.
    Tail,
    /// The last batch, to be compared, and what comes after it.
    Verify { last: Sequence, digest: u64 },
}

/// Longest time in the queue of replays: it waits for those of other sources.
const QUEUE_WAIT: Micros = 30_000_000;

impl<P: Frame> Machine<P> {
    pub(crate) fn start_replay(
        &mut self,
        now: Micros,
        purpose: Purpose,
        from: Sequence,
        out: &mut Vec<Output<P>>,
    ) {
        let id = self.next_replay_id();
        let old = self.replay.replace(Replay {
            id,
            purpose,
            deadline: now + QUEUE_WAIT,
            progress: false,
            heard: false,
            attempts: 0,
            hole: None,
        });
        if let Some(old) = old {
            out.push(Output::StopReplay { replay: old.id });
        }
        if mutant!(self, NoDeadline)
            && let Some(replay) = &mut self.replay
        {
            replay.deadline = Micros::MAX;
        }
        out.push(Output::StartReplay { replay: id, from });
    }

    pub(crate) fn stop_replay(&mut self, out: &mut Vec<Output<P>>) {
        if let Some(replay) = &self.replay {
            out.push(Output::StopReplay { replay: replay.id });
        }
        // What it was for is still known to whoever goes on from here.
        self.last_replay = self.replay.take();
    }

    pub(crate) fn replay_started(&mut self, now: Micros, id: ReplayId) {
        let wait = self.config.replay_wait;
        if let Some(replay) = self.current(id) {
            replay.deadline = replay.deadline.min(now + wait);
        }
    }

    fn current(&mut self, id: ReplayId) -> Option<&mut Replay> {
        self.replay.as_mut().filter(|r| r.id == id)
    }

    pub(crate) fn replayed(
        &mut self,
        now: Micros,
        id: ReplayId,
        sequence: Sequence,
        frame: P,
        out: &mut Vec<Output<P>>,
    ) {
        let wait = self.config.replay_wait;
        let stale_taken = mutant!(self, StaleReplayTaken);
        let Some(replay) = self.replay.as_mut().filter(|r| r.id == id || stale_taken) else {
            self.step(Transition::Stale);
            return;
        };
        if replay.deadline != Micros::MAX {
            replay.deadline = now + wait;
        }
        let first = !std::mem::replace(&mut replay.heard, true);
        if let Purpose::Verify { last, digest } = replay.purpose {
            self.verify(now, sequence, last, frame.digest() == digest, out);
            return;
        }
        if sequence < self.next {
            self.step(Transition::Overlap);
            return;
        }
        if sequence > self.next && !self.bridge(now, sequence, first, out) {
            return;
        }
        if sequence < self.next {
            // It waited already, and was handed over on the way.
            self.step(Transition::Overlap);
        } else {
            self.take_replayed(frame, out);
        }
        self.spliced(now, out);
    }

    fn take_replayed(&mut self, frame: P, out: &mut Vec<Output<P>>) {
        self.step(Transition::Replayed);
        if let Some(replay) = &mut self.replay {
            replay.progress = true;
            replay.attempts = 0;
            let tail = replay.purpose == Purpose::Tail;
            if tail && self.gap.is_none() {
                self.step(Transition::TailFound);
                self.open_gap(out);
            } else if self.state == State::Filling {
                self.open_gap(out);
            }
        }
        self.deliver(frame, true, out);
        self.drain(out);
    }

    /// Everything that waited was reached.
    fn spliced(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        let reached = self.high.is_some_and(|high| high < self.next);
        let waited = matches!(self.state, State::Joining | State::Filling);
        if waited && reached && self.buffer.is_empty() && self.replay.is_some() {
            self.stop_replay(out);
            self.settle(now, out);
        }
    }

    /// A replay jumps ahead to `sequence`. False: it was asked for again instead.
    fn bridge(
        &mut self,
        now: Micros,
        sequence: Sequence,
        first: bool,
        out: &mut Vec<Output<P>>,
    ) -> bool {
        self.drain(out);
        if self.next >= sequence {
            return true;
        }
        let next = self.next;
        let Some(replay) = &mut self.replay else {
            return false;
        };
        if !first && replay.hole != Some(next) {
            // Lost on the way, or not there? Asked once more, from the hole.
            let purpose = replay.purpose;
            self.step(Transition::HoleAsked);
            self.start_replay(now, purpose, next, out);
            if let Some(replay) = &mut self.replay {
                replay.hole = Some(next);
            }
            return false;
        }
        let hidden = if first {
            self.step(Transition::Truncated);
            mutant!(self, TruncationHidden)
        } else {
            self.step(Transition::HoleReported);
            mutant!(self, HoleHidden)
        };
        if hidden {
            self.next = sequence;
            return true;
        }
        if self
            .replay
            .as_ref()
            .is_some_and(|r| r.purpose == Purpose::Tail)
        {
            self.open_gap(out);
        }
        self.give_up_to(sequence, GapReason::Truncated, out);
        true
    }

    /// The first frame after a reconnect: is this the engine we knew?
    fn verify(
        &mut self,
        now: Micros,
        sequence: Sequence,
        last: Sequence,
        same: bool,
        out: &mut Vec<Output<P>>,
    ) {
        if sequence < last {
            // Not what was asked for; the batch in question may still come.
            return;
        }
        if sequence > last {
            self.step(Transition::Unproven);
            self.restart(now, ResetReason::Unproven, out);
            return;
        }
        if !same && !mutant!(self, DigestIgnored) {
            self.step(Transition::ContentDiffers);
            let waiting = std::mem::replace(&mut self.buffer, crate::buffer::Buffer::new());
            let high = self.high;
            self.restart(now, ResetReason::ContentDiffers, out);
            // What came live since the reconnect is of the new life.
            self.buffer = waiting;
            self.high = high;
            return;
        }
        self.step(Transition::Verified);
        let before = std::mem::replace(&mut self.before, crate::buffer::Buffer::new());
        self.buffer.merge(before);
        self.state = State::Filling;
        if let Some(replay) = &mut self.replay {
            replay.purpose = Purpose::Fill;
        }
        self.drain(out);
    }

    pub(crate) fn replay_end(&mut self, now: Micros, id: ReplayId, out: &mut Vec<Output<P>>) {
        if self.current(id).is_none() {
            self.step(Transition::Stale);
            return;
        }
        self.last_replay = self.replay.take();
        self.replay_short(now, GapReason::Truncated, out);
    }

    pub(crate) fn replay_failed(&mut self, now: Micros, id: ReplayId, out: &mut Vec<Output<P>>) {
        if self.current(id).is_none() {
            self.step(Transition::Stale);
            return;
        }
        self.step(Transition::Failed);
        self.last_replay = self.replay.take();
        self.replay_short(now, GapReason::ReplayTimeout, out);
    }

    /// A replay is over; whatever it was for may not be reached yet.
    pub(crate) fn replay_short(
        &mut self,
        now: Micros,
        reason: GapReason,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(old) = self.last_replay.take() else {
            return;
        };
        if mutant!(self, BufferForgotten) {
            self.buffer = crate::buffer::Buffer::new();
        }
        let ended = reason == GapReason::Truncated;
        self.drain(out);
        match old.purpose {
            Purpose::Tail => self.tail_over(now, &old, ended, out),
            Purpose::Verify { last, .. } => {
                if ended || old.attempts + 1 >= self.config.replay_attempts {
                    self.step(Transition::Unproven);
                    self.restart_keeping(now, out);
                } else {
                    self.ask_again(now, &old, last, out);
                }
            }
            Purpose::Join | Purpose::Fill => {
                let Some(first) = self.buffer.first() else {
                    self.settle(now, out);
                    return;
                };
                if old.progress || old.attempts + 1 < self.config.replay_attempts {
                    self.ask_again(now, &old, self.next, out);
                    return;
                }
                self.give_up_to(first, reason, out);
                if self.buffer.is_empty() {
                    self.settle(now, out);
                } else {
                    self.state = State::Filling;
                    self.open_gap(out);
                    self.start_replay(now, Purpose::Fill, self.next, out);
                }
            }
        }
    }

    fn tail_over(&mut self, now: Micros, old: &Replay, ended: bool, out: &mut Vec<Output<P>>) {
        let found = self.gap.is_some();
        self.close_gap(out);
        self.state = State::Live;
        if found || old.progress {
            // The end moved: look once more.
            self.silence(now);
        } else if ended {
            self.step(Transition::TailClean);
        }
    }

    /// Unproven, with frames of the new connection at hand: they stay.
    fn restart_keeping(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        let waiting = std::mem::replace(&mut self.buffer, crate::buffer::Buffer::new());
        let high = self.high;
        self.restart(now, ResetReason::Unproven, out);
        self.buffer = waiting;
        self.high = high;
    }

    fn ask_again(&mut self, now: Micros, old: &Replay, from: Sequence, out: &mut Vec<Output<P>>) {
        let again = if old.progress {
            Transition::AskedOn
        } else {
            Transition::AskedAgain
        };
        self.step(again);
        self.start_replay(now, old.purpose, from, out);
        if let Some(replay) = &mut self.replay {
            replay.attempts = if old.progress { 0 } else { old.attempts + 1 };
            replay.hole = old.hole;
        }
    }
}
