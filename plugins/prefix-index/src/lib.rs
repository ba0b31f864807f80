//! Who holds which prefix: an index from tokens or hashes to sources.
//!
//! A penstock plugin that exports `guest`, `lookup`, `state` and `tick` and imports
//! `metrics` (one grant). Config: `max_bytes`, the bound on the index in bytes,
//! 256 MiB without it; at least 1 MiB.
//!
//! What it answers, per source and rank, for a model, an adapter and a salt:
//! the longest run of blocks from the prompt's start, in whatever media, by
//! tokens, by token hashes or by the engine's own hashes. See [`index`] for the
//! rules, and [`index::Index::find`] for what the words of a row count. A medium
//! that an event does not name counts as `gpu`: engines that name none have no
//! other.
//!
//! Adapters and salts are kept apart because they are inside of the token
//! hashes. Blocks with extra keys answer no query by tokens, and so do blocks
//! below them. Bigram blocks are cut as windows of block size + 1. Batches that
//! are missing (a gap) change nothing: what they stored is not found, what they
//! removed is still answered, until the source is reset.
//!
//! Built with the feature `echo` it also imports `publish`, and forwards each batch to
//! the sink that `echo` in its config names.
//!
//! Refusal codes: 1 the event's model is past the end of the dictionary.
//!
//! Metrics: gauges `blocks`, `chains`, `workers`, `bytes`; counters
//! `evicted_blocks`, `unknown_removes`, `unchained_blocks`, `refused_blocks`.

pub mod index;

use index::{Counts, Index, Prefix, Sizes, Stored};
use penstock_sdk::{
    Batch, By, Change, Columns, Event, Lookup, Name, Piece, Plugin, Query, Refused, Row,
    SourceChange, State, Tick, hash, metrics,
};

/// The event's model is past the end of the dictionary.
pub const MODEL_UNLISTED: u32 = 1;

/// Nodes swept at each tick: an idle engine's reset still ends.
const SWEEP_AT_TICK: u32 = 100_000;

/// The plugin.
#[derive(Debug)]
pub struct PrefixIndex {
    index: Index,
    told: Option<(Counts, Sizes)>,
    #[cfg(feature = "echo")]
    echo: Option<String>,
}

/// The plugin's config.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bound on the index in bytes, at least 1 MiB.
    pub max_bytes: u64,
    /// The sink that each batch is forwarded to, as it came. Absent: none.
    #[cfg(feature = "echo")]
    pub echo: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            #[cfg(feature = "echo")]
            echo: None,
        }
    }
}

impl PrefixIndex {
    /// The index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Hands numbers to the host, those that moved.
    fn tell(&mut self) {
        let (counts, sizes) = (self.index.counts(), self.index.sizes());
        let (last, first) = match self.told.replace((counts, sizes)) {
            Some((last, size)) if size == sizes => (last, false),
            Some((last, _)) => (last, true),
            None => (Counts::default(), true),
        };
        if first {
            metrics::set("blocks", sizes.blocks as f64);
            metrics::set("chains", sizes.chains as f64);
            metrics::set("workers", sizes.workers as f64);
            metrics::set("bytes", sizes.bytes as f64);
        }
        for (name, now, before) in [
            ("evicted_blocks", counts.evicted, last.evicted),
            (
                "unknown_removes",
                counts.unknown_removes,
                last.unknown_removes,
            ),
            ("unchained_blocks", counts.unchained, last.unchained),
            ("refused_blocks", counts.refused, last.refused),
        ] {
            if now > before {
                metrics::add(name, now - before);
            }
        }
    }
}

impl Plugin for PrefixIndex {
    const NAME: &'static str = "prefix-index";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const COLUMNS: Columns = Columns::TOKEN_HASHES.and(Columns::EXTRA_DIGESTS);
    const STATE_SCHEMA: u32 = index::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        if config.max_bytes < 1 << 20 {
            return Err(format!(
                "max_bytes = {} is below 1 MiB (1048576)",
                config.max_bytes
            ));
        }
        Ok(Self {
            index: Index::new(config.max_bytes),
            told: None,
            #[cfg(feature = "echo")]
            echo: config.echo,
        })
    }

    fn on_batch(&mut self, batch: &Batch<'_>, refused: &mut Refused) {
        let of_batch = self.index.place(batch.source(), batch.rank());
        for event in batch.events() {
            let place = match event.common().model() {
                Name::None => of_batch,
                Name::Known(model) => of_batch.of_model(model),
                Name::Unlisted => {
                    refused.event(event.common().index(), MODEL_UNLISTED);
                    continue;
                }
            };
            match event {
                Event::Stored(s) => self.index.apply_stored(
                    place,
                    &Stored {
                        medium: s.medium(),
                        group: s.group(),
                        block_size: s.block_size(),
                        bigram: s.is_bigram(),
                        parent: s.parent(),
                        hashes: s.hashes(),
                        token_hashes: s.token_hashes(),
                        extra_digests: s.extra_digests(),
                    },
                ),
                Event::Removed(r) => {
                    self.index
                        .apply_removed(place, r.medium(), r.group(), r.hashes());
                }
                Event::Cleared(_) => self.index.apply_cleared(place),
            }
        }
        self.index.end_batch();
        // What is refused misses behind the sink, where it is counted.
        #[cfg(feature = "echo")]
        if let Some(sink) = &self.echo
            && let Err(why) = penstock_sdk::publish::forward(sink, b"")
        {
            penstock_sdk::error!("a batch was not forwarded: {why}");
        }
    }

    fn on_source(&mut self, change: &SourceChange<'_>) {
        match &change.change {
            Change::Joined(info) => self.index.join(change.source, info.rank, &info.model),
            Change::Left => self.index.leave(change.source),
            Change::Reset { .. } => self.index.forget(change.source),
            _ => {}
        }
    }
}

impl Lookup for PrefixIndex {
    fn find(&mut self, query: &Query) -> Result<Vec<Row>, String> {
        let prefix = match &query.by {
            By::Tokens(tokens) => {
                Prefix::Tokens(tokens, hash::token_seed(&query.adapter, &query.salt))
            }
            By::TokenHashes(hashes) => Prefix::TokenHashes(hashes),
            By::EngineHashes(hashes) => Prefix::EngineHashes(hashes),
            _ => return Err("`by` is 0 (tokens), 1 (token hashes) or 2 (engine hashes)".into()),
        };
        Ok(self.index.find(&query.model, prefix))
    }
}

impl State for PrefixIndex {
    fn snapshot(&mut self, source: u32, cursor: u64, max_bytes: u32) -> Result<Piece, String> {
        let (bytes, next) = (self.index).snapshot(source, cursor, max_bytes as usize)?;
        Ok(Piece { bytes, next })
    }

    fn restore(&mut self, source: u32, schema: u32, bytes: &[u8]) -> Result<(), String> {
        self.index.restore(source, schema, bytes)
    }
}

impl Tick for PrefixIndex {
    fn interval_ms(&self) -> u32 {
        1_000
    }

    fn tick(&mut self) {
        self.index.sweep(SWEEP_AT_TICK);
        self.tell();
    }
}

penstock_sdk::export!(PrefixIndex: Lookup, State, Tick);

#[cfg(test)]
mod tests;
