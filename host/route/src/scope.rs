use crate::Filter;
use penstock_event::SourceInfo;
use std::sync::Arc;

/// Which sources of one router a lane reads.
#[derive(Clone)]
pub struct Scope(Arc<dyn Fn(&SourceInfo) -> bool + Send + Sync>);

// === impl Scope ===

impl Scope {
    /// Those that a filter matches.
    #[must_use]
    pub fn of(filter: &Filter) -> Self {
        let filter = filter.clone();
        Self(Arc::new(move |info| filter.matches(info)))
    }

    /// Those that all of these cover.
    #[must_use]
    pub fn all(scopes: Vec<Self>) -> Self {
        Self(Arc::new(move |info| scopes.iter().all(|s| s.covers(info))))
    }

    /// Those that any of these covers.
    #[must_use]
    pub fn any(scopes: Vec<Self>) -> Self {
        Self(Arc::new(move |info| scopes.iter().any(|s| s.covers(info))))
    }

    /// All others.
    #[must_use]
    pub fn none_of(scopes: Vec<Self>) -> Self {
        Self(Arc::new(move |info| !scopes.iter().any(|s| s.covers(info))))
    }

    /// True when the lane reads this source there.
    #[must_use]
    pub fn covers(&self, info: &SourceInfo) -> bool {
        (self.0)(info)
    }
}

impl std::fmt::Debug for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}
