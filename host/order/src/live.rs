//! Live frames.

use crate::machine::{Machine, State};
use crate::replay::Purpose;
use crate::transition::{Transition, mutant};
use crate::{Frame, Micros, Note, Output};
use penstock_event::{GapReason, ResetReason, Sequence};

/// How a live frame stands to those before it.
enum Place {
    /// It goes on.
    Forward,
    /// It came before, the same.
    Again,
    /// It went back, and is nothing that came before.
    Back,
}

impl<P: Frame> Machine<P> {
    pub(crate) fn live(
        &mut self,
        now: Micros,
        sequence: Sequence,
        frame: P,
        out: &mut Vec<Output<P>>,
    ) {
        if self.state == State::New {
            // The frame is faster than the news of its connection.
            self.join(now, out);
        }
        match self.place(sequence, &frame) {
            Place::Forward => {}
            Place::Again => {
                self.step(Transition::Duplicate);
                out.push(Output::Note(Note::Duplicate));
                if mutant!(self, DuplicateDelivered) {
                    out.push(Output::Deliver {
                        epoch: self.epoch,
                        sequence,
                        frame,
                        replayed: false,
                    });
                }
                return;
            }
            Place::Back if self.config.shared => {
                self.suspect(now, sequence, frame, out);
                return;
            }
            Place::Back => {
                self.step(Transition::Backwards);
                self.restart(now, ResetReason::Backwards, out);
            }
        }
        if self.config.shared {
            self.old_track_goes_on(out);
        }
        self.forward(now, sequence, frame, out);
    }

    /// A frame that goes on, in whatever state.
    pub(crate) fn forward(
        &mut self,
        now: Micros,
        sequence: Sequence,
        frame: P,
        out: &mut Vec<Output<P>>,
    ) {
        self.high = Some(self.high.map_or(sequence, |high| high.max(sequence)));
        if sequence < self.next {
            // A replay was faster.
            self.step(Transition::Overlap);
            return;
        }
        if sequence == self.next && !matches!(self.state, State::Verifying | State::Down) {
            self.step(Transition::Next);
            self.deliver(frame, false, out);
            if !self.buffer.is_empty() {
                self.drain(out);
            }
            match self.state {
                State::Live => self.silence(now),
                State::Filling if self.buffer.is_empty() => {
                    self.stop_replay(out);
                    self.settle(now, out);
                }
                _ => {}
            }
            return;
        }
        self.ahead(now, sequence, frame, out);
    }

    /// A frame that must wait, or that shows what is missing.
    fn ahead(&mut self, now: Micros, sequence: Sequence, frame: P, out: &mut Vec<Output<P>>) {
        if !self.config.replay && !matches!(self.state, State::Down | State::Verifying) {
            self.step(Transition::GapWithoutReplay);
            if self.anchor.is_some() {
                self.open_gap(out);
            }
            self.give_up_to(sequence, GapReason::NoReplay, out);
            self.gap = None;
            self.deliver(frame, false, out);
            return;
        }
        self.step(Transition::Buffered);
        self.buffer.insert(sequence, frame);
        match self.state {
            State::Live => {
                self.open_gap(out);
                self.tail_due = None;
                self.state = State::Filling;
                self.start_replay(now, Purpose::Fill, self.next, out);
            }
            State::Tail => {
                self.open_gap(out);
                self.state = State::Filling;
                // It may have begun before the missing ones were published; if so,
                // it ends short and is asked for again.
                if let Some(replay) = &mut self.replay {
                    replay.purpose = Purpose::Fill;
                }
            }
            _ => {}
        }
        self.check_overflow(now, out);
    }

    fn check_overflow(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        let frames = self.buffer.len() + self.before.len();
        let bytes = self.buffer.bytes() + self.before.bytes();
        if frames <= self.config.buffer_frames && bytes <= self.config.buffer_bytes {
            return;
        }
        self.step(Transition::Overflow);
        self.stop_replay(out);
        if mutant!(self, OverflowDrops) {
            self.buffer = crate::buffer::Buffer::new();
            self.settle(now, out);
            return;
        }
        if matches!(self.state, State::Verifying | State::Down) {
            // No time is left to show that the stream is the same.
            let waiting = std::mem::replace(&mut self.buffer, crate::buffer::Buffer::new());
            self.step(Transition::Unproven);
            self.restart(now, ResetReason::Unproven, out);
            self.stop_replay(out);
            self.buffer = waiting;
        }
        let Some(first) = self.buffer.first() else {
            return;
        };
        self.give_up_to(first, GapReason::BufferFull, out);
        if self.buffer.is_empty() {
            self.settle(now, out);
        } else {
            // Further holes: what is missing behind the first one is asked for.
            self.state = State::Filling;
            self.open_gap(out);
            self.start_replay(now, Purpose::Fill, self.next, out);
        }
    }

    fn place(&self, sequence: Sequence, frame: &P) -> Place {
        let behind = if mutant!(self, JudgedByReplay) {
            sequence < self.next
        } else {
            self.high.is_some_and(|high| sequence <= high)
        };
        if behind {
            return match self.recalled(sequence) {
                Some(digest) if digest == frame.digest() => Place::Again,
                _ => Place::Back,
            };
        }
        // Not behind what came live, but known by replay: another content means
        // that the replay was of another life.
        let known = sequence < self.next && self.state != State::Down;
        match self.recalled(sequence).filter(|_| known) {
            Some(digest) if digest != frame.digest() => Place::Back,
            _ => Place::Forward,
        }
    }
}
