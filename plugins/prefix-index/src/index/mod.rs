//! The index itself: plain calls, no component, no I/O.
//!
//! ```text
//! sources  source -> rank, model           workers  (source, rank, model)
//!                                              |
//! nodes    (worker, group, engine hash) -> references by medium, block size
//!                                              |  chain, once known
//! chains   chain hash -> holders: (worker, media, node) side by side
//! ```
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
//! **Bound.** Every node and chain has a price in bytes, above what it takes at
//! its worst with its share of the tables. Above the bound the block that was
//! stored or looked up least recently goes first.
//!
//! What is cleared answers nothing from then on, and is swept away a little
//! with each batch, so that no call pays for all of it.

mod chain;
mod evict;
mod find;
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

use chain::{Chain, Holder};
use find::Scratch;
use mix::BuildMixer;
use node::{Node, Recency};
use penstock_sdk::{Medium, hash};
use slab::{NONE, Slab};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use table::Table;
use worker::{Key, Workers};

pub use find::Prefix;
pub use snapshot::SCHEMA;

/// Price of a node in bytes: its slot, and its share of a table that has just
/// grown.
pub const NODE_BYTES: u64 = 96;

/// Price of a chain in bytes, its first holder included.
pub const CHAIN_BYTES: u64 = 80;

/// Price of a worker in bytes.
pub const WORKER_BYTES: u64 = 256;

/// Blocks looked up ahead together.
const AHEAD: usize = 16;

/// Who holds which prefix.
#[derive(Debug)]
pub struct Index {
    max_bytes: u64,
    seed: u64,
    clock: u32,
    spilled: u64,
    sources: HashMap<u32, Source, BuildMixer>,
    workers: Workers,
    node_table: Table,
    nodes: Slab<Node>,
    /// The worker that each slot of `nodes` was last taken for: who looks for the
    /// blocks of one need not look at every node.
    owners: Vec<u32>,
    chain_table: Table,
    chains: Slab<Chain>,
    recency: Recency,
    sweep_at: u32,
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
    /// Stored blocks whose chain is unknown when they come.
    pub unchained: u64,
    /// Blocks not taken because the table's numbers have run out.
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
            clock: 0,
            spilled: 0,
            sources: HashMap::default(),
            workers: Workers::default(),
            node_table: Table::new(),
            nodes: Slab::new(),
            owners: Vec::new(),
            chain_table: Table::new(),
            chains: Slab::new(),
            recency: Recency::new(),
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
            self.workers.kill(worker);
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
            self.workers.kill(worker);
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
            + self.spilled
    }

    /// The node under `key`, if it is `worker`'s: keys of two workers may fall
    /// together, and the second is then as good as absent.
    #[inline]
    fn node(&self, worker: u32, key: u64) -> Option<u32> {
        let at = self.any_node(key)?;
        (self.nodes.get(at).worker == worker).then_some(at)
    }

    #[inline]
    fn any_node(&self, key: u64) -> Option<u32> {
        self.node_table
            .find(key, |at| self.nodes.get(at).key() == key)
    }

    #[inline]
    fn any_chain(&self, hash: u64) -> Option<u32> {
        self.chain_table
            .find(hash, |at| self.chains.get(at).hash == hash)
    }

    #[inline]
    fn chain_of(&self, worker: u32, key: u64) -> Option<(u64, u32)> {
        let node = self.node(worker, key)?;
        match self.nodes.get(node).chain {
            NONE => None,
            at => Some((self.chains.get(at).hash, at)),
        }
    }

    /// Writes a node's media to the chain's list of holders.
    #[inline]
    fn publish_media(&mut self, at: u32) {
        let node = self.nodes.get(at);
        if node.chain == NONE {
            return;
        }
        let holder = Holder::new(node.worker, node.media(), at);
        let holders = &mut self.chains.get_mut(node.chain).holders;
        if let Some(old) = holders.at_mut(node.pos) {
            *old = holder;
        }
    }
}
