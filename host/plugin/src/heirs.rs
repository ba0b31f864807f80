//! State moves between sets of instances that share a plugin's sources.
//!
//! ```text
//! 2 instances: A, C ──┐                        ┌──> C
//!              B, D ──┴─ source by source ─────┼──> A, D      3 candidates
//!                                              └──> B
//! ```
//! Each source goes to the candidate that is to get it from then on; one that nobody is
//! to get is left out.

use crate::handover::Heir;
use crate::{Candidate, HandoverError, Moved, Past, Runner};
use penstock_event::SourceInfo;
use std::time::{Duration, Instant};

/// Candidates that take state over together, each of its own sources.
pub struct Heirs<'a, F> {
    heirs: Vec<Heir<'a>>,
    /// Which of them gets a source.
    owner: F,
    /// Whose source is being moved.
    current: Option<usize>,
}

/// Moves the state of all these instances, one after the other, while they go on. Blocks
/// the caller. What an instance that ends meanwhile has not said is fed anew.
///
/// # Errors
/// [`HandoverError`]: the candidates are of no use any more.
pub fn hand_over_all<F>(
    from: &[&Runner],
    mut heirs: Heirs<'_, F>,
    limit: Duration,
) -> Result<Vec<Past>, HandoverError>
where
    F: Fn(&SourceInfo) -> Option<usize>,
{
    let until = Instant::now() + limit;
    for runner in from {
        let left = until.saturating_duration_since(Instant::now());
        if runner.copy(left, |moved| heirs.take(moved))? {
            continue;
        }
        if Instant::now() >= until {
            return Err(HandoverError::Late(limit));
        }
        heirs.take(Moved::Refused("the instance before ended meanwhile".into()))?;
    }
    heirs.end()
}

// === impl Heirs ===

impl<'a, F: Fn(&SourceInfo) -> Option<usize>> Heirs<'a, F> {
    /// `owner` says which of the candidates, by its place, gets a source.
    pub fn new(candidates: impl IntoIterator<Item = &'a mut Candidate>, owner: F) -> Self {
        Self {
            heirs: candidates.into_iter().map(Candidate::heir).collect(),
            owner,
            current: None,
        }
    }

    /// Takes the next step of a handover.
    ///
    /// # Errors
    /// [`HandoverError::Failed`]; the candidates are of no use then.
    pub fn take(&mut self, moved: Moved) -> Result<(), HandoverError> {
        if let Moved::Begin(state) = &moved {
            self.current = (self.owner)(&state.info);
        }
        let heir = self.current.and_then(|at| self.heirs.get_mut(at));
        heir.map_or(Ok(()), |heir| heir.take(moved))
    }

    /// Nothing more comes. Where each of the candidates stands.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub fn end(self) -> Result<Vec<Past>, HandoverError> {
        self.heirs.into_iter().map(Heir::end).collect()
    }
}
