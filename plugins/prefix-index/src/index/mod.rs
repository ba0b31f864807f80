//! The index itself: plain calls, no component, no I/O.
//!
//! ```text
//! sources  source -> rank, model            workers  (source, rank, model)
//!                                               |
//! nodes    (lot: worker and group, engine hash) -> references by medium, block size
//!                                               |  chain, once known
//! chains   chain hash -> holders: (worker, media) side by side
//! ```
//! Nodes and chains are 16 bytes each in a slab, and about 8 in a table; one holder fits
//! into the chain, several are in a list.
//!
//! **Chains.** The chain hash of a block stands for all tokens from the prompt's
//! start to the block's end: it mixes the parent's chain hash with the block's
//! token hash, and begins with the hash of the model's name. Adapter and salt
//! are inside of the token hashes. A block whose parent is unknown, or whose
//! tokens are, has no chain: it is found by engine hash alone. A block with
//! extra keys has one that no plain query leads to, and so have those below it.
//!
//! **References.** A store adds one to the block's count in its medium, a
//! removal takes one away there; without a medium both use a slot of their own.
//! Counts stop at 65,535. A block leaves with its last count.
//!
//! **Bound.** Every node and chain has a price in bytes, about what it takes at its worst
//! with its share of the tables. Above the bound a block goes that was stored or looked
//! up less recently than others: see [`evict`].
//!
//! What is cleared answers nothing from then on, and is swept away a little
//! with each batch, so that no call pays for all of it.

mod chain;
mod evict;
mod find;
mod lists;
mod lot;
mod mix;
mod node;
mod remove;
mod slab;
mod snapshot;
mod store;
mod table;
mod worker;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

use chain::Chain;
use evict::Recency;
use find::Scratch;
use foldhash::fast::FixedState;
use lists::{Holder, Lists};
use lot::Lots;
use node::{Block, Node};
use penstock_sdk::{Medium, hash};
use slab::{NONE, Slab};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use table::Table;
use worker::{Key, MAX_GROUPS, Workers};

pub use find::Prefix;
pub use snapshot::SCHEMA;

/// Blocks whose slots are read together before the first of them is handled, so that their
/// cache misses overlap. What is read there means nothing, and goes into a `black_box`.
const AHEAD: usize = 16;

/// Price of a node in bytes: its slot, and its share of a table that has just grown. (In an
/// index of less than 200,000 blocks that share can be a byte more: small tables double.)
pub const NODE_BYTES: u64 = 28;

/// Price of a chain in bytes, its first holder included.
pub const CHAIN_BYTES: u64 = 28;

/// Price of a worker in bytes.
pub const WORKER_BYTES: u64 = 256;

/// Price of a worker's group in bytes.
pub const LOT_BYTES: u64 = 64;

/// Price in bytes of what is kept beside a node that has no room for it.
const RICH_BYTES: u64 = 64;

/// Who holds which prefix.
#[derive(Debug)]
pub struct Index {
    max_bytes: u64,
    seed: u64,
    sources: HashMap<u32, Source, FixedState>,
    workers: Workers,
    lots: Lots,
    node_table: Table,
    nodes: Slab<Node>,
    /// Blocks whose node has no room for what is known of them.
    rich: HashMap<u32, Block, FixedState>,
    chain_table: Table,
    chains: Slab<Chain>,
    lists: Lists,
    recency: Recency,
    sweep_at: u32,
    /// Workers that may have no nodes left.
    idle: Vec<u32>,
    several_models: bool,
    scratch: Scratch,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    rank: u32,
    root: u64,
}

/// Whose an event is: see [`Index::place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    key: Key,
    /// Root of the source's own model.
    own_root: u64,
    named: bool,
}

/// A stored event's columns.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Where the blocks live.
    pub medium: Medium,
    /// KV cache group.
    pub group: u32,
    /// Tokens a block; 0 for placeholders.
    pub block_size: u32,
    /// Token hashes cover one token more than a block.
    pub bigram: bool,
    /// Engine hash of the block before the first; none at a prompt's start.
    pub parent: Option<u64>,
    /// Engine hashes, one a block.
    pub hashes: &'a [u64],
    /// Token hashes, one a block, when valid.
    pub token_hashes: Option<&'a [u64]>,
    /// Digests of extra keys, one a block; shorter means 0.
    pub extra_digests: &'a [u64],
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blocks evicted by the bound.
    pub evicted: u64,
    /// Removals of blocks that were not there, in that medium.
    pub unknown_removes: u64,
    /// Stored blocks whose chain is unknown when they come, or of more than 65,535 tokens.
    pub unchained: u64,
    /// Blocks not taken because numbers have run out, or groups: 256 of a source.
    pub refused: u64,
}

/// How large the index is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Blocks held: nodes of workers alive.
    pub blocks: u64,
    /// Prefixes known: chains.
    pub chains: u64,
    /// Workers that hold a block.
    pub workers: u64,
    /// The price of all of it in bytes; at most the bound.
    pub bytes: u64,
}

// === impl Place ===

impl Place {
    /// The same for an event that names its model itself.
    #[must_use]
    pub fn of_model(self, model: &str) -> Self {
        let root = hash::name_hash(model);
        Self {
            key: Key { root, ..self.key },
            named: true,
            ..self
        }
    }
}

// === impl Index ===

impl Index {
    /// An index that takes at most `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            // An engine or a prompt must not choose where its hashes fall.
            seed: RandomState::new().hash_one(0u8),
            sources: HashMap::default(),
            workers: Workers::default(),
            lots: Lots::default(),
            node_table: Table::new(),
            nodes: Slab::new(),
            rich: HashMap::default(),
            chain_table: Table::new(),
            chains: Slab::new(),
            lists: Lists::default(),
            recency: Recency::new(max_bytes / (NODE_BYTES + CHAIN_BYTES)),
            sweep_at: 0,
            idle: Vec::new(),
            several_models: false,
            scratch: Scratch::default(),
            counts: Counts::default(),
        }
    }

    /// Says which rank and model a source has. Sources never named have rank 0
    /// and no model.
    pub fn join(&mut self, source: u32, rank: u32, model: &str) {
        let root = hash::name_hash(model);
        let before = self.sources.insert(source, Source { rank, root });
        self.several_models |= before.is_some_and(|b| b.root != root);
    }

    /// The place of a batch's events: `rank` as the batch names it.
    #[must_use]
    pub fn place(&self, source: u32, rank: Option<u32>) -> Place {
        let known = self
            .sources
            .get(&source)
            .copied()
            .unwrap_or_else(|| Source {
                rank: 0,
                root: hash::name_hash(""),
            });
        Place {
            key: Key {
                source,
                rank: rank.unwrap_or(known.rank),
                root: known.root,
            },
            own_root: known.root,
            named: false,
        }
    }

    /// The whole cache of a source and rank was emptied, whatever the model.
    pub fn apply_cleared(&mut self, place: Place) {
        let others: Vec<u32> = self.workers.others(place.key).collect();
        let own = self.workers.find(&place.key);
        for worker in own.into_iter().chain(others) {
            self.kill(worker);
        }
    }

    /// All blocks of a source are gone; what is known of it stays.
    pub fn forget(&mut self, source: u32) {
        let all = self.workers.alive();
        let its: Vec<u32> = all
            .filter(|(_, w)| w.key.source == source)
            .map(|(at, _)| at)
            .collect();
        for worker in its {
            self.kill(worker);
        }
    }

    /// A source is gone for good.
    pub fn leave(&mut self, source: u32) {
        self.forget(source);
        self.sources.remove(&source);
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How large it is.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            blocks: u64::from(self.nodes.len() - self.workers.dead_nodes),
            chains: u64::from(self.chains.len()),
            workers: self.workers.len() as u64,
            bytes: self.bytes(),
        }
    }

    #[inline]
    fn bytes(&self) -> u64 {
        u64::from(self.nodes.len()) * NODE_BYTES
            + u64::from(self.chains.len()) * CHAIN_BYTES
            + self.workers.numbers() as u64 * WORKER_BYTES
            + self.lots.len() as u64 * LOT_BYTES
            + self.rich.len() as u64 * RICH_BYTES
            + self.lists.bytes()
    }

    /// The lot of a worker's group, if there is one.
    #[inline]
    fn lot(&self, worker: u32, group: u32) -> Option<u16> {
        let mut lots = self.workers.get(worker).lots.iter().copied();
        lots.find(|lot| self.lots.get(*lot).group == group)
    }

    /// The same, a new one if need be; none when there are too many.
    #[inline]
    fn lot_or_make(&mut self, key: Key, group: u32) -> Option<u16> {
        let worker = self.workers.find_or_make(key)?;
        if let Some(lot) = self.lot(worker, group) {
            return Some(lot);
        }
        if self.workers.get(worker).lots.len() >= MAX_GROUPS {
            return None;
        }
        let Some(lot) = self.lots.make(self.seed, worker, group) else {
            if self.workers.get(worker).nodes == 0 {
                self.idle.push(worker);
            }
            return None;
        };
        self.workers.get_mut(worker).lots.push(lot);
        Some(lot)
    }

    /// The node under `key`, if it is the lot's: keys of two lots may fall together,
    /// and the second is then as good as absent.
    #[inline]
    fn node(&self, lot: u16, key: u64) -> Option<u32> {
        let at = self.node_table.find(key, &self.nodes)?;
        (self.nodes.get(at).lot() == lot).then_some(at)
    }

    #[inline]
    fn any_chain(&self, hash: u64) -> Option<u32> {
        self.chain_table.find(hash, &self.chains)
    }

    /// The holder that a node stands for in its chain.
    #[inline]
    fn holder(&self, lot: u16, media: u8) -> Holder {
        Holder::new(self.lots.get(lot).worker, media)
    }

    /// Changes the media of a chain's holder.
    fn change_holder(&mut self, chain: u32, old: Holder, new: Holder) {
        if chain != NONE && old != new {
            let chain = self.chains.get_mut(chain);
            let mut holders = chain.holders();
            self.lists.replace(&mut holders, old, new);
            chain.set_holders(holders);
        }
    }

    /// What is known of a node's block.
    #[inline]
    fn block(&self, at: u32) -> Block {
        let node = *self.nodes.get(at);
        let Some(references) = node.references() else {
            return self.rich.get(&at).copied().unwrap_or_default();
        };
        let size = self.lots.get(node.lot()).size(node.size());
        Block::of(node.media(), references, size)
    }

    /// Writes down what is known of a node's block.
    fn set_block(&mut self, at: u32, block: &Block) {
        let node = self.nodes.get_mut(at);
        let size = self.lots.get_mut(node.lot()).number(block.size);
        *node = match block.same().zip(size) {
            Some((references, size)) => {
                if node.references().is_none() {
                    self.rich.remove(&at);
                }
                node.with_block(block.media(), size, references)
            }
            None => {
                self.rich.insert(at, *block);
                node.with_block(block.media(), 0, 0)
            }
        };
    }
}
