//! What an instance may handle, and whether its effects are had.

use crate::status::Shadow;
use crate::trail::{Mark, Trail};
use penstock_event::{Item, SourceId};
use std::collections::HashMap;
use std::sync::Arc;

/// What an instance is to the others of its plugin.
#[derive(Clone, Debug)]
pub enum Role {
    /// Its effects are had. Those of another one were, up to where that one's trail
    /// ends.
    Lead(Option<Arc<Trail>>),
    /// It answers lookups, and handles nothing.
    Hold,
    /// It handles what the other one has handled, its effects off. True: they are
    /// compared with the other one's.
    Follow(Arc<Trail>, bool),
}

/// The role as the worker plays it.
pub(super) enum Part {
    Leads {
        /// What others, or instances before this one, have published already.
        had: HashMap<SourceId, Mark>,
    },
    Holds,
    Follows {
        trail: Arc<Trail>,
        shadow: bool,
        /// The leader's marks as last seen.
        seen: HashMap<SourceId, Mark>,
    },
}

/// Differences that are logged.
const SHOWN: u64 = 16;

// === impl Part ===

impl Part {
    /// Takes a role up, on the worker's thread.
    pub(super) fn take(role: Role) -> Self {
        match role {
            Role::Lead(None) => Self::leads(HashMap::new()),
            Role::Lead(Some(trail)) => Self::leads(trail.marks().unwrap_or_default()),
            Role::Hold => Self::Holds,
            Role::Follow(trail, shadow) => {
                trail.follow(shadow);
                let seen = HashMap::new();
                Self::Follows {
                    trail,
                    shadow,
                    seen,
                }
            }
        }
    }

    pub(super) fn leads(had: HashMap<SourceId, Mark>) -> Self {
        Self::Leads { had }
    }

    /// Whether an item may be handled now.
    pub(super) fn may(&mut self, item: &Item) -> bool {
        let Self::Follows { trail, seen, .. } = self else {
            return !matches!(self, Self::Holds);
        };
        let Some(mark) = Mark::after(item) else {
            return true;
        };
        let source = item.source();
        if seen.get(&source).is_some_and(|seen| *seen >= mark) {
            return true;
        }
        let Some(now) = trail.mark(source) else {
            return false;
        };
        seen.insert(source, now);
        now >= mark
    }

    /// Whether what an item makes the plugin publish is left out.
    pub(super) fn mutes(&mut self, item: &Item) -> bool {
        let had = match self {
            Self::Leads { had } if had.is_empty() => return false,
            Self::Leads { had } => had,
            Self::Holds | Self::Follows { .. } => return true,
        };
        let source = item.source();
        let (Some(mark), Some(until)) = (Mark::after(item), had.get(&source)) else {
            return had.contains_key(&source);
        };
        if mark > *until {
            had.remove(&source);
            return false;
        }
        true
    }

    /// Whether nothing is to be handled.
    pub(super) fn holds(&self) -> bool {
        matches!(self, Self::Holds)
    }

    /// Whether its effects are to be compared.
    pub(super) fn shadows(&self) -> bool {
        matches!(self, Self::Follows { shadow: true, .. })
    }

    /// Compares what a call published with what the leader's did.
    pub(super) fn compare(
        &self,
        plugin: &str,
        (source, mark): (SourceId, Mark),
        ours: (u32, u64),
        sums: &mut Shadow,
    ) {
        let Self::Follows { trail, .. } = self else {
            return;
        };
        match trail.said(source, mark) {
            None => sums.unknown += 1,
            Some(theirs) if theirs == ours => sums.same += 1,
            Some(theirs) => {
                sums.different += 1;
                if sums.different <= SHOWN {
                    let (epoch, next) = (mark.epoch, mark.next);
                    tracing::warn!(
                        plugin,
                        source = source.0,
                        epoch,
                        before_sequence = next,
                        "shadow: publishes something else: {} messages, the running build {}",
                        ours.0,
                        theirs.0
                    );
                }
            }
        }
    }

    /// Whether calls that are about no source have effects.
    pub(super) fn speaks(&self) -> bool {
        matches!(self, Self::Leads { .. })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Self::Follows { trail, .. } = self {
            trail.unfollow();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_event::{Change, Epoch, GapReason, ResetReason};

    const A: SourceId = SourceId(1);

    fn up_to(sequence: u64) -> Item {
        Item::Change(Change::Gap {
            source: A,
            epoch: Epoch(0),
            first: 0,
            last: sequence,
            reason: GapReason::Missed,
        })
    }

    fn reset() -> Item {
        Item::Change(Change::Reset {
            source: A,
            epoch: Epoch(1),
            reason: ResetReason::Backwards,
        })
    }

    fn mark(epoch: u32, next: u64) -> Mark {
        Mark { epoch, next }
    }

    #[test]
    fn a_follower_never_gets_ahead() {
        let trail = Arc::new(Trail::default());
        let mut part = Part::take(Role::Follow(trail.clone(), false));
        assert!(!part.may(&up_to(0)), "nothing is known of it");
        trail.all([(A, mark(0, 3))].into_iter());
        assert!(part.may(&up_to(2)) && !part.may(&up_to(3)) && !part.may(&reset()));
        trail.note(A, mark(0, 4), None);
        assert!(part.may(&up_to(3)) && part.mutes(&up_to(3)));
        trail.note(A, mark(1, 0), None);
        assert!(part.may(&reset()) && part.may(&up_to(900)));
    }

    #[test]
    fn who_takes_over_speaks_from_where_the_other_ended() {
        let trail = Arc::new(Trail::default());
        let mut part = Part::take(Role::Follow(trail.clone(), false));
        trail.all([(A, mark(0, 3))].into_iter());
        part = {
            let next = Part::take(Role::Lead(Some(trail.clone())));
            drop(part);
            next
        };
        assert!(part.may(&up_to(9)));
        assert!(part.mutes(&up_to(1)) && part.mutes(&up_to(2)));
        assert!(
            !part.mutes(&up_to(3)) && !part.mutes(&up_to(2)),
            "past it for good"
        );
    }

    #[test]
    fn who_holds_handles_nothing() {
        let mut part = Part::take(Role::Hold);
        assert!(!part.may(&reset()) && part.mutes(&reset()) && !part.speaks());
    }
}
