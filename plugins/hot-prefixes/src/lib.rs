//! Which prefixes are used again and again? A plugin that exports `guest`, `request`,
//! `tick` and `state`, and imports `metrics` (one grant).
//!
//! **What counts.** A prefix is a prompt's first blocks, named by a hash over their
//! tokens that is the same on all engines. It has a hit when a stored event
//!
//! - hangs below it, and something else did before: two prompts part here; or
//! - stores it once more, and it was seen before: it had left the cache, or two
//!   requests computed it at once.
//!
//! Each event counts for the longest such prefix alone, so that a system prompt is one
//! line and not one for each of its blocks. A request that goes on exactly where the
//! last one ended looks like that one's own decoding, and is not counted.
//!
//! **What it costs.** By source, `prefixes` counters (a Space-Saving [`sketch`]) and
//! the `max_blocks` blocks seen last ([`chains`]), about 100 bytes each. Every
//! `half_life_s` seconds all counts are halved, so that what was hot makes room.
//!
//! **Questions**, `POST /v1/plugins/NAME/request`; an empty body asks for all defaults:
//!
//! ```json
//! {"top": 10, "model": "llama", "min_tokens": 0}
//! ```
//!
//! `top` 1–1000; without `model` those of all models. The answer, most hits first:
//!
//! ```json
//! {"prefixes": [{"model": "llama", "prefix": "09f3a1…", "blocks": 12, "tokens": 192,
//!                "hits": 40, "error": 2, "sources": {"vllm-0": 25, "vllm-1": 15}}]}
//! ```
//!
//! `hits` may be `error` too high, and lacks the sources in which the prefix is not
//! among the `prefixes` most used.
//!
//! Only device memory counts (offloading copies), and only the first KV cache group.
//! Refusal codes: 1 a block has no token hash, 2 the parent is not known (missed, or
//! seen too long ago). Metrics: gauges `prefixes`, `blocks`; counter `hits`.

pub mod answer;
pub mod chains;
pub mod sketch;

use answer::Ask;
use chains::{Chains, Seen};
use penstock_sdk::{
    Batch, Change, Columns, Event, Medium, Piece, Plugin, Refused, Request, SourceChange, SourceId,
    SourceInfo, State, Tick, json, metrics, state,
};
use serde::{Deserialize, Serialize};
use sketch::{Counter, Sketch};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// The plugin.
#[derive(Debug)]
pub struct HotPrefixes {
    config: Config,
    sources: BTreeMap<SourceId, Source>,
    seconds: u32,
    hits: metrics::Counter,
    gauges: [metrics::Gauge; 2],
}

/// The plugin's config.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Counters of a source, from 1.
    pub prefixes: NonZeroUsize,
    /// Blocks of a source that are known again.
    pub max_blocks: NonZeroUsize,
    /// Seconds until a count is halved.
    pub half_life_s: u32,
}

/// What is known of one source.
#[derive(Debug)]
pub struct Source {
    name: String,
    model: String,
    chains: Chains,
    sketch: Sketch,
}

/// Why an event was refused: the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A block has no token hash.
    NoTokenHashes = 1,
    /// The parent is not known.
    Unchained = 2,
}

/// What a source's state is made of.
#[derive(Serialize, Deserialize)]
enum Record {
    Seen(u64, Seen),
    Counter(Counter),
}

impl Default for Config {
    fn default() -> Self {
        let number = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            prefixes: number(1_024),
            max_blocks: number(100_000),
            half_life_s: 600,
        }
    }
}

impl From<Unfit> for u32 {
    fn from(unfit: Unfit) -> Self {
        unfit as Self
    }
}

impl Source {
    fn new(info: &SourceInfo, config: &Config) -> Self {
        Self {
            name: info.name.clone(),
            model: info.model.clone(),
            chains: Chains::new(config.max_blocks),
            sketch: Sketch::new(config.prefixes.get()),
        }
    }

    /// Its state. Counters last: a tick between two pieces may change them.
    fn records(&self) -> impl Iterator<Item = Record> {
        let seen = self.chains.seen();
        let seen = seen.map(|(hash, seen)| Record::Seen(hash, seen));
        seen.chain(self.sketch.counters().map(|c| Record::Counter(*c)))
    }

    /// Takes an event; answers whether it was a hit.
    fn apply(&mut self, event: &Event<'_>) -> Result<bool, Unfit> {
        let Event::Stored(stored) = event else {
            // What left the cache is known again when it comes back.
            return Ok(false);
        };
        if !matches!(stored.medium(), Medium::None | Medium::Gpu) || stored.group() != 0 {
            return Ok(false);
        }
        let (parent, size) = (stored.parent(), stored.block_size());
        let used = self.chains.store(parent, size, stored.blocks())?;
        if let Some(prefix) = used {
            self.sketch.hit(prefix);
        }
        Ok(used.is_some())
    }
}

impl Plugin for HotPrefixes {
    const NAME: &'static str = "hot-prefixes";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const COLUMNS: Columns = Columns::TOKEN_HASHES.and(Columns::EXTRA_DIGESTS);
    const STATE_SCHEMA: u32 = 1;
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        if config.half_life_s == 0 {
            return Err("half_life_s = 0: counts would never be more than 0".to_owned());
        }
        Ok(Self {
            config,
            sources: BTreeMap::new(),
            seconds: 0,
            hits: metrics::Counter::new("hits"),
            gauges: ["prefixes", "blocks"].map(metrics::Gauge::new),
        })
    }

    fn on_batch(&mut self, batch: &Batch<'_>, refused: &mut Refused) {
        let Some(source) = self.sources.get_mut(&batch.source()) else {
            return;
        };
        refused.each(batch, |event| {
            self.hits.add(source.apply(&event)?.into());
            Ok::<(), Unfit>(())
        });
    }

    fn on_source(&mut self, change: &SourceChange<'_>) {
        match &change.change {
            Change::Joined(info) => {
                let source = Source::new(info, &self.config);
                self.sources.insert(change.source, source);
            }
            Change::Left => drop(self.sources.remove(&change.source)),
            Change::Reset { .. } => {
                if let Some(source) = self.sources.get_mut(&change.source) {
                    // What is popular stays popular.
                    source.chains.forget();
                }
            }
            _ => {}
        }
    }
}

impl Request for HotPrefixes {
    fn handle(&mut self, body: &[u8]) -> Result<Vec<u8>, String> {
        let ask = match body.trim_ascii() {
            [] => Ask::default(),
            body => json::parse(body)?,
        };
        json::answer(&answer::answer(&ask, self.sources.values())?)
    }
}

impl Tick for HotPrefixes {
    fn interval_ms(&self) -> u32 {
        1_000
    }

    fn tick(&mut self) {
        self.seconds += 1;
        if self.seconds >= self.config.half_life_s {
            self.seconds = 0;
            for source in self.sources.values_mut() {
                source.sketch.halve();
            }
        }
        self.hits.flush();
        let sources = self.sources.values();
        let sizes = sources.map(|s| [s.sketch.len(), s.chains.len()]);
        let sizes = sizes.fold([0, 0], |all, one| [all[0] + one[0], all[1] + one[1]]);
        for (gauge, size) in self.gauges.iter_mut().zip(sizes) {
            gauge.set(size as f64);
        }
    }
}

impl State for HotPrefixes {
    fn snapshot(&mut self, source: u32, cursor: u64, max_bytes: u32) -> Result<Piece, String> {
        let source = self.sources.get(&source).into_iter();
        let records = source.flat_map(Source::records);
        state::cut(Self::STATE_SCHEMA, cursor, max_bytes, records)
    }

    fn restore(&mut self, source: u32, schema: u32, piece: &[u8]) -> Result<(), String> {
        let source = self.sources.get_mut(&source).ok_or("it has not joined")?;
        for record in state::records(Self::STATE_SCHEMA, schema, piece)? {
            match record? {
                Record::Seen(hash, seen) => source.chains.restore(hash, seen),
                Record::Counter(counter) => source.sketch.restore(counter),
            }
        }
        Ok(())
    }
}

penstock_sdk::export!(HotPrefixes: Request, State, Tick);

#[cfg(test)]
mod tests;
