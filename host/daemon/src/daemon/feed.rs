use penstock_event::{Item, SourceId};
use penstock_plugin::{Feed, Recent, Waiting};
use penstock_route::{Lane, Router};
use std::sync::Arc;
use std::thread::Thread;

/// A lane as a runner takes from it.
pub struct LaneFeed {
    pub router: Arc<Router>,
    pub lane: Arc<Lane>,
    /// The plugin only publishes: after a crash it goes on, and repeats nothing but
    /// the batch that it died on.
    pub effects_only: bool,
}

impl Feed for LaneFeed {
    fn attach(&mut self, runner: Thread) {
        self.lane.attach(runner);
    }

    fn rest(&mut self, rests: bool) {
        self.lane.rest(rests);
    }

    fn next(&mut self) -> Option<Item> {
        self.lane.next()
    }

    fn done(&mut self) {
        self.lane.done();
    }

    fn park(&mut self) {
        self.lane.park();
    }

    fn unpark(&mut self, source: SourceId) {
        self.lane.unpark(source);
    }

    fn rewind(&mut self) {
        if self.effects_only {
            self.router.rejoin(&self.lane);
        } else {
            self.router.rewind(&self.lane);
        }
    }

    fn recent(&self, source: SourceId, most: usize) -> Vec<Recent> {
        let last = self.router.last_batches(source, most).into_iter();
        last.map(|(position, received_us, payload)| Recent {
            position,
            received_us,
            payload: payload.to_vec(),
        })
        .collect()
    }

    fn waiting(&self) -> Waiting {
        let status = self.lane.status();
        Waiting {
            items: status.items,
            bytes: status.bytes,
        }
    }
}
