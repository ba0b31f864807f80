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
    /// ends; none: it goes on as it was before it held.
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
    Holds {
        /// For when it leads again.
        had: HashMap<SourceId, Mark>,
    },
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
    pub(super) fn take(role: Role, before: Option<&mut Self>) -> Self {
        let had = match before {
            Some(Self::Leads { had } | Self::Holds { had }) => std::mem::take(had),
            Some(Self::Follows { .. }) | None => HashMap::new(),
        };
        match role {
            Role::Lead(None) => Self::leads(had),
            Role::Lead(Some(trail)) => Self::leads(trail.known()),
            Role::Hold => Self::Holds { had },
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
            return !self.holds();
        };
        let source = item.source();
        let Some(mark) = Mark::after(item) else {
            // It had left there, and what comes is of another life.
            seen.remove(&source);
            return trail.mark(source) != Some(Mark::END);
        };
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
            Self::Holds { .. } | Self::Follows { .. } => return true,
        };
        let source = item.source();
        let Some(until) = had.get(&source).copied() else {
            return false;
        };
        let past = match Mark::after(item) {
            Some(mark) => mark > until,
            // It joins again after it had left.
            None => until == Mark::END,
        };
        if past {
            had.remove(&source);
        }
        !past
    }

    /// What was had already, and is not to be had again.
    pub(super) fn had(&mut self) -> HashMap<SourceId, Mark> {
        match self {
            Self::Leads { had } | Self::Holds { had } => std::mem::take(had),
            Self::Follows { .. } => HashMap::new(),
        }
    }

    /// The trail of the one that it follows.
    pub(super) fn leader(&self) -> Option<&Trail> {
        match self {
            Self::Follows { trail, .. } => Some(trail),
            Self::Leads { .. } | Self::Holds { .. } => None,
        }
    }

    /// Whether nothing is to be handled.
    pub(super) fn holds(&self) -> bool {
        matches!(self, Self::Holds { .. })
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
        let trail = Trail::new(1);
        let mut part = Part::take(Role::Follow(trail.clone(), false), None);
        assert!(!part.may(&up_to(0)), "nothing is known of it");
        trail.pen(0).all([(A, mark(0, 3))].into_iter());
        assert!(part.may(&up_to(2)) && !part.may(&up_to(3)) && !part.may(&reset()));
        trail.note(A, mark(0, 4), None);
        assert!(part.may(&up_to(3)) && part.mutes(&up_to(3)));
        trail.note(A, mark(1, 0), None);
        assert!(part.may(&reset()) && part.may(&up_to(900)));
    }

    #[test]
    fn who_takes_over_speaks_from_where_the_other_ended() {
        let trail = Trail::new(1);
        let mut part = Part::take(Role::Follow(trail.clone(), false), None);
        trail.pen(0).all([(A, mark(0, 3))].into_iter());
        part = {
            let next = Part::take(Role::Lead(Some(trail.clone())), Some(&mut part));
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

    fn joined() -> Item {
        let bundle = crate::bundle::tests::bundle(0);
        let mut state = bundle.state();
        std::sync::Arc::get_mut(&mut state).unwrap().info.id = A;
        Item::Change(Change::Joined(state))
    }

    #[test]
    fn a_source_that_comes_back_is_heard_again() {
        let trail = Trail::new(1);
        let left = Item::Change(Change::Left(A));
        let mut part = Part::take(Role::Follow(trail.clone(), false), None);
        trail.pen(0).all([(A, mark(0, 3))].into_iter());
        assert!(part.may(&joined()) && !part.may(&left));
        trail.note(A, Mark::END, None);
        assert!(part.may(&left));
        assert!(!part.may(&joined()), "the leader has not seen it come back");
        trail.joined(A);
        assert!(part.may(&joined()) && !part.may(&reset()));
        trail.note(A, mark(1, 0), None);
        assert!(part.may(&reset()));

        trail.note(A, Mark::END, None);
        let mut part = Part::take(Role::Lead(Some(trail)), None);
        assert!(part.mutes(&left) && !part.mutes(&joined()) && !part.mutes(&up_to(0)));
    }

    #[test]
    fn who_held_leads_again_as_before() {
        let mut part = Part::leads(HashMap::from([(A, mark(0, 9))]));
        part = Part::take(Role::Hold, Some(&mut part));
        part = Part::take(Role::Lead(None), Some(&mut part));
        assert!(part.mutes(&up_to(8)) && !part.mutes(&up_to(9)));
    }

    #[test]
    fn who_holds_handles_nothing() {
        let mut part = Part::take(Role::Hold, None);
        assert!(!part.may(&reset()) && part.mutes(&reset()) && !part.speaks());
    }
}
