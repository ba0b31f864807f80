//! Live frames: judging each against those of its connection.

use crate::buffer::Waiting;
use crate::join::Purpose;
use crate::machine::{Machine, PATIENCE, State, mutant};
use crate::verify::Why;
use crate::{Frame, Micros, Note, Output, Transition};
use penstock_event::{GapReason, ResetReason, Sequence};

// === impl Machine ===

impl<P: Frame> Machine<P> {
    /// A live frame, in whatever state.
    pub(crate) fn arrive(&mut self, now: Micros, w: Waiting<P>, out: &mut Vec<Output<P>>) {
        if w.sequence == Sequence::MAX {
            return;
        }
        if self.state == State::New && self.heard && !self.up {
            // What the lost connection still holds.
            self.state = State::Down;
            if self.resumed {
                self.took(Transition::ResumeDoubt);
                self.doubt = !mutant!(self, ResumesUnchecked);
            }
        } else if self.state == State::New {
            self.took(Transition::Implied);
            self.up = true;
            self.implied = true;
            self.begin(now, Some(w.sequence), out);
        }
        if self.state == State::Down && (self.doubt || !self.held.is_empty()) {
            self.hold_down(now, w, out);
            return;
        }
        if let State::Verify(why, _) = self.state {
            self.hold_unverified(now, why, w, out);
            return;
        }
        if self.anchor().is_none() && w.sequence < self.next {
            // The publisher begins lower than configured.
            self.next = w.sequence;
        }
        if self.suspicious() && self.beside_suspects(&w, out) {
            self.suspect(now, w, out);
            return;
        }
        if !self.is_back(w.sequence) {
            if self.is_second_track(&w, out) {
                return;
            }
            self.forward(now, w, out);
            return;
        }
        let known = self.known(w.sequence);
        if known == Some(w.digest) {
            self.repeat(now, w, out);
        } else if known.is_none() && self.replay_was_faster(w.sequence) {
            if mutant!(self, JudgeByReplayed) {
                self.held.push(w);
                self.restart(now, ResetReason::Backwards, false, out);
                return;
            }
            self.took(Transition::LateLive);
            self.high = Some(w.sequence);
            self.recent.push(w.sequence, w.digest);
            self.arm_tail(now);
            Self::note(Note::Duplicate, out);
        } else if !self.is_second_track(&w, out) {
            self.went_back(now, w, out);
        }
    }

    pub(crate) fn is_back(&self, sequence: Sequence) -> bool {
        sequence < self.next || self.high.is_some_and(|high| sequence <= high)
    }

    /// Above every live frame of this connection, and yet delivered: by replay.
    fn replay_was_faster(&self, sequence: Sequence) -> bool {
        self.high.is_some_and(|high| sequence > high)
    }

    /// An exact repeat of a recent frame.
    fn repeat(&mut self, now: Micros, w: Waiting<P>, out: &mut Vec<Output<P>>) {
        self.took(Transition::Repeat);
        self.arm_tail(now);
        if self.high.is_none_or(|high| high < w.sequence) {
            self.high = Some(w.sequence);
        }
        Self::note(Note::Duplicate, out);
        if mutant!(self, RepeatDelivered) && w.sequence < self.next {
            out.push(Output::Deliver {
                epoch: self.epoch,
                sequence: w.sequence,
                frame: w.frame,
                digest: w.digest,
                replayed: false,
            });
        }
    }

    /// An old sequence that is no repeat of anything remembered.
    fn went_back(&mut self, now: Micros, w: Waiting<P>, out: &mut Vec<Output<P>>) {
        if self.config.shared {
            self.suspect(now, w, out);
        } else if self.state == State::Down && self.config.replay {
            self.hold_down(now, w, out);
        } else if let Some(anchor) = self.anchor().filter(|_| self.config.replay) {
            self.took(Transition::VerifyBackwards);
            self.verify(now, Why::Backwards, anchor, out);
            self.hold_unverified(now, Why::Backwards, w, out);
        } else {
            self.took(Transition::Backwards);
            self.held.push(w);
            self.restart(now, ResetReason::Backwards, false, out);
        }
    }

    /// A frame of a lost connection that only the next one can judge.
    fn hold_down(&mut self, now: Micros, w: Waiting<P>, out: &mut Vec<Output<P>>) {
        self.held.push(w);
        self.wait_until.get_or_insert(now.saturating_add(PATIENCE));
        if self.held.over(&self.buffer, &self.config) {
            self.down_expired(now, out);
        }
    }

    /// A frame above all live ones of this connection, and not delivered yet.
    fn forward(&mut self, now: Micros, w: Waiting<P>, out: &mut Vec<Output<P>>) {
        self.went_on(now, w.sequence);
        if self.buffer.back().is_some_and(|b| w.sequence <= b.sequence) {
            // What waits came by an earlier connection, and lies behind this: of an
            // engine before.
            self.leave_buffer(out);
        }
        let unsure = self.distrust || self.state == State::Fill(Purpose::Join);
        if w.sequence == self.next && self.buffer.is_empty() && !unsure {
            self.deliver(w.sequence, w.digest, w.frame, false, out);
            return;
        }
        if !self.config.replay {
            self.took(Transition::GapNoReplay);
            self.lose(w.sequence, GapReason::NoReplay, out);
            self.close_hole(out);
            self.deliver(w.sequence, w.digest, w.frame, false, out);
            return;
        }
        self.buffer.push(w);
        match self.state {
            State::Live | State::Fill(Purpose::Tail | Purpose::Rejoin) if self.distrust => {
                self.attempts = 0;
                self.state = State::Fill(Purpose::Join);
                self.ask(now, self.next, out);
            }
            State::Live => {
                self.took(Transition::GapOpen);
                self.open_hole(out);
                self.attempts = 0;
                self.state = State::Fill(Purpose::Gap);
                self.ask(now, self.next, out);
            }
            State::Fill(Purpose::Tail | Purpose::Rejoin) => {
                // The replay under way may have begun too early for it; if so it
                // ends short, and is asked for again.
                self.took(Transition::TailGap);
                self.open_hole(out);
                self.attempts = 0;
                self.state = State::Fill(Purpose::Gap);
            }
            State::Down => {
                self.open_hole(out);
                self.wait_until.get_or_insert(now.saturating_add(PATIENCE));
            }
            State::Fill(Purpose::Join | Purpose::Gap) | State::New | State::Verify(..) => {}
        }
        if self.buffer.over(&self.held, &self.config) && !mutant!(self, NoBound) {
            self.took(Transition::Overflow);
            if mutant!(self, OverflowDrops) {
                while let Some(w) = self.buffer.pop() {
                    self.next = w.sequence + 1;
                }
                self.stop(out);
                self.state = State::Live;
                return;
            }
            self.give_up(now, GapReason::BufferFull, out);
        }
    }
}
