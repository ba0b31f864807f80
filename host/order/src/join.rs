//! Connections, and joining a stream.
//!
//! `Connected` while the connection is thought to be up is a reconnect whose loss
//! was not heard of. Only when frames were faster than the word of their connection
//! is it that word. Shared streams have many engines: connections tell nothing of
//! any one of them, and are ignored.

use crate::machine::{Machine, PATIENCE, State, mutant};
use crate::verify::Why;
use crate::{Frame, Micros, Output, Transition};
use penstock_event::{GapReason, ResetReason, Sequence};

/// What a replay that is to be delivered is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The stream from its first sequence on.
    Join,
    /// What was missed before a reconnect to the same engine.
    Rejoin,
    /// What is missing before the frames that wait.
    Gap,
    /// What comes after the last batch, if anything.
    Tail,
}

// === impl Machine ===

impl<P: Frame> Machine<P> {
    pub(crate) fn connected(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        if self.config.shared {
            return;
        }
        self.up = true;
        self.heard = true;
        if std::mem::take(&mut self.implied) {
            return;
        }
        self.stop(out);
        self.wait_until = None;
        self.high = None;
        self.earlier = self.held.len();
        self.doubt = false;
        self.begin(now, None, out);
    }

    pub(crate) fn disconnected(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        if self.config.shared {
            return;
        }
        self.up = false;
        self.heard = true;
        self.implied = false;
        if matches!(self.state, State::New | State::Down) {
            return;
        }
        self.stop(out);
        if self.anchor().is_none() && self.held.is_empty() {
            // What it still holds may be of an engine that the next one replaces.
            self.distrust = self.config.replay;
            self.state = State::New;
            return;
        }
        self.took(Transition::Down);
        self.doubt = matches!(self.state, State::Verify(..));
        self.state = State::Down;
        if !self.buffer.is_empty() || !self.held.is_empty() {
            self.wait_until = Some(now.saturating_add(PATIENCE));
        }
    }

    /// No connection came for what waits.
    pub(crate) fn down_expired(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        self.took(Transition::DownExpired);
        self.wait_until = None;
        self.give_up(now, GapReason::ReplayTimeout, out);
        // Frames that went back: the next connection shows whose they were.
        self.earlier = 0;
        while self.held.pop().is_some() {
            self.left_out(out);
        }
    }

    pub(crate) fn announced(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        if self.anchor().is_none() && self.held.is_empty() {
            // Nothing of the old engine is known that could be void.
            return;
        }
        self.took(Transition::Announced);
        self.restart(now, ResetReason::Announced, false, out);
    }

    /// A connection is there: joins, or checks first whether what is known still
    /// holds. `first`: the sequence of the frame at hand.
    pub(crate) fn begin(&mut self, now: Micros, first: Option<Sequence>, out: &mut Vec<Output<P>>) {
        match self.anchor() {
            None => self.join(now, first, out),
            Some(anchor) if self.config.replay => {
                if mutant!(self, ContinuingIsProof) {
                    self.state = State::Live;
                    self.judge_held();
                    self.arm_tail(now);
                    return;
                }
                if self.resumed {
                    self.took(Transition::VerifyResume);
                    if mutant!(self, ResumesUnchecked) {
                        self.resumed = false;
                        out.push(Output::Resumed);
                        self.state = State::Live;
                        self.judge_held();
                        self.arm_tail(now);
                        return;
                    }
                } else {
                    self.took(Transition::VerifyReconnect);
                }
                self.verify(now, Why::Reconnect, anchor, out);
            }
            Some(_) => {
                self.took(Transition::NoProof);
                self.restart(now, ResetReason::Unproven, false, out);
            }
        }
    }

    /// Asks for the stream from its beginning.
    pub(crate) fn join(&mut self, now: Micros, first: Option<Sequence>, out: &mut Vec<Output<P>>) {
        self.attempts = 0;
        if first == Some(self.next) && (self.implied || !self.config.replay) {
            self.took(Transition::JoinAtFirst);
            self.state = State::Live;
        } else if self.config.replay {
            self.took(Transition::Join);
            self.state = State::Fill(Purpose::Join);
            if first.is_some_and(|first| first > self.next) {
                self.open_hole(out);
            }
            let mut from = self.next;
            if mutant!(self, RestartSkipsBeginning) && self.epoch.0 > 0 {
                from = first.unwrap_or(from);
            }
            self.ask(now, from, out);
        } else {
            self.state = State::Live;
        }
    }

    /// The batch by which the engine is known again: the last one delivered, or the
    /// first that waits.
    pub(crate) fn anchor(&self) -> Option<(Sequence, u64)> {
        let waits = || self.buffer.front().map(|w| (w.sequence, w.digest));
        self.last.or_else(waits)
    }
}
