//! Is this still the engine that was known? Sequences that go on prove nothing: the
//! last batch is asked for again and its digest compared. Meanwhile live frames are
//! held, unjudged.

use crate::buffer::Waiting;
use crate::join::Purpose;
use crate::machine::{Machine, State, mutant};
use crate::{Frame, Micros, Output, Transition};
use penstock_event::{ResetReason, Sequence};

/// What called the engine's identity in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A new connection, or the first one after a checkpoint.
    Reconnect,
    /// A live frame that went back.
    Backwards,
}

// === impl Machine ===

impl<P: Frame> Machine<P> {
    pub(crate) fn verify(
        &mut self,
        now: Micros,
        why: Why,
        anchor: (Sequence, u64),
        out: &mut Vec<Output<P>>,
    ) {
        self.attempts = 0;
        self.state = State::Verify(why, anchor);
        self.ask(now, anchor.0, out);
    }

    /// A live frame meanwhile.
    pub(crate) fn hold_unverified(
        &mut self,
        now: Micros,
        why: Why,
        w: Waiting<P>,
        out: &mut Vec<Output<P>>,
    ) {
        self.held.push(w);
        if self.held.over(&self.buffer, &self.config) && !mutant!(self, NoBound) {
            self.took(Transition::VerifyOverflow);
            self.restart(now, self.reason(why, ResetReason::Unproven), false, out);
        }
    }

    /// The replay's frames, until one tells.
    pub(crate) fn compare(
        &mut self,
        now: Micros,
        why: Why,
        anchor: (Sequence, u64),
        sequence: Sequence,
        frame: P,
        out: &mut Vec<Output<P>>,
    ) {
        let known = if sequence == anchor.0 {
            Some(anchor.1)
        } else {
            self.recent.find(sequence)
        };
        match known {
            Some(digest) if digest == frame.digest() || mutant!(self, DigestIgnored) => {
                self.took(Transition::Proven);
                self.proven(now, sequence, frame, out);
            }
            Some(_) => {
                self.took(Transition::Differs);
                self.restart(
                    now,
                    self.reason(why, ResetReason::ContentDiffers),
                    true,
                    out,
                );
            }
            None if sequence > anchor.0 => {
                self.took(Transition::Evicted);
                self.restart(now, self.reason(why, ResetReason::Unproven), true, out);
            }
            // Not what was asked for; the batch in question may still come.
            None => {}
        }
    }

    /// The engine is the same: its replay goes on and fills what was missed.
    fn proven(&mut self, now: Micros, sequence: Sequence, frame: P, out: &mut Vec<Output<P>>) {
        self.attempts = 0;
        if std::mem::take(&mut self.resumed) {
            self.took(Transition::Resumed);
            out.push(Output::Resumed);
            self.mutate_resumed();
        }
        // All delivered up to now is this engine's.
        self.live_seen = false;
        let strange =
            |w: &Waiting<P>| self.is_back(w.sequence) && self.known(w.sequence) != Some(w.digest);
        if self.held.any(strange) || self.held.last_turn() > 0 {
            self.leave_strangers(out);
        } else {
            self.judge_held();
        }
        if self.last.is_none() {
            // It was known by a frame that waits: the stream still begins before it.
            self.join(now, None, out);
            return;
        }
        self.state = State::Fill(if self.distrust {
            Purpose::Join
        } else if self.buffer.is_empty() {
            Purpose::Rejoin
        } else {
            Purpose::Gap
        });
        self.fill(now, sequence, frame, out);
    }

    /// What a resume may get wrong, in tests.
    fn mutate_resumed(&mut self) {
        if mutant!(self, ResumesInFirstEpoch) {
            self.epoch = penstock_event::Epoch(0);
        }
        if mutant!(self, ResumesAtSaved) {
            self.next -= 1;
        }
        if mutant!(self, ResumesComplete) {
            self.complete = true;
        }
    }

    /// Frames that came are not all of the engine that is there: the connection still
    /// held some of an earlier one, or brings another path's. None of them is taken on
    /// trust; the replay brings those that are the engine's.
    fn leave_strangers(&mut self, out: &mut Vec<Output<P>>) {
        self.took(Transition::Strangers);
        self.distrust = true;
        self.high = None;
        self.earlier = 0;
        self.leave_buffer(out);
        while self.held.pop().is_some() {
            self.left_out(out);
        }
    }

    /// The replay ended without the batch in question.
    pub(crate) fn no_proof_in(&mut self, now: Micros, why: Why, out: &mut Vec<Output<P>>) {
        self.took(Transition::Empty);
        self.restart(now, self.reason(why, ResetReason::Unproven), true, out);
    }

    /// No answer: asked again, a few times.
    pub(crate) fn unanswered(
        &mut self,
        now: Micros,
        why: Why,
        anchor: (Sequence, u64),
        out: &mut Vec<Output<P>>,
    ) {
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts < self.config.replay_attempts {
            self.took(Transition::Retry);
            self.ask(now, anchor.0, out);
        } else {
            self.took(Transition::Unanswered);
            self.restart(now, self.reason(why, ResetReason::Unproven), false, out);
        }
    }

    /// A sequence that went back says more than a missing proof.
    fn reason(&self, why: Why, otherwise: ResetReason) -> ResetReason {
        match why {
            Why::Backwards => ResetReason::Backwards,
            Why::Reconnect => otherwise,
        }
    }
}
