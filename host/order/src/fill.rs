//! Replays that are delivered: joining, filling, checking the end.
//!
//! A replay is asked for from the first missing sequence. It silently begins later
//! when the engine has no more; it may lose frames, and its end marker, at the
//! engine's high-water mark. So each frame is waited for, a hole inside is asked for
//! once more, and what falls short is asked for again while it brings something.

use crate::buffer::Waiting;
use crate::join::Purpose;
use crate::machine::{Machine, State, mutant};
use crate::{Frame, Micros, Note, Output, ReplayId, Transition};
use penstock_event::{GapReason, ResetReason, Sequence};

// === impl Machine ===

impl<P: Frame> Machine<P> {
    fn current(&mut self, id: ReplayId) -> bool {
        let any = mutant!(self, StaleReplayAccepted);
        if self.replay.as_ref().is_some_and(|r| r.id == id || any) {
            return true;
        }
        self.took(Transition::StaleReplay);
        false
    }

    pub(crate) fn replay_started(&mut self, now: Micros, id: ReplayId) {
        if self.current(id) {
            self.grant(now);
            let behind = self.buffer.back().map(|w| w.sequence);
            if let Some(replay) = &mut self.replay {
                replay.behind = behind;
            }
        }
    }

    /// The replay may take its time for the next frame.
    fn grant(&mut self, now: Micros) {
        let wait = self.config.replay_wait;
        if let Some(replay) = &mut self.replay {
            replay.deadline = now.saturating_add(wait);
        }
    }

    pub(crate) fn replayed(
        &mut self,
        now: Micros,
        id: ReplayId,
        sequence: Sequence,
        frame: P,
        out: &mut Vec<Output<P>>,
    ) {
        if !self.current(id) || sequence == Sequence::MAX {
            return;
        }
        match self.state {
            State::Verify(why, anchor) => {
                self.compare(now, why, anchor, sequence, frame, out);
            }
            _ => self.fill(now, sequence, frame, out),
        }
    }

    /// A frame of a replay that is to be delivered.
    pub(crate) fn fill(
        &mut self,
        now: Micros,
        sequence: Sequence,
        frame: P,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(replay) = &mut self.replay else {
            return;
        };
        let begins = replay.reached.is_none();
        if replay.reached.is_some_and(|reached| sequence <= reached) {
            // It repeats itself: no progress.
            return;
        }
        replay.reached = Some(sequence);
        self.grant(now);
        if sequence > self.next && !begins && !mutant!(self, HoleSkipped) {
            self.took(Transition::Hole);
            self.ask(now, self.next, out);
            return;
        }
        while sequence > self.next {
            // What waits may reach into what the engine no longer has.
            self.took(Transition::LateStart);
            let waits = self.buffer.front().map_or(sequence, |w| w.sequence);
            let to = waits.min(sequence);
            if mutant!(self, LateStartUnreported) || !begins && mutant!(self, HoleSkipped) {
                self.next = to;
            }
            self.lose(to, GapReason::Truncated, out);
            self.splice(now, out);
            if self.replay.is_none() {
                return;
            }
        }
        if sequence < self.next && !mutant!(self, ReplayDuplicates) {
            return;
        }
        if let Some(replay) = &mut self.replay {
            replay.found = true;
        }
        if matches!(self.state, State::Fill(Purpose::Tail | Purpose::Rejoin)) {
            self.open_hole(out);
        }
        let digest = frame.digest();
        let waits = self.buffer.front().filter(|w| w.sequence == sequence);
        match waits.map(|w| w.digest == digest) {
            Some(true) => self.splice(now, out),
            Some(false) => {
                self.other_engine_waits(now, sequence, digest, frame, out);
            }
            None => {
                self.deliver(sequence, digest, frame, true, out);
            }
        }
    }

    /// The replay reached what waits, and has other content: two engines.
    fn other_engine_waits(
        &mut self,
        now: Micros,
        sequence: Sequence,
        digest: u64,
        frame: P,
        out: &mut Vec<Output<P>>,
    ) {
        self.took(Transition::SpliceDiffers);
        self.leave_buffer(out);
        if self.live_seen {
            // The live frames of this epoch are of the earlier one.
            self.restart(now, ResetReason::ContentDiffers, true, out);
            return;
        }
        // All of this epoch came by replay; what waited was left from before.
        self.high = None;
        self.distrust = true;
        self.state = State::Fill(Purpose::Join);
        self.deliver(sequence, digest, frame, true, out);
    }

    /// Hands over what waits and is next. The replay goes on when there is another
    /// hole behind it, and is closed when there is none.
    fn splice(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        if self.buffer.front().is_none_or(|w| w.sequence > self.next) {
            return;
        }
        self.took(Transition::Splice);
        self.distrust = false;
        self.close_hole(out);
        while let Some(w) = self.buffer.front() {
            if w.sequence > self.next {
                break;
            }
            match self.buffer.pop() {
                Some(w) if w.sequence == self.next => {
                    self.deliver(w.sequence, w.digest, w.frame, false, out);
                }
                _ => Self::note(Note::Duplicate, out),
            }
        }
        if self.state == State::Down {
            let waits = !self.buffer.is_empty() || !self.held.is_empty();
            self.wait_until = self.wait_until.filter(|_| waits);
        } else if self.buffer.is_empty() {
            self.stop(out);
            self.state = State::Live;
        } else {
            self.took(Transition::GapOpen);
            self.attempts = 0;
            self.state = State::Fill(Purpose::Gap);
            if self.replay.is_none() {
                self.ask(now, self.next, out);
            }
        }
        if !self.buffer.is_empty() {
            self.open_hole(out);
        }
    }

    /// Reports what is missing before the frames that wait, and hands these over.
    /// While down, further holes are given up as well: nobody can be asked.
    pub(crate) fn give_up(&mut self, now: Micros, reason: GapReason, out: &mut Vec<Output<P>>) {
        self.stop(out);
        while let Some(to) = self.buffer.front().map(|w| w.sequence) {
            self.lose(to, reason, out);
            self.splice(now, out);
            if self.state != State::Down {
                return;
            }
        }
    }

    /// A replay ended with its marker, or its socket failed.
    pub(crate) fn replay_over(
        &mut self,
        now: Micros,
        id: ReplayId,
        ended: bool,
        out: &mut Vec<Output<P>>,
    ) {
        if !self.current(id) {
            return;
        }
        if !ended {
            self.took(Transition::ReplayFailed);
        }
        let replay = self.replay.take();
        let found = replay.as_ref().is_some_and(|r| r.found);
        match self.state {
            State::Verify(why, _) if ended => self.no_proof_in(now, why, out),
            State::Verify(why, anchor) => self.unanswered(now, why, anchor, out),
            State::Fill(purpose) => {
                let behind = replay.and_then(|r| r.behind);
                if ended && self.leftover(now, behind, out) {
                    return;
                }
                self.fell_short(now, purpose, found, ended, out);
            }
            State::New | State::Live | State::Down => {}
        }
    }

    /// The engine has nothing more to tell, and what came live before it was asked is
    /// not there: that was left from an engine before. Where live frames were delivered
    /// since it was known, theirs may be the engine that is gone; then it is a gap.
    /// True when the rest has to be asked for.
    fn leftover(
        &mut self,
        now: Micros,
        behind: Option<Sequence>,
        out: &mut Vec<Output<P>>,
    ) -> bool {
        let theirs = |w: &Waiting<P>| behind.is_some_and(|behind| w.sequence <= behind);
        if self.live_seen || self.buffer.is_empty() {
            return false;
        }
        if !self.buffer.front().is_some_and(theirs) {
            if self.distrust {
                self.took(Transition::AskAgain);
                self.ask(now, self.next, out);
            }
            return self.distrust;
        }
        self.took(Transition::Leftover);
        self.distrust = true;
        while self.buffer.front().is_some_and(theirs) {
            self.buffer.pop();
            self.left_out(out);
        }
        if self.buffer.is_empty() {
            self.high = None;
        }
        false
    }

    /// A replay did not go on in time.
    pub(crate) fn replay_silent(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        let found = self.replay.as_ref().is_some_and(|r| r.found);
        self.stop(out);
        match self.state {
            State::Verify(why, anchor) => self.unanswered(now, why, anchor, out),
            State::Fill(purpose) => self.fell_short(now, purpose, found, false, out),
            State::New | State::Live | State::Down => {}
        }
    }

    /// A replay is over and was not closed from here. Where it came up to what
    /// waits, and only did not confirm it, that is enough.
    fn fell_short(
        &mut self,
        now: Micros,
        purpose: Purpose,
        found: bool,
        ended: bool,
        out: &mut Vec<Output<P>>,
    ) {
        if self.buffer.front().is_some_and(|w| w.sequence == self.next) {
            self.splice(now, out);
            return;
        }
        if self.buffer.is_empty() && ended {
            self.close_hole(out);
            if purpose == Purpose::Tail {
                self.tail_checked(found, now, out);
            } else {
                self.took(Transition::JoinDone);
                self.state = State::Live;
                self.arm_tail(now);
            }
            return;
        }
        if found && !mutant!(self, NoSecondAttempt) {
            self.took(Transition::AskAgain);
            self.attempts = 0;
            self.ask(now, self.next, out);
            return;
        }
        self.attempts = self.attempts.saturating_add(1);
        if purpose == Purpose::Tail {
            self.took(Transition::TailUnanswered);
            self.close_hole(out);
            self.tail_later(now);
        } else if self.attempts < self.config.replay_attempts && !mutant!(self, NoSecondAttempt) {
            self.took(Transition::Retry);
            self.ask(now, self.next, out);
        } else if self.buffer.is_empty() {
            self.took(Transition::JoinUnanswered);
            self.close_hole(out);
            self.tail_later(now);
        } else if ended {
            self.took(Transition::GiveUpEnded);
            self.give_up(now, GapReason::Truncated, out);
        } else {
            self.took(Transition::GiveUpSilent);
            self.give_up(now, GapReason::ReplayTimeout, out);
        }
    }
}
