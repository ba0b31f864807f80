//! The tail check: a publisher at its high-water mark drops the *end* of a burst,
//! which no later sequence reveals while the engine is idle. So silence is checked:
//! everything after the last batch is asked for. Frames that come are delivered and
//! the check made again at once; after an empty answer, or none, it is made again
//! each time later, since an engine whose live frames do not arrive (its topic is
//! another one) looks just as silent. No answer is not a gap.

use crate::join::Purpose;
use crate::machine::{Machine, State, mutant};
use crate::{Frame, Micros, Output, Transition};

/// Checks are made again at most this many doublings later: about a minute.
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
        if found && mutant!(self, TailOnce) {
            self.state = State::Live;
        } else if found {
            self.took(Transition::TailFound);
            self.checks = 0;
            self.ask(now, self.next, out);
        } else {
            self.took(Transition::TailEmpty);
            self.tail_later(now);
        }
    }

    /// Later again: a lost end shows nowhere else.
    pub(crate) fn tail_later(&mut self, now: Micros) {
        self.state = State::Live;
        if self.config.replay && !mutant!(self, NoTailCheck) {
            let factor = 1 << self.checks.min(DOUBLINGS);
            let wait = self.config.tail_after.saturating_mul(factor);
            self.tail_due = Some(now.saturating_add(wait));
        }
        self.checks = self.checks.saturating_add(1);
    }
}
