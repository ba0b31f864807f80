//! Which prefix a stored event uses again.
//!
//! ```text
//! stored by one request   A ── B ── C            C continues B continues A
//! later                        B ── D            B is used again: D is its second
//! later, A evicted        A'── B'── E            B again: A and B were seen before
//! ```
//!
//! An event names its first block's parent by the engine's hash; what was seen is
//! kept by that hash, with the hash of the whole prefix over tokens, which is the same
//! for all engines. The blocks stored or followed longest ago are forgotten.

use crate::Unfit;
use crate::sketch::Prefix;
use lru::LruCache;
use penstock_sdk::{Block, hash};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Blocks of one source that were seen, by the engine's hash.
#[derive(Debug)]
pub struct Chains {
    seen: LruCache<u64, Seen>,
}

/// A block that was seen: the prefix that it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The prefix.
    pub prefix: Prefix,
    /// Whether a block was stored behind it.
    pub extended: bool,
}

/// Before a prompt's first block.
const START: Prefix = Prefix {
    id: 0,
    blocks: 0,
    tokens: 0,
};

// === impl Chains ===

impl Chains {
    /// Nothing seen, and room for so many blocks.
    #[must_use]
    pub fn new(max_blocks: NonZeroUsize) -> Self {
        // `LruCache::new` would reserve all of it at once.
        let mut seen = LruCache::unbounded();
        seen.resize(max_blocks);
        Self { seen }
    }

    /// Takes a stored event; answers the longest prefix that it uses again: of what it
    /// stores, or else what it hangs below, if that has been extended before.
    ///
    /// # Errors
    /// The parent is not known, or a block has no token hash; nothing is taken then.
    pub fn store(
        &mut self,
        parent: Option<u64>,
        block_size: u32,
        blocks: impl ExactSizeIterator<Item = Block> + Clone,
    ) -> Result<Option<Prefix>, Unfit> {
        if blocks.clone().any(|block| block.token_hash.is_none()) {
            return Err(Unfit::NoTokenHashes);
        }
        let (mut at, mut used) = match parent {
            None => (START, None),
            Some(parent) => {
                let below = self.seen.get_mut(&parent).ok_or(Unfit::Unchained)?;
                let used = below.extended.then_some(below.prefix);
                below.extended |= blocks.len() > 0;
                (below.prefix, used)
            }
        };
        let (mut left, mut known) = (blocks.len(), true);
        for block in blocks {
            left -= 1;
            at = next(at, block_size, &block);
            match self.seen.get_mut(&block.hash) {
                Some(seen) if seen.prefix.id == at.id => {
                    seen.extended |= left > 0;
                    if known {
                        used = Some(at);
                    }
                }
                _ => {
                    known = false;
                    let seen = Seen {
                        prefix: at,
                        extended: left > 0,
                    };
                    self.seen.put(block.hash, seen);
                }
            }
        }
        Ok(used)
    }

    /// What was seen, the oldest first.
    pub fn seen(&self) -> impl Iterator<Item = (u64, Seen)> {
        self.seen.iter().rev().map(|(hash, seen)| (*hash, *seen))
    }

    /// Takes over a block that another build has seen, after those older than it.
    pub fn restore(&mut self, hash: u64, seen: Seen) {
        self.seen.put(hash, seen);
    }

    /// Blocks seen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// True when none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The engine restarted: its hashes may mean other blocks.
    pub fn forget(&mut self) {
        self.seen.clear();
    }
}

/// The prefix that is one block longer. A block's token hash covers adapter and salt,
/// its digest what else went into it.
fn next(prefix: Prefix, block_size: u32, block: &Block) -> Prefix {
    let words = [prefix.id, block.token_hash.unwrap_or(0), block.extra_digest];
    let mut bytes = [0; 24];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    Prefix {
        id: hash::token_hash_le(&bytes, 0),
        blocks: prefix.blocks.saturating_add(1),
        tokens: prefix.tokens.saturating_add(block_size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks whose engine hash is 100 + their tokens' hash, on engine `offset`.
    fn blocks(tokens: &[u64], offset: u64) -> impl ExactSizeIterator<Item = Block> + Clone {
        tokens.iter().map(move |t| Block {
            hash: offset + t,
            token_hash: Some(*t),
            extra_digest: 0,
        })
    }

    fn chains(max: usize) -> Chains {
        Chains::new(NonZeroUsize::new(max).unwrap())
    }

    #[test]
    fn a_prefix_is_used_again_when_it_branches_or_comes_back() {
        let mut chains = chains(100);
        let mut store = |parent, tokens: &[u64]| {
            let used = chains.store(parent, 16, blocks(tokens, 100)).unwrap();
            used.map(|p| (p.blocks, p.tokens))
        };
        assert_eq!(store(None, &[1, 2, 3]), None, "the first time");
        assert_eq!(store(Some(103), &[4]), None, "it goes on where it ended");
        assert_eq!(store(Some(102), &[5, 6]), Some((2, 32)), "it branches");
        assert_eq!(store(None, &[1, 2, 7]), Some((2, 32)), "it comes back");
        assert_eq!(store(None, &[1, 2, 3]), Some((3, 48)), "all of it");
        assert_eq!(store(Some(103), &[8]), Some((3, 48)));
        assert_eq!(store(None, &[9]), None, "another prompt");
        assert_eq!(store(Some(109), &[]), None, "nothing");
        assert_eq!(store(Some(109), &[10]), None, "nothing does not extend it");
    }

    #[test]
    fn prefixes_are_the_same_on_all_engines_and_differ_in_every_block() {
        let ids = |offset, tokens: &[u64]| {
            let mut chains = chains(100);
            chains.store(None, 16, blocks(tokens, offset)).unwrap();
            let ids: Vec<u64> = chains.seen().map(|(_, seen)| seen.prefix.id).collect();
            ids
        };
        assert_eq!(ids(100, &[1, 2, 3]), ids(500, &[1, 2, 3]));
        let (one, two) = (ids(100, &[1, 2, 3]), ids(100, &[4, 2, 3]));
        assert!(
            one.iter().all(|id| !two.contains(id)),
            "same blocks, other beginnings"
        );
    }

    #[test]
    fn what_does_not_fit_changes_nothing_and_the_oldest_are_forgotten() {
        let mut chains = chains(3);
        let unchained = chains.store(Some(7), 16, blocks(&[1], 100));
        assert_eq!(unchained, Err(Unfit::Unchained));
        let unhashed = [Block {
            hash: 1,
            token_hash: None,
            extra_digest: 0,
        }];
        let unhashed = chains.store(None, 16, unhashed.into_iter());
        assert_eq!(unhashed, Err(Unfit::NoTokenHashes));
        assert!(chains.is_empty());
        chains.store(None, 16, blocks(&[1, 2], 100)).unwrap();
        chains.store(None, 16, blocks(&[1], 100)).unwrap();
        chains.store(None, 16, blocks(&[3, 4], 100)).unwrap();
        let left: Vec<u64> = chains.seen().map(|(hash, _)| hash).collect();
        assert_eq!(left, [101, 103, 104], "102 was used longest ago");
    }
}
