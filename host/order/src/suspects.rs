//! Shared streams: a sequence that went back is a restart, or a second publisher on
//! the same topic. The frame is held until one of them shows: the known track goes
//! on, and the held ones belong to a second publisher; or only the new track does, or
//! the known one stays silent, and the engine restarted. After either, the other
//! track is remembered, so that two interleaved publishers are one restart at most
//! and never a series of them.
//!
//! Where both tracks meet at one number nothing on the wire tells them apart, and
//! frames of the one may be delivered as the other's. The source is marked incomplete.

use crate::buffer::Waiting;
use crate::machine::{Machine, mutant};
use crate::{Frame, Micros, Note, Output, Transition};
use penstock_event::ResetReason;

/// Frames of the new track alone that make it the stream.
pub(crate) const FEW: usize = 16;

/// How long the known track may be silent meanwhile.
pub(crate) const SUSPENSE: Micros = 1_000_000;

// === impl Machine ===

impl<P: Frame> Machine<P> {
    /// Holds a frame of what may be a new track.
    pub(crate) fn suspect(&mut self, now: Micros, w: Waiting<P>, out: &mut Vec<Output<P>>) {
        self.took(Transition::Suspect);
        self.wait_until.get_or_insert(now.saturating_add(SUSPENSE));
        self.held.push(w);
        let enough = self.held.len() >= FEW || self.held.over(&self.buffer, &self.config);
        if enough || mutant!(self, SuspectsRestartAtOnce) {
            self.took(Transition::SuspectsGoOn);
            self.believe_suspects(now, out);
        }
    }

    /// A frame while some are held. True: it belongs to them.
    pub(crate) fn beside_suspects(&mut self, w: &Waiting<P>, out: &mut Vec<Output<P>>) -> bool {
        let newest = self.held.back().map_or(0, |held| held.sequence);
        if newest.checked_add(1) == Some(w.sequence) {
            return true;
        }
        let old = w.sequence < self.next || self.high.is_some_and(|high| w.sequence <= high);
        if !old {
            self.two_tracks(out);
        }
        false
    }

    /// The known track went on: what is held is a second publisher's.
    fn two_tracks(&mut self, out: &mut Vec<Output<P>>) {
        self.took(Transition::TwoTracks);
        self.wait_until = None;
        self.complete = false;
        while let Some(w) = self.held.pop() {
            self.second = Some((w.sequence, 0));
            Self::note(Note::TwoPublishers, out);
        }
    }

    /// Leaves out a further frame of the second track, until too many of them come
    /// in a row: then the first one may be gone.
    pub(crate) fn is_second_track(&mut self, w: &Waiting<P>, out: &mut Vec<Output<P>>) -> bool {
        let Some((sequence, run)) = &mut self.second else {
            return false;
        };
        let theirs = sequence.checked_add(1) == Some(w.sequence);
        if !theirs || w.sequence == self.next || *run >= FEW {
            return false;
        }
        *sequence = w.sequence;
        *run += 1;
        self.took(Transition::SecondTrack);
        self.complete = false;
        Self::note(Note::TwoPublishers, out);
        true
    }

    /// The engine restarted. Should the old track go on after all, it is the second.
    pub(crate) fn believe_suspects(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        let old = self.high;
        self.restart(now, ResetReason::Backwards, false, out);
        self.second = old.map(|high| (high, 0));
    }
}
