//! Passes on only what changes something. An operator: it exports `guest`, `state` and
//! `tick`, and imports `emit`, `metrics` and `log` (three grants).
//!
//! **What is left out**, of each source, rank, medium and group:
//!
//! - a stored event of blocks that are all held already. One of which some are new passes
//!   whole, as it came: its first block's parent and the order of its blocks are how those
//!   after it know a prefix.
//! - blocks of a removed event that are held more often than once, or not at all. What is
//!   left of the event passes.
//! - stored events without blocks.
//!
//! **Counting.** Engines store a block twice and remove it twice: two requests that
//! computed it at once, or two copies of it. So stores are counted, and the block is held
//! until the last of them was removed. Those after, which count what *they* are told, get a
//! remove whenever they would otherwise count more than the engine ([`held`]).
//!
//! **What is not known passes.** After a gap, or events that could not be read, nothing is
//! known of what was held: all of it is forgotten, each block passes once more when it is
//! stored again, and removes of blocks that are not known pass, until the engine restarts
//! or clears its cache. The same goes for blocks beyond `max_blocks`, and for those below a
//! parent that is not held, which an index may have refused.
//!
//! **Config**: `max_blocks`, 4,000,000 of all sources together, about 40 bytes each.
//!
//! Metrics: counters `passed_events`, `trimmed_events` (passed in part), `dropped_stored`,
//! `dropped_removed`, `dropped_empty` (events), `untracked_blocks`; gauge `held_blocks`.

pub mod held;

use held::{Held, Place, Removed};
use penstock_sdk::{
    Batch, Change, Columns, Event, Piece, Plugin, Refused, SourceChange, SourceId, State, Tick,
    emit, error, metrics, state,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// The plugin.
#[derive(Debug)]
pub struct Dedupe {
    config: Config,
    sources: BTreeMap<SourceId, Held>,
    counts: Counts,
    gauge: metrics::Gauge,
}

/// The plugin's config.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Blocks that are known of all sources together. More pass untracked.
    pub max_blocks: NonZeroUsize,
}

#[derive(Debug)]
struct Counts {
    passed: metrics::Counter,
    trimmed: metrics::Counter,
    stored: metrics::Counter,
    removed: metrics::Counter,
    empty: metrics::Counter,
    untracked: metrics::Counter,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_blocks: NonZeroUsize::new(4_000_000).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

// === impl Counts ===

impl Counts {
    const fn new() -> Self {
        use metrics::Counter;
        Self {
            passed: Counter::new("passed_events"),
            trimmed: Counter::new("trimmed_events"),
            stored: Counter::new("dropped_stored"),
            removed: Counter::new("dropped_removed"),
            empty: Counter::new("dropped_empty"),
            untracked: Counter::new("untracked_blocks"),
        }
    }

    fn flush(&mut self) {
        let Self {
            passed,
            trimmed,
            stored,
            removed,
            empty,
            untracked,
        } = self;
        for counter in [passed, trimmed, stored, removed, empty, untracked] {
            counter.flush();
        }
    }
}

// === impl Dedupe ===

impl Dedupe {
    fn blocks(&self) -> usize {
        self.sources.values().map(Held::len).sum()
    }
}

impl Plugin for Dedupe {
    const NAME: &'static str = "dedupe";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const COLUMNS: Columns = Columns::NONE;
    const STATE_SCHEMA: u32 = 1;
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self {
            config,
            sources: BTreeMap::new(),
            counts: Counts::new(),
            gauge: metrics::Gauge::new("held_blocks"),
        })
    }

    fn on_batch(&mut self, batch: &Batch<'_>, _: &mut Refused) {
        let mut room = self.config.max_blocks.get().saturating_sub(self.blocks());
        let held = self.sources.entry(batch.source()).or_default();
        if batch.skipped() > 0 {
            held.doubt();
        }
        let mut out = emit::Events::new();
        for event in batch.events() {
            let common = event.common();
            let place = Place::of(batch, common.index());
            match &event {
                Event::Stored(stored) if stored.hashes().is_empty() => self.counts.empty.add(1),
                Event::Stored(stored) => {
                    let (parent, hashes) = (stored.parent(), stored.hashes());
                    let told = held.store(place, parent, hashes, &mut room);
                    self.counts.untracked.add(told.untracked);
                    if told.passes {
                        self.counts.passed.add(1);
                        out.keep(&event);
                    } else {
                        self.counts.stored.add(1);
                    }
                }
                Event::Removed(removed) => match held.remove(place, removed.hashes(), &mut room) {
                    Removed::All => {
                        self.counts.passed.add(1);
                        out.keep(&event);
                    }
                    Removed::Some(hashes) => {
                        self.counts.trimmed.add(1);
                        out.removed(common, &hashes);
                    }
                    Removed::None => self.counts.removed.add(1),
                },
                Event::Cleared(_) => {
                    held.clear(batch.rank(), &mut room);
                    self.counts.passed.add(1);
                    out.keep(&event);
                }
            }
        }
        if let Err(error) = out.emit() {
            // Nobody after it may believe that nothing happened.
            error!("batch {} is not passed on: {error}", batch.sequence());
            held.doubt();
        }
    }

    fn on_source(&mut self, change: &SourceChange<'_>) {
        match &change.change {
            Change::Joined(_) | Change::Reset { .. } => {
                self.sources.insert(change.source, Held::default());
            }
            Change::Left => drop(self.sources.remove(&change.source)),
            Change::Gap { .. } => self.sources.entry(change.source).or_default().doubt(),
            _ => {}
        }
    }
}

impl Tick for Dedupe {
    fn interval_ms(&self) -> u32 {
        1_000
    }

    fn tick(&mut self) {
        self.counts.flush();
        let blocks = self.blocks();
        self.gauge.set(blocks as f64);
    }
}

impl State for Dedupe {
    fn snapshot(&mut self, source: u32, cursor: u64, max_bytes: u32) -> Result<Piece, String> {
        let held = self.sources.get(&source).into_iter();
        let records = held.flat_map(Held::records);
        state::cut(Self::STATE_SCHEMA, cursor, max_bytes, records)
    }

    fn restore(&mut self, source: u32, schema: u32, piece: &[u8]) -> Result<(), String> {
        let mut room = self.config.max_blocks.get().saturating_sub(self.blocks());
        let held = self.sources.get_mut(&source).ok_or("it has not joined")?;
        for record in state::records(Self::STATE_SCHEMA, schema, piece)? {
            held.restore(record?, &mut room)?;
        }
        Ok(())
    }
}

penstock_sdk::export!(Dedupe: State, Tick);

#[cfg(test)]
mod tests;
