//! The instances of one plugin, which share its sources: `shards` in its file.
//!
//! ```text
//! source 4 ─┬─ 4 % 2 = 0 ──> lane ──> instance 1 ─┐
//! source 6 ─┘                                     ├── one trail: who follows them, or
//! source 5 ─── 5 % 2 = 1 ──> lane ──> instance 2 ─┘   is followed, need not know how many
//! ```
//! To all others they are one: they take up a role together, fail as one on probation,
//! and their numbers are summed. A failure itself is one shard's alone.

use penstock_event::{SourceId, SourceState};
use penstock_plugin::{Role, Runner, State, Status, Trail};
use penstock_route::Reading;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// All of them: at least one.
#[derive(Clone)]
pub struct Shards {
    pub list: Vec<Shard>,
    /// What they have handled.
    pub trail: Arc<Trail>,
}

/// One instance with its sources.
#[derive(Clone)]
pub struct Shard {
    pub runner: Arc<Runner>,
    pub reading: Arc<Reading>,
}

/// What waits for all of them, and what they missed.
#[derive(Default)]
pub struct Queued {
    pub items: usize,
    pub bytes: usize,
    pub missed: u64,
}

/// How long the last call of an instance that goes may take.
const LAST_CALL: Duration = Duration::from_millis(200);

// === impl Shards ===

impl Shards {
    pub fn runners(&self) -> impl Iterator<Item = &Runner> {
        self.list.iter().map(|shard| &*shard.runner)
    }

    /// All take up a role at their next batch boundary; false: not all within `limit`.
    pub fn play(&self, role: Role, limit: Duration) -> bool {
        Runner::play_all(self.runners(), &role, limit)
    }

    /// Sums, and the worst of what cannot be summed.
    pub fn status(&self) -> Status {
        Status::of_all(self.runners().map(Runner::status)).unwrap_or_default()
    }

    /// Those that run.
    pub fn running(&self) -> Self {
        let mut running = self.clone();
        (running.list).retain(|shard| shard.runner.status().state == State::Running);
        running
    }

    /// None of them will run again by itself.
    pub fn failed(&self) -> bool {
        self.runners()
            .all(|runner| runner.status().state == State::Failed)
    }

    /// Each answers every lookup: those that one of them answered.
    pub fn lookups(&self) -> u64 {
        let each = self.runners().map(|runner| runner.status().lookups);
        each.max().unwrap_or_default()
    }

    pub fn queued(&self) -> Queued {
        let mut queued = Queued::default();
        for shard in &self.list {
            let lane = shard.reading.lane().status();
            queued.items += lane.items;
            queued.bytes += lane.bytes;
            queued.missed += lane.dropped + lane.missed;
        }
        queued
    }

    /// Whether something waits for one that takes it.
    pub fn behind(&self) -> bool {
        let takes = |shard: &&Shard| shard.runner.status().state == State::Running;
        let mut takers = self.list.iter().filter(takes);
        takers.any(|shard| shard.reading.lane().behind())
    }

    /// Batches that these have yet to handle to stand where `others` stand, of what
    /// they read; none: by an epoch, or unknown.
    pub fn lag(&self, others: &Self, reads: &HashSet<SourceId>) -> Option<u64> {
        let reads = |source| reads.contains(&source);
        self.trail.behind(&others.trail, reads)
    }

    /// Sources that they read.
    pub fn reads(&self) -> HashSet<SourceId> {
        let each = self.list.iter().map(|shard| shard.reading.reads());
        each.reduce(|mut all, more| {
            all.extend(more);
            all
        })
        .unwrap_or_default()
    }

    /// The same, as they are where they are read.
    pub fn sources(&self) -> Vec<Arc<SourceState>> {
        let each = self.list.iter();
        each.flat_map(|shard| shard.reading.sources()).collect()
    }

    /// Takes them out of service: they handle what they have for at most `drain`, and a
    /// call that goes on for long after that is ended.
    pub fn retire(self, drain: Duration) {
        for shard in &self.list {
            shard.reading.close();
        }
        std::thread::scope(|scope| {
            let mut list = self.list.into_iter();
            let last = list.next_back();
            for shard in list {
                scope.spawn(move || shard.end(drain));
            }
            // The only one, as a rule: no thread for it.
            last.into_iter().for_each(|shard| shard.end(drain));
        });
    }
}

// === impl Shard ===

impl Shard {
    fn end(self, drain: Duration) {
        if let Some(runner) = Arc::into_inner(self.runner) {
            runner.cut(drain, LAST_CALL);
        }
    }
}
