//! One lane's place in one source, and what the lane knows of it.

use crate::Lane;
use crate::lane::Place;
use crate::router::SourceRoute;
use penstock_event::{Change, Epoch, GapReason, Item, Position, Sequence};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// One lane's place in one source.
pub(crate) struct Reader {
    pub lane: Arc<Lane>,
    pub attached: bool,
    /// Ring offset of the next entry for this lane.
    pub next: u64,
    /// Last epoch and sequence told to the lane: batch, or end of a gap.
    pub told: Told,
    /// A run of batches dropped because the lane was full, not told yet.
    pub dropped: Option<(Epoch, Sequence, Sequence)>,
}

/// What a lane knows of a source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// Joined was told to the instance that runs.
    pub joined: bool,
    /// The lane has a place in this source: it is not a newcomer.
    pub placed: bool,
    pub epoch: Epoch,
    /// None: nothing of this epoch.
    pub sequence: Option<Sequence>,
}

// === impl Reader ===

impl Reader {
    /// Pushes to an attached lane. True: it detached, since the lane is full.
    pub fn push(&mut self, route: &Arc<SourceRoute>, item: &Item, end: u64) -> bool {
        match item {
            Item::Batch(batch) if self.told.knows(batch.position()) => {
                self.next = end;
                false
            }
            Item::Batch(batch) => {
                let lane = self.lane.clone();
                let decoded = batch.columns.filled.contains(lane.config.columns);
                let bytes = batch.bytes();
                if decoded && self.flush(route) && lane.push(item, bytes, self.place()) {
                    self.next = end;
                    self.told = Told::at(batch.position());
                    return false;
                }
                if decoded && lane.config.when_full == crate::WhenFull::Drop {
                    self.skip(batch.position());
                    self.next = end;
                    return false;
                }
                self.attached = false;
                if decoded {
                    lane.counts.detaches.fetch_add(1, Relaxed);
                    metrics::counter!("penstock_lane_detaches_total", "plugin" => lane.name().to_string())
                        .increment(1);
                }
                true
            }
            Item::Change(change) => {
                if let Some(change) = self.told.news_in(change.clone()) {
                    self.force_flush(route);
                    self.lane.push_change(change.clone(), self.place());
                    self.note(&change);
                }
                self.next = end;
                false
            }
        }
    }

    /// Tells of batches dropped before, ahead of whatever comes next. False
    /// while there is no room: a drop run goes on.
    fn flush(&mut self, route: &SourceRoute) -> bool {
        if self.dropped.is_some() && self.lane.queued() > self.lane.config.bytes / 2 {
            return false;
        }
        self.force_flush(route);
        true
    }

    fn force_flush(&mut self, route: &SourceRoute) {
        if let Some((epoch, first, last)) = self.dropped.take() {
            let gap = Change::Gap {
                source: route.state.info.id,
                epoch,
                first,
                last,
                reason: GapReason::LaneFull,
            };
            self.lane.push_change(gap, self.place());
        }
    }

    /// Where the lane would go back to, for what comes next.
    pub fn place(&self) -> Place {
        Place {
            offset: self.next,
            before: self.told,
        }
    }

    fn skip(&mut self, at: Position) {
        let first = self.dropped.map_or(at.sequence, |(_, first, _)| first);
        self.dropped = Some((at.epoch, first, at.sequence));
        self.told = Told::at(at);
        self.lane.counts.dropped.fetch_add(1, Relaxed);
        metrics::counter!("penstock_lane_dropped_batches_total", "plugin" => self.lane.name().to_string())
            .increment(1);
    }

    /// Follows what a change tells.
    pub fn note(&mut self, change: &Change) {
        match *change {
            Change::Reset { epoch, .. } => {
                self.told.epoch = epoch;
                self.told.sequence = None;
            }
            Change::Gap { epoch, last, .. } => {
                self.told.epoch = epoch;
                self.told.sequence = Some(last);
            }
            Change::Joined(_) => self.told.joined = true,
            Change::Left(_) => {}
        }
    }
}

// === impl Told ===

impl Told {
    pub fn nothing() -> Self {
        Self {
            joined: false,
            placed: false,
            epoch: Epoch(0),
            sequence: None,
        }
    }

    /// The batch there was told, or reported missing: by a daemon before this one, where
    /// the source goes on from an older point than the lane.
    pub fn knows(&self, position: Position) -> bool {
        let same = self.epoch == position.epoch;
        (same && self.sequence.is_some_and(|s| s >= position.sequence))
            || position.epoch < self.epoch
    }

    /// A change without what was told before. None: nothing is left of it.
    pub fn news_in(&self, mut change: Change) -> Option<Change> {
        if let Change::Reset { epoch, .. } = change
            && self.placed
            && epoch <= self.epoch
        {
            // An operator that went back further than its readers says it again.
            return None;
        }
        if matches!(change, Change::Gap { epoch, .. } if epoch < self.epoch) {
            return None;
        }
        if let Change::Gap {
            epoch, first, last, ..
        } = &mut change
            && let Some(told) = self.sequence.filter(|_| self.epoch == *epoch)
        {
            if *last <= told {
                return None;
            }
            *first = (*first).max(told + 1);
        }
        Some(change)
    }

    pub fn at(position: Position) -> Self {
        Self {
            joined: true,
            placed: true,
            epoch: position.epoch,
            sequence: Some(position.sequence),
        }
    }
}
