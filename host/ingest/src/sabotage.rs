//! Faults made on purpose. A self-test that never failed proves nothing: with one
//! of these switched on, it has to find losses or wrong answers. Off by default,
//! and nothing but the self-test switches one on.

use penstock_event::{Columns, EVENT_STRIDE, Kind};
use std::str::FromStr;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Every 50th batch of a source is lost behind the order machine, unreported.
    DropBatch,
    /// Removed blocks are left out of the batches.
    SkipRemove,
    /// A restart of the engine is not reported; the epoch goes on.
    StaleRestart,
}

/// Batches of which [`Sabotage::DropBatch`] loses one.
const EVERY: u64 = 50;

impl Sabotage {
    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DropBatch => "drop-batch",
            Self::SkipRemove => "skip-remove",
            Self::StaleRestart => "stale-restart",
        }
    }
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        [Self::DropBatch, Self::SkipRemove, Self::StaleRestart]
            .into_iter()
            .find(|fault| fault.name() == s)
            .ok_or_else(|| format!("no fault {s:?}: drop-batch, skip-remove or stale-restart"))
    }
}

/// True when the `n`th batch of a source is to be lost.
pub(crate) fn loses(fault: Option<Sabotage>, n: u64) -> bool {
    fault == Some(Sabotage::DropBatch) && n % EVERY == EVERY - 1
}

/// Takes the removed events out of the columns.
pub(crate) fn drop_removed(columns: &mut Columns) {
    let all = std::mem::take(columns);
    columns.filled = all.filled;
    for i in 0..all.len() {
        let mut row = all.event(i);
        if row.kind == Kind::Removed {
            continue;
        }
        let blocks = all.blocks(i);
        extend(&mut columns.hashes, &all.hashes, blocks.clone());
        extend(&mut columns.token_hashes, &all.token_hashes, blocks.clone());
        extend(
            &mut columns.extra_digests,
            &all.extra_digests,
            blocks.clone(),
        );
        for b in blocks {
            let Some(&end) = all.whole_hash_ends.get(b) else {
                break;
            };
            let start = b.checked_sub(1).map_or(0, |b| all.whole_hash_ends[b]);
            extend(
                &mut columns.whole_hashes,
                &all.whole_hashes,
                start as usize..end as usize,
            );
            let end = columns.whole_hashes.len() as u32;
            columns.whole_hash_ends.push(end);
        }
        if !all.token_ends.is_empty() {
            columns.tokens.extend_from_slice(all.tokens_of(i));
            columns.token_ends.push(columns.tokens.len() as u32);
        }
        extend(&mut columns.parents, &all.parents, i..i + 1);
        extend(&mut columns.times, &all.times, i..i + 1);
        row.block_end = columns.hashes.len() as u32;
        columns.events.extend_from_slice(&row.to_words());
    }
    debug_assert_eq!(columns.events.len(), columns.parents.len() * EVENT_STRIDE);
}

/// Copies a range of a column that may not be filled.
fn extend<T: Copy>(to: &mut Vec<T>, from: &[T], range: std::ops::Range<usize>) {
    to.extend_from_slice(from.get(range).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_event::{EventRow, Medium};

    fn row(kind: Kind, block_end: u32) -> [u32; EVENT_STRIDE] {
        EventRow {
            kind,
            medium: Medium::Gpu,
            flags: 0,
            group: 0,
            block_size: 2,
            adapter: 0,
            salt: 0,
            model: 0,
            medium_name: 0,
            block_end,
        }
        .to_words()
    }

    #[test]
    fn only_removed_events_go() {
        let mut columns = Columns {
            parents: vec![7, 0, 8],
            hashes: vec![1, 2, 3, 4],
            token_hashes: vec![11, 12, 0, 14],
            tokens: vec![1, 1, 2, 2, 4, 4],
            token_ends: vec![4, 4, 6],
            whole_hashes: vec![1, 2, 2, 3, 4],
            whole_hash_ends: vec![1, 3, 4, 5],
            ..Columns::default()
        };
        for (kind, end) in [(Kind::Stored, 2), (Kind::Removed, 3), (Kind::Stored, 4)] {
            columns.events.extend_from_slice(&row(kind, end));
        }
        drop_removed(&mut columns);
        assert_eq!(columns.len(), 2);
        assert_eq!(columns.hashes, [1, 2, 4]);
        assert_eq!(columns.token_hashes, [11, 12, 14]);
        assert_eq!(columns.blocks(1), 2..3);
        assert_eq!(columns.tokens_of(1), [4, 4]);
        assert_eq!(columns.parents, [7, 8]);
        assert_eq!(columns.whole_hashes, [1, 2, 2, 4]);
        assert_eq!(columns.whole_hash_ends, [1, 3, 4]);
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!("stale-restart".parse(), Ok(Sabotage::StaleRestart));
        assert!(
            "drop"
                .parse::<Sabotage>()
                .unwrap_err()
                .contains("drop-batch")
        );
        assert_eq!(
            (0..200)
                .filter(|n| loses(Some(Sabotage::DropBatch), *n))
                .count(),
            4
        );
        assert!(!loses(None, EVERY - 1));
    }
}
