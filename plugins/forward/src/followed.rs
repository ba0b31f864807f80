//! What was forwarded of each source, so that it can be taken back.

use penstock_sdk::{Batch, Change, SourceChange, SourceId};
use std::collections::BTreeMap;

/// Ranks kept for one source: a batch may name any number.
const MAX_RANKS: usize = 256;

/// The sources, and what is known of each.
#[derive(Debug, Default)]
pub struct Followed(BTreeMap<SourceId, Source>);

/// One of them.
#[derive(Clone, Debug, Default)]
pub struct Source {
    own_rank: u32,
    named: Vec<Option<u32>>,
    /// Engine's time of the last batch, µs since 1970.
    pub published_us: i64,
}

impl Followed {
    /// A source joined. Something of it may have been forwarded by an instance that
    /// is gone.
    pub fn join(&mut self, source: SourceId, rank: u32) {
        self.0.entry(source).or_default().own_rank = rank;
    }

    /// A batch, or some of it, was forwarded.
    pub fn add(&mut self, batch: &Batch<'_>) {
        let source = self.0.entry(batch.source()).or_default();
        source.published_us = batch.published_us();
        let rank = batch.rank();
        if !source.named.contains(&rank) && source.named.len() < MAX_RANKS {
            source.named.push(rank);
        }
    }

    /// The source lost all that it held, or left. What was known of it.
    pub fn take(&mut self, change: &SourceChange<'_>) -> Option<Source> {
        match change.change {
            Change::Left => self.0.remove(&change.source),
            _ => self.0.get_mut(&change.source).map(|source| {
                let before = source.clone();
                source.named.clear();
                before
            }),
        }
    }
}

impl Source {
    /// Ranks under which blocks may have been forwarded.
    #[must_use]
    pub fn ranks(&self) -> Vec<Option<u32>> {
        match self.named.is_empty() {
            true => vec![None, Some(self.own_rank)],
            false => self.named.clone(),
        }
    }
}
