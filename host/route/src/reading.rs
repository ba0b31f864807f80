//! A lane and the routers that it reads from: the engines', or those of operators.

use crate::router::Table;
use crate::{Lane, LaneConfig, Router, Scope};
use penstock_event::{ColumnSet, Item, Payload, Position, SourceId, SourceState};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, RwLockReadGuard};

/// One plugin instance's lane, and where it reads. No source is covered twice.
pub struct Reading {
    lane: Arc<Lane>,
    from: Vec<(Arc<Router>, Scope)>,
}

// === impl Reading ===

impl Reading {
    /// Opens a lane that reads from these routers, there must be one, as
    /// [`Router::open_from`] does: the scopes count, not the filter.
    #[must_use]
    pub fn open(
        from: Vec<(Arc<Router>, Scope)>,
        config: LaneConfig,
        past: &HashMap<SourceId, Position>,
    ) -> Option<Self> {
        let (first, _) = from.first()?;
        let lane = Arc::new(first.lane(config));
        let mut gets = HashSet::new();
        for (router, scope) in &from {
            gets.extend(router.read(&lane, scope, past));
        }
        lane.forget_others(past, &gets);
        Some(Self::of(lane, from))
    }

    pub(crate) fn of(lane: Arc<Lane>, from: Vec<(Arc<Router>, Scope)>) -> Self {
        Self { lane, from }
    }

    /// The lane.
    #[must_use]
    pub fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Closes the lane and forgets its cursors. What it has queued can still be taken.
    pub fn close(&self) {
        for (router, _) in &self.from {
            router.close(&self.lane);
        }
    }

    /// Begins anew, for an instance that lost its state: everything queued is forgotten,
    /// and each source comes again from the oldest batch to be had. Called by the lane's
    /// own thread.
    pub fn rewind(&self) {
        // All held: no source joins between the two steps.
        let tables = self.tables();
        for (table, _) in &tables {
            table.sources.values().for_each(|r| r.leave(&self.lane));
        }
        self.lane.forget();
        for (table, scope) in &tables {
            let routes = table.sources.values();
            let covered = routes.filter(|r| scope.covers(&r.state.info));
            covered.for_each(|r| r.join(&self.lane));
        }
    }

    /// Goes on for a new instance that needs no past: each source joins again, and comes
    /// from the first item that was not done. Called by the lane's own thread.
    pub fn rejoin(&self) {
        let tables = self.tables();
        // Suspended while the queue is forgotten, so that nothing comes between.
        let mut places = HashMap::new();
        for (table, _) in &tables {
            let routes = table.sources.values();
            places.extend(routes.filter_map(|r| Some((r.state.info.id, r.suspend(&self.lane)?))));
        }
        places.extend(self.lane.forget());
        for (id, place) in places {
            let route = tables.iter().find_map(|(table, scope)| {
                let route = table.sources.get(&id)?;
                scope.covers(&route.state.info).then_some(route)
            });
            if let Some(route) = route {
                route.leave(&self.lane);
                route.join_at(&self.lane, Some(&place));
            }
        }
    }

    /// Sources that it reads.
    #[must_use]
    pub fn reads(&self) -> HashSet<SourceId> {
        let routers = self.from.iter();
        routers.flat_map(|(r, _)| r.reads(&self.lane)).collect()
    }

    /// The same, as they are where it reads them.
    #[must_use]
    pub fn sources(&self) -> Vec<Arc<SourceState>> {
        Self::sources_of(&self.from)
    }

    /// Sources that are read there.
    #[must_use]
    pub fn sources_of(from: &[(Arc<Router>, Scope)]) -> Vec<Arc<SourceState>> {
        from.iter()
            .flat_map(|(r, scope)| r.sources(scope))
            .collect()
    }

    /// What a plugin that reads here is tried out on: see [`Router::recent`].
    #[must_use]
    pub fn recent(from: &[(Arc<Router>, Scope)], columns: ColumnSet, most: usize) -> Vec<Item> {
        let routers = from.iter();
        routers
            .flat_map(|(r, scope)| r.recent(scope, columns, most))
            .collect()
    }

    /// See [`Router::last_batches`].
    #[must_use]
    pub fn last_batches(&self, source: SourceId, most: usize) -> Vec<(Position, i64, Payload)> {
        let reads =
            |(router, _): &&(Arc<Router>, Scope)| router.reads(&self.lane).contains(&source);
        let router = self.from.iter().find(reads);
        router.map_or_else(Vec::new, |(router, _)| router.last_batches(source, most))
    }

    fn tables(&self) -> Vec<(RwLockReadGuard<'_, Table>, &Scope)> {
        // In the same order by all: a writer that waits stops readers that come later.
        let mut from: Vec<_> = self.from.iter().collect();
        from.sort_by_key(|(router, _)| Arc::as_ptr(router).addr());
        let tables = from.into_iter();
        tables
            .map(|(router, scope)| (router.table(), scope))
            .collect()
    }
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}
