//! What those after an operator get for an item that it handled.

use penstock_event::{Change, Emit, Emitted, Item};
use std::sync::Arc;

/// The way to those after it, and what is on it.
pub(super) struct Emits {
    to: Option<Arc<dyn Emit>>,
    ready: Option<Ready>,
}

/// What the item under way came to.
enum Ready {
    Batch(Vec<Emitted>),
    Change(Change),
}

// === impl Emits ===

impl Emits {
    pub(super) fn to(to: Option<Arc<dyn Emit>>) -> Self {
        Self { to, ready: None }
    }

    /// The batch was handled.
    pub(super) fn batch(&mut self, emitted: impl FnOnce() -> Vec<Emitted>) {
        if self.to.is_some() {
            self.ready = Some(Ready::Batch(emitted()));
        }
    }

    /// The change was told, perhaps instead of a batch.
    pub(super) fn change(&mut self, change: &Change) {
        if self.to.is_some() {
            self.ready = Some(Ready::Change(change.clone()));
        }
    }

    /// The instance died of it: it comes again.
    pub(super) fn forget(&mut self) {
        self.ready = None;
    }

    /// Hands it on, unless another instance has done so. How many events.
    pub(super) fn hand_on(&mut self, item: &Item, muted: bool) -> u64 {
        let (Some(to), Some(ready)) = (&self.to, self.ready.take()) else {
            return 0;
        };
        if muted {
            return 0;
        }
        match (item, ready) {
            (Item::Batch(batch), Ready::Batch(emitted)) => {
                let events = emitted.iter().map(|part| match part {
                    Emitted::Kept(events) => events.len() as u64,
                    Emitted::Made(columns) => columns.len() as u64,
                });
                let events = events.sum();
                to.batch(batch, emitted);
                events
            }
            (_, Ready::Change(change)) => {
                to.change(&change);
                0
            }
            (Item::Change(_), Ready::Batch(_)) => 0,
        }
    }
}
