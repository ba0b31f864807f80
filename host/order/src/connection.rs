//! Connections lost and found.

use crate::machine::{Machine, State};
use crate::replay::Purpose;
use crate::transition::{Transition, mutant};
use crate::{Frame, Micros, Output};
use penstock_event::ResetReason;

impl<P: Frame> Machine<P> {
    pub(crate) fn connected(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        match self.state {
            State::New => self.join(now, out),
            // One of several engines: whose connection it is, nothing tells.
            _ if self.config.shared => {}
            State::Down => self.reconnected(now, out),
            // A stream that was joined by its first frame, or a second endpoint.
            State::Joining if self.anchor.is_none() && self.high.is_none() => {}
            _ => {
                self.disconnected(out);
                self.reconnected(now, out);
            }
        }
    }

    pub(crate) fn disconnected(&mut self, out: &mut Vec<Output<P>>) {
        if self.config.shared || matches!(self.state, State::New | State::Down) {
            return;
        }
        self.step(Transition::Lost);
        self.stop_replay(out);
        self.state = State::Down;
        self.tail_due = None;
    }

    fn reconnected(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        self.high = None;
        if mutant!(self, ContinuingIsProof) {
            self.state = State::Live;
            self.silence(now);
            return;
        }
        let waiting = std::mem::replace(&mut self.buffer, crate::buffer::Buffer::new());
        self.before.merge(waiting);
        match self.anchor {
            // Nothing of this life was handed over: nothing can contradict it.
            None if self.before.is_empty() && self.next == self.config.first => {
                self.join(now, out);
            }
            Some((last, digest)) if self.config.replay => {
                self.step(Transition::Verify);
                self.state = State::Verifying;
                self.start_replay(now, Purpose::Verify { last, digest }, last, out);
            }
            _ => {
                self.step(Transition::Unproven);
                self.restart(now, ResetReason::Unproven, out);
            }
        }
    }
}
