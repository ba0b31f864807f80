//! What was forwarded of each source, so that it can be taken back.

use penstock_sdk::{Batch, SourceId};
use std::collections::BTreeMap;

/// Ranks kept for one source: a batch may name any number.
const MAX_RANKS: usize = 256;

/// Sources of which something was forwarded.
#[derive(Debug, Default)]
pub struct Followed(BTreeMap<SourceId, Source>);

/// One of them.
#[derive(Debug, Default)]
pub struct Source {
    /// Ranks that its batches named.
    pub ranks: Vec<Option<u32>>,
    /// Engine's time of the last batch, µs since 1970.
    pub published_us: i64,
}

impl Followed {
    /// A batch, or some of it, was forwarded.
    pub fn add(&mut self, batch: &Batch<'_>) {
        let source = self.0.entry(batch.source()).or_default();
        source.published_us = batch.published_us();
        let rank = batch.rank();
        if !source.ranks.contains(&rank) && source.ranks.len() < MAX_RANKS {
            source.ranks.push(rank);
        }
    }

    /// Forgets a source; answers what was forwarded of it.
    pub fn take(&mut self, source: SourceId) -> Option<Source> {
        self.0.remove(&source)
    }
}
