use penstock_event::{Item, SourceId};
use penstock_plugin::{Feed, Recent, Waiting};
use penstock_route::Reading;
use std::sync::Arc;
use std::thread::Thread;

/// A lane as a runner takes from it.
pub struct LaneFeed {
    pub reading: Arc<Reading>,
    /// The plugin only publishes or emits: after a crash it goes on, and repeats nothing but
    /// the batch that it died on.
    pub effects_only: bool,
}

impl Feed for LaneFeed {
    fn attach(&mut self, runner: Thread) {
        self.reading.lane().attach(runner);
    }

    fn rest(&mut self, rests: bool) {
        self.reading.lane().rest(rests);
    }

    fn next(&mut self) -> Option<Item> {
        self.reading.lane().next()
    }

    fn done(&mut self) {
        self.reading.lane().done();
    }

    fn park(&mut self) {
        self.reading.lane().park();
    }

    fn unpark(&mut self, source: SourceId) {
        self.reading.lane().unpark(source);
    }

    fn rewind(&mut self) {
        if self.effects_only {
            self.reading.rejoin();
        } else {
            self.reading.rewind();
        }
    }

    fn recent(&self, source: SourceId, most: usize) -> Vec<Recent> {
        let last = self.reading.last_batches(source, most).into_iter();
        last.map(|(position, received_us, payload)| Recent {
            position,
            received_us,
            payload: payload.to_vec(),
        })
        .collect()
    }

    fn waiting(&self) -> Waiting {
        let status = self.reading.lane().status();
        Waiting {
            items: status.items,
            bytes: status.bytes,
        }
    }
}
