//! On a shared stream, a sequence that goes back is a restart or a second publisher.
//! The frames wait until one or the other shows.

use crate::machine::Machine;
use crate::transition::Transition;
use crate::{Frame, Micros, Note, Output};
use penstock_event::{ResetReason, Sequence};

#[derive(Debug)]
pub(crate) struct Suspects<P> {
    waiting: Vec<(Sequence, P)>,
    deadline: Option<Micros>,
    /// A second publisher is known; its frames since the first one's last.
    second: Option<usize>,
}

/// Frames of the new track alone that make a restart.
const BELIEVED: usize = 16;
/// The same once two publishers are known.
const BELIEVED_LATER: usize = 256;
/// Time of the new track alone that makes a restart.
const PATIENCE: Micros = 1_000_000;

// === impl Suspects ===

impl<P> Suspects<P> {
    pub fn new() -> Self {
        Self {
            waiting: Vec::new(),
            deadline: None,
            second: None,
        }
    }

    pub fn deadline(&self) -> Option<Micros> {
        self.deadline
    }
}

// === impl Machine ===

impl<P: Frame> Machine<P> {
    pub(crate) fn suspect(
        &mut self,
        now: Micros,
        sequence: Sequence,
        frame: P,
        out: &mut Vec<Output<P>>,
    ) {
        if let Some(many) = &mut self.suspects.second {
            *many += 1;
            if *many < BELIEVED_LATER {
                self.step(Transition::TwoPublishers);
                out.push(Output::Note(Note::TwoPublishers));
                return;
            }
        }
        self.step(Transition::Suspect);
        self.suspects.deadline.get_or_insert(now + PATIENCE);
        self.suspects.waiting.push((sequence, frame));
        if self.suspects.waiting.len() >= BELIEVED {
            self.believe_suspects(now, out);
        }
    }

    /// The first publisher is still there.
    pub(crate) fn old_track_goes_on(&mut self, out: &mut Vec<Output<P>>) {
        if let Some(many) = &mut self.suspects.second {
            *many = 0;
        }
        if self.suspects.waiting.is_empty() {
            return;
        }
        self.suspects.deadline = None;
        self.suspects.second = Some(0);
        for _ in std::mem::take(&mut self.suspects.waiting) {
            self.step(Transition::TwoPublishers);
            out.push(Output::Note(Note::TwoPublishers));
        }
        self.complete = false;
    }

    /// Only the new track goes on.
    pub(crate) fn believe_suspects(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        let waiting = std::mem::take(&mut self.suspects.waiting);
        self.suspects = Suspects::new();
        self.step(Transition::SuspectsRestart);
        self.restart(now, ResetReason::Backwards, out);
        for (sequence, frame) in waiting {
            // Within the new track, what goes back again is left for later frames.
            if self.high.is_none_or(|high| sequence > high) {
                self.forward(now, sequence, frame, out);
            }
        }
    }
}
