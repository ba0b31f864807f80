//! The router: every source's ring, and who reads it.

use crate::catchup::{Detached, decode_kept};
use crate::lane::{Decode, LaneConfig, Place};
use crate::reader::{Reader, Told};
use crate::ring::Ring;
use crate::{Budget, Fetch, Lane, Scope};
use penstock_decode::Limits;
use penstock_event::{Change, ColumnSet, Item, Outlet, Payload, Position, SourceId, SourceState};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// The router's bounds.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// Bytes of recent payloads kept for each source.
    pub ring_bytes: usize,
    /// Bytes of recent payloads kept in all.
    pub ring_total_bytes: usize,
    /// Bytes that all lanes together may queue.
    pub lanes_total_bytes: usize,
    /// Limits of the decoder, for batches that are decoded again.
    pub limits: Limits,
}

/// Hands each source's stream to the lanes of the plugins that want it.
pub struct Router {
    config: RouterConfig,
    lanes_budget: Arc<Budget>,
    rings_budget: Arc<Budget>,
    fetch: Arc<dyn Fetch>,
    table: RwLock<Table>,
    /// Those beside it: what operators pass on as it came need not be decoded again.
    beside: RwLock<Vec<Arc<Router>>>,
}

pub(crate) struct Table {
    pub sources: HashMap<SourceId, Arc<SourceRoute>>,
    lanes: Vec<(Arc<Lane>, Scope)>,
}

/// One source's ring and its readers.
pub(crate) struct SourceRoute {
    pub state: Arc<SourceState>,
    wanted: AtomicU32,
    /// It goes on from a checkpoint, and nothing was heard of its engine yet: what came
    /// before may be another one's, and is not to be fetched.
    unproven: AtomicBool,
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub ring: Ring,
    pub readers: Vec<Reader>,
    pub left: bool,
}

// === impl Router ===

impl Router {
    /// A router without sources or lanes.
    #[must_use]
    pub fn new(config: RouterConfig, fetch: Arc<dyn Fetch>) -> Self {
        Self {
            lanes_budget: Arc::new(Budget::new(config.lanes_total_bytes)),
            rings_budget: Arc::new(Budget::new(config.ring_total_bytes)),
            config,
            fetch,
            table: RwLock::new(Table {
                sources: HashMap::new(),
                lanes: Vec::new(),
            }),
            beside: RwLock::default(),
        }
    }

    /// A router beside this one, without sources or lanes: both keep to the same bounds,
    /// and columns that are wanted there are wanted here.
    #[must_use]
    pub(crate) fn beside(&self) -> Arc<Self> {
        let new = Arc::new(Self {
            config: self.config.clone(),
            lanes_budget: self.lanes_budget.clone(),
            rings_budget: self.rings_budget.clone(),
            fetch: self.fetch.clone(),
            table: RwLock::new(Table {
                sources: HashMap::new(),
                lanes: Vec::new(),
            }),
            beside: RwLock::default(),
        });
        let beside = self.beside.write();
        beside
            .unwrap_or_else(PoisonError::into_inner)
            .push(new.clone());
        new
    }

    /// Opens a lane: from now on it gets every source that its filter matches,
    /// from the oldest batch that can be had.
    pub fn open(&self, config: LaneConfig) -> Arc<Lane> {
        self.open_from(config, &HashMap::new())
    }

    /// Opens a lane for an instance that has a past: each source in `from` goes on
    /// after the position it has been applied to there, without being told that it
    /// joined; the others come from the oldest batch that can be had. A position from a
    /// checkpoint must be of the source's lineage
    /// ([`Beginning`](penstock_event::Beginning)); it may be behind its point or ahead.
    pub fn open_from(&self, config: LaneConfig, from: &HashMap<SourceId, Position>) -> Arc<Lane> {
        let scope = Scope::of(&config.filter);
        let lane = Arc::new(self.lane(config));
        let gets = self.read(&lane, &scope, from);
        lane.forget_others(from, &gets);
        lane
    }

    /// A lane begins to read what the scope covers, as for [`open_from`](Self::open_from).
    /// Which sources it gets of those there are.
    pub(crate) fn read(
        &self,
        lane: &Arc<Lane>,
        scope: &Scope,
        from: &HashMap<SourceId, Position>,
    ) -> HashSet<SourceId> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.lanes.push((lane.clone(), scope.clone()));
        let covered = |route: &&Arc<SourceRoute>| scope.covers(&route.state.info);
        let mut gets = HashSet::new();
        for route in table.sources.values().filter(covered) {
            let id = route.state.info.id;
            gets.insert(id);
            match from.get(&id) {
                Some(position) => route.resume(lane, *position),
                None => route.join(lane),
            }
        }
        gets
    }

    /// What a plugin of these columns is tried out on: each source that the scope
    /// covers joins, and its last batches follow, `most` of each.
    #[must_use]
    pub fn recent(&self, scope: &Scope, columns: ColumnSet, most: usize) -> Vec<Item> {
        let mut decode = Decode::new(self.config.limits);
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let routes: Vec<_> = table.sources.values().cloned().collect();
        drop(table);
        let mut items = Vec::new();
        for route in routes.iter().filter(|r| scope.covers(&r.state.info)) {
            items.push(Item::Change(Change::Joined(route.state.clone())));
            let last = route.lock().ring.last_batches(most);
            let batches = last.into_iter();
            items.extend(batches.map(|kept| decode_kept(&route.state, columns, &mut decode, kept)));
        }
        items
    }

    /// Bounds of its decoders.
    pub(crate) fn limits(&self) -> Limits {
        self.config.limits
    }

    /// The last batches of a source that its ring holds, oldest first: position, time of
    /// arrival in µs since 1970, payload.
    #[must_use]
    pub fn last_batches(&self, source: SourceId, most: usize) -> Vec<(Position, i64, Payload)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let route = table.sources.get(&source).cloned();
        drop(table);
        let last = route.map(|route| route.lock().ring.last_batches(most));
        let last = last.unwrap_or_default().into_iter();
        last.map(|kept| (kept.position, kept.received_us, kept.payload))
            .collect()
    }

    /// Closes a lane and forgets its cursors. What it has queued can still be taken.
    pub fn close(&self, lane: &Arc<Lane>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.lanes.retain(|(other, _)| !Arc::ptr_eq(other, lane));
        for route in table.sources.values() {
            route.leave(lane);
        }
        drop(table);
        lane.close();
    }

    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sources that a scope covers, of those there are.
    #[must_use]
    pub fn sources(&self, scope: &Scope) -> Vec<Arc<SourceState>> {
        let table = self.table();
        let states = table.sources.values().map(|route| route.state.clone());
        states.filter(|state| scope.covers(&state.info)).collect()
    }

    /// Sources that a lane reads.
    #[must_use]
    pub fn reads(&self, lane: &Arc<Lane>) -> HashSet<SourceId> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let reads = |route: &&Arc<SourceRoute>| {
            let inner = route.lock();
            inner.readers.iter().any(|r| Arc::ptr_eq(&r.lane, lane))
        };
        (table.sources.values().filter(reads))
            .map(|route| route.state.info.id)
            .collect()
    }

    pub(crate) fn lane(&self, config: LaneConfig) -> Lane {
        Lane::new(
            config,
            self.lanes_budget.clone(),
            self.fetch.clone(),
            self.config.limits,
        )
    }

    /// Bytes queued in all lanes, and their bound.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        (self.lanes_budget.used(), self.lanes_budget.limit())
    }

    /// Bytes held in all rings, and their bound.
    #[must_use]
    pub fn kept(&self) -> (usize, usize) {
        (self.rings_budget.used(), self.rings_budget.limit())
    }

    fn route(&self, state: &Arc<SourceState>) -> Arc<SourceRoute> {
        let id = state.info.id;
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = table.sources.get(&id) {
            return route.clone();
        }
        drop(table);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = table.sources.get(&id) {
            return route.clone();
        }
        let beginning = state.beginning();
        let route = Arc::new(SourceRoute {
            state: state.clone(),
            wanted: AtomicU32::new(0),
            // What an operator makes is proven by what it reads.
            unproven: AtomicBool::new(beginning.resumed.is_some() && !state.is_derived()),
            inner: Mutex::new(Inner {
                ring: Ring::new(self.config.ring_bytes, self.rings_budget.clone(), beginning),
                readers: Vec::new(),
                left: false,
            }),
        });
        table.sources.insert(id, route.clone());
        for (lane, scope) in &table.lanes {
            if scope.covers(&state.info) {
                route.join(lane);
            }
        }
        route
    }

    fn remove(&self, source: SourceId) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let route = table.sources.remove(&source);
        drop(table);
        if let Some(route) = route {
            route.end();
        }
    }
}

impl Outlet for Router {
    fn wanted(&self, source: SourceId) -> ColumnSet {
        let table = self.table();
        let own = table.sources.get(&source);
        let own = own.map_or(0, |route| route.wanted.load(Relaxed));
        drop(table);
        let beside = self.beside.read().unwrap_or_else(PoisonError::into_inner);
        let all = beside.iter().map(|router| router.wanted(source));
        all.fold(ColumnSet(own), ColumnSet::union)
    }

    fn deliver(&self, state: &Arc<SourceState>, item: Item) {
        match &item {
            Item::Change(Change::Joined(_)) => drop(self.route(state)),
            Item::Change(Change::Left(source)) => self.remove(*source),
            Item::Change(change) => {
                state.note(change);
                self.route(state).deliver(&item);
            }
            Item::Batch(_) => self.route(state).deliver(&item),
        }
    }

    fn proven(&self, state: &Arc<SourceState>) {
        self.route(state).proven();
    }
}

// === impl SourceRoute ===

impl SourceRoute {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lane begins to read this source, at the beginning.
    pub fn join(self: &Arc<Self>, lane: &Arc<Lane>) {
        self.join_at(lane, None);
    }

    /// A lane begins to read this source, at a place.
    pub fn join_at(self: &Arc<Self>, lane: &Arc<Lane>, place: Option<&Place>) {
        self.read_from(lane, |ring| match place {
            Some(place) => (
                place.offset,
                Told {
                    joined: false,
                    ..place.before
                },
            ),
            None => (ring.newcomer(), Told::nothing()),
        });
    }

    /// A lane goes on after a position, having been told of everything up to it. It may
    /// lie behind the source's own point, or ahead of it: what comes is left out until
    /// it is news.
    fn resume(self: &Arc<Self>, lane: &Arc<Lane>, position: Position) {
        let inner = self.lock();
        let runs = inner.ring.epoch();
        drop(inner);
        if position.epoch > runs {
            // Nothing tells whether the engine is the one of that epoch: all anew.
            let place = Place {
                offset: 0,
                before: Told::nothing(),
            };
            lane.push_change(Change::Left(self.state.info.id), place);
            self.join(lane);
            return;
        }
        // What lies between the position and the ring's start is fetched, if anything.
        self.read_from(lane, |ring| {
            (ring.after(position).unwrap_or(0), Told::at(position))
        });
    }

    fn read_from(self: &Arc<Self>, lane: &Arc<Lane>, place: impl FnOnce(&Ring) -> (u64, Told)) {
        let mut inner = self.lock();
        let (next, told) = place(&inner.ring);
        inner.readers.push(Reader {
            lane: lane.clone(),
            attached: false,
            next,
            told,
            dropped: None,
        });
        self.widen(&inner);
        drop(inner);
        lane.detach(Detached::new(self.clone()));
    }

    pub fn leave(&self, lane: &Arc<Lane>) {
        let mut inner = self.lock();
        inner.readers.retain(|r| !Arc::ptr_eq(&r.lane, lane));
        self.widen(&inner);
    }

    /// Stops pushing to a lane, and says where it is. None: it does not read here.
    pub fn suspend(&self, lane: &Arc<Lane>) -> Option<Place> {
        let mut inner = self.lock();
        let reader = (inner.readers.iter_mut()).find(|r| Arc::ptr_eq(&r.lane, lane))?;
        reader.attached = false;
        Some(reader.place())
    }

    /// The source is gone: attached lanes are told, detached ones read to the end.
    fn end(&self) {
        let mut inner = self.lock();
        inner.left = true;
        if self.unproven.swap(false, Relaxed) {
            // Whatever came before, nobody can be asked for it any more.
            for reader in inner.readers.drain(..).filter(|r| r.told.joined) {
                let left = Change::Left(self.state.info.id);
                reader.lane.push_change(left, reader.place());
            }
        }
        for reader in inner.readers.iter().filter(|r| r.attached) {
            let left = Change::Left(self.state.info.id);
            reader.lane.push_change(left, reader.place());
        }
        let detached: Vec<_> = (inner.readers.iter())
            .filter(|r| !r.attached)
            .map(|r| r.lane.clone())
            .collect();
        inner.readers.retain(|r| !r.attached);
        drop(inner);
        for lane in detached {
            lane.nudge();
        }
    }

    /// Nobody knows yet whether the engine is still the one of the checkpoint.
    pub fn unproven(&self) -> bool {
        self.unproven.load(Relaxed)
    }

    /// It is: lanes may ask it for what came before.
    fn proven(&self) {
        self.unproven.store(false, Relaxed);
        let readers: Vec<_> = (self.lock().readers.iter())
            .map(|r| r.lane.clone())
            .collect();
        for lane in readers {
            lane.nudge();
        }
    }

    fn widen(&self, inner: &Inner) {
        let all = (inner.readers.iter()).fold(ColumnSet::default(), |all, r| {
            all.union(r.lane.config.columns)
        });
        self.wanted.store(all.0, Relaxed);
    }

    fn deliver(self: &Arc<Self>, item: &Item) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        match item {
            Item::Batch(batch) => inner.ring.push_batch(batch),
            Item::Change(change) => inner.ring.push_change(change),
        }
        if self.unproven() {
            self.unproven.store(false, Relaxed);
        }
        let end = inner.ring.end();
        let mut behind = Vec::new();
        let mut waiting = Vec::new();
        for reader in &mut inner.readers {
            if !reader.attached {
                waiting.push(reader.lane.clone());
            } else if reader.push(self, item, end) {
                behind.push(reader.lane.clone());
            }
        }
        drop(guard);
        for lane in behind {
            lane.detach(Detached::new(self.clone()));
        }
        for lane in waiting {
            lane.nudge();
        }
    }
}
