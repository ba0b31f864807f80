//! The tail check: a publisher at its high-water mark drops the *end* of a burst,
//! which no later sequence reveals while the engine is idle. So silence is checked,
//! once: everything after the last batch is asked for. Frames that come are
//! delivered and the check made again; an empty answer ends it. No answer is not a
//! gap: the check is made again, each time later.

use crate::join::Purpose;
use crate::machine::{Machine, State, mutant};
use crate::{Frame, Micros, Output, Transition};

/// Unanswered checks are made again at most this many doublings later.
const DOUBLINGS: u32 = 6;

// === impl Machine ===

impl<P: Frame> Machine<P> {
    /// The silence begins now.
    pub(crate) fn arm_tail(&mut self, now: Micros) {
        if self.config.replay && !mutant!(self, NoTailCheck) {
            self.tail_due = Some(now.saturating_add(self.config.tail_after));
        }
    }

    /// The silence was long enough.
    pub(crate) fn check_tail(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        self.took(Transition::TailCheck);
        self.tail_due = None;
        self.attempts = 0;
        self.state = State::Fill(Purpose::Tail);
        self.ask(now, self.next, out);
    }

    /// The answer came to its end.
    pub(crate) fn tail_checked(&mut self, found: bool, now: Micros, out: &mut Vec<Output<P>>) {
        self.unanswered = 0;
        if found && !mutant!(self, TailOnce) {
            self.took(Transition::TailFound);
            self.ask(now, self.next, out);
        } else {
            self.took(Transition::TailEmpty);
            self.state = State::Live;
        }
    }

    /// No answer: later again, since a lost end shows nowhere else.
    pub(crate) fn tail_later(&mut self, now: Micros) {
        self.state = State::Live;
        if self.config.replay && !mutant!(self, NoTailCheck) {
            let factor = 1 << self.unanswered.min(DOUBLINGS);
            let wait = self.config.tail_after.saturating_mul(factor);
            self.tail_due = Some(now.saturating_add(wait));
        }
        self.unanswered = self.unanswered.saturating_add(1);
    }
}
