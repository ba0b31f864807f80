//! Stored events: a block after the other, each with the chain that it ends.
//!
//! What is done for every block is inlined into the loop over them: in wasm a call looks whether
//! the stack has room and whether time is over, and saves five registers, some 35 instructions.
//! What is done rarely stays out of line, so that the loop is short.

use super::AHEAD;
use super::chain::{Chain, MAX_SIZE};
use super::lists::Holder;
use super::node::{Block, Node};
use super::slab::NONE;
use super::table::Added;
use super::worker::Size;
use super::{Index, Place, Stored, mix};
use std::hint::black_box;
use std::ops::Range;

/// What the blocks of an event have in common.
struct Storing {
    lot: u16,
    worker: u32,
    /// Slot of the medium.
    medium: usize,
    /// Tokens of a block.
    tokens: u32,
    /// For a chain that nobody holds yet.
    holder: Holder,
    /// A block that was not there before; its key and its chain are missing.
    fresh: Node,
    /// The lot knows the size, or was asked to.
    sized: bool,
}

/// What is known of some blocks before the first of them is stored.
#[derive(Default)]
struct Ahead {
    /// Keys in the table of nodes.
    keys: [u64; AHEAD],
    /// The chain before the first; none when it or tokens are unknown.
    before: Option<u64>,
    /// Then the chains that the blocks end, if nothing else is known of them.
    chains: [u64; AHEAD],
}

// === impl Stored ===

impl Stored<'_> {
    /// The chain of block `i` under `parent`; none when its tokens are unknown.
    #[inline]
    fn chain(&self, parent: u64, i: usize) -> Option<u64> {
        let token_hash = *self.token_hashes?.get(i)?;
        match self.extra_digests.get(i) {
            None | Some(0) => Some(mix::chain(parent, token_hash)),
            Some(digest) => Some(mix::chain_with_extra(parent, token_hash, *digest)),
        }
    }
}

// === impl Index ===

impl Index {
    /// Blocks entered the cache.
    pub fn apply_stored(&mut self, place: Place, stored: &Stored<'_>) {
        if stored.hashes.is_empty() {
            return;
        }
        self.several_models |= place.key.root != place.own_root;
        let Some(lot) = self.lot_or_make(place.key, stored.group) else {
            self.counts.refused += stored.hashes.len() as u64;
            return;
        };
        let worker = self.lots.get(lot).worker;
        let size = Size {
            tokens: stored.block_size,
            bigram: stored.bigram,
        };
        if stored.token_hashes.is_some() {
            self.workers.note_size(worker, size);
        }
        let parent = stored.parent.map(|hash| self.chain_of(lot, hash));
        let mut before = match parent {
            None => Some(place.key.root ^ self.seed),
            Some(NONE) => None,
            Some(parent) => {
                let parent = self.chains.get_mut(parent);
                if parent.size() != stored.block_size && stored.token_hashes.is_some() {
                    parent.set_odd_child();
                }
                Some(parent.hash)
            }
        };
        let mut storing = self.storing(lot, worker, stored);
        let mut ahead = Ahead::default();
        for first in (0..stored.hashes.len()).step_by(AHEAD) {
            let last = (first + AHEAD).min(stored.hashes.len());
            self.read_ahead(lot, before, stored, first..last, &mut ahead);
            storing.fresh = storing.fresh.with_era(self.recency.era());
            before = self.store_blocks(&mut storing, before, stored, first..last, &ahead);
            self.trim();
        }
        if self.workers.get(worker).nodes == 0 {
            self.idle.push(worker);
        }
    }

    fn storing(&self, lot: u16, worker: u32, stored: &Stored<'_>) -> Storing {
        let (medium, tokens) = (stored.medium.slot(), stored.block_size);
        let fresh = Node::new(0, lot, self.recency.era());
        let size = self.lots.get(lot).known(tokens);
        Storing {
            lot,
            worker,
            medium,
            tokens,
            holder: Holder::new(worker, 1 << medium),
            fresh: fresh.with_block(1 << medium, size.unwrap_or(0), size.map_or(0, |_| 1)),
            sized: size.is_some(),
        }
    }

    /// The first new block of a size that the lot does not know.
    #[cold]
    fn size_up(&mut self, storing: &mut Storing) {
        storing.sized = true;
        if let Some(size) = self.lots.get_mut(storing.lot).number(storing.tokens) {
            storing.fresh = storing.fresh.with_block(1 << storing.medium, size, 1);
        }
    }

    /// Works out keys and chains of some blocks, and reads where they will be looked up.
    #[inline(never)]
    fn read_ahead(
        &self,
        lot: u16,
        before: Option<u64>,
        stored: &Stored<'_>,
        blocks: Range<usize>,
        ahead: &mut Ahead,
    ) {
        let hashes = &stored.hashes[blocks.clone()];
        let salt = self.lots.get(lot).salt;
        let mut seen = 0;
        for (key, hash) in ahead.keys.iter_mut().zip(hashes) {
            *key = mix::node_key(salt, *hash);
            seen ^= self.node_table.start(*key);
        }
        let known = stored.token_hashes.is_some_and(|t| t.len() >= blocks.end);
        ahead.before = before.filter(|_| known);
        if let Some(mut chain) = ahead.before {
            for (at, i) in ahead.chains.iter_mut().zip(blocks) {
                chain = stored.chain(chain, i).unwrap_or(chain);
                *at = chain;
                seen ^= self.chain_table.start(chain);
            }
        }
        black_box(seen);
    }

    /// Stores some blocks; returns the chain that the last one ends.
    #[inline(never)]
    fn store_blocks(
        &mut self,
        storing: &mut Storing,
        mut before: Option<u64>,
        stored: &Stored<'_>,
        blocks: Range<usize>,
        ahead: &Ahead,
    ) -> Option<u64> {
        let (mut planned, held) = (ahead.before, self.nodes.len());
        let prepared = ahead.keys.iter().zip(&ahead.chains);
        for ((key, ends), i) in prepared.zip(blocks) {
            let chain = match before {
                Some(parent) if planned == Some(parent) => Some(*ends),
                Some(parent) => stored.chain(parent, i),
                None => None,
            };
            planned = planned.map(|_| *ends);
            let at = self.store_block(storing, *key, chain);
            before = None;
            if at != NONE {
                let chain = self.chains.get_mut(at);
                // Known from before, in another size: the next one follows it.
                if chain.size() != storing.tokens && stored.token_hashes.is_some() {
                    chain.set_odd_child();
                }
                before = Some(chain.hash);
            }
        }
        let new = self.nodes.len() - held;
        self.workers.get_mut(storing.worker).nodes += new;
        self.recency.stored(new);
        before
    }

    /// The chain that a block of a lot ends; [`NONE`] when it is unknown.
    fn chain_of(&self, lot: u16, hash: u64) -> u32 {
        let key = mix::node_key(self.lots.get(lot).salt, hash);
        let node = self.node(lot, key);
        node.map_or(NONE, |node| self.nodes.get(node).chain())
    }

    /// One block of a stored event; returns the chain that it ends, or [`NONE`].
    #[inline(always)]
    fn store_block(&mut self, storing: &mut Storing, key: u64, chain: Option<u64>) -> u32 {
        let at = match self.node_table.find_or_add(key, &mut self.nodes) {
            Added::New(at) => at,
            Added::Known(at) => return self.store_again(storing, at, chain),
            Added::Full => {
                self.counts.refused += 1;
                return NONE;
            }
        };
        if !storing.sized {
            self.size_up(storing);
        }
        let ends = self.hold(chain, storing.holder, storing.tokens);
        let node = storing.fresh.with_chain(ends);
        *self.nodes.get_mut(at) = node.with_key(key);
        if node.references().is_none() {
            let block = Block::of(1 << storing.medium, 1, storing.tokens);
            self.rich.insert(at, block);
        }
        ends
    }

    /// One more reference to a block that is there.
    #[inline(never)]
    fn store_again(&mut self, storing: &Storing, at: u32, chain: Option<u64>) -> u32 {
        let node = *self.nodes.get(at);
        let lot = storing.lot;
        if node.lot() != lot {
            self.counts.refused += 1;
            return NONE;
        }
        let mut block = self.block(at);
        if block.size == 0 {
            block.size = storing.tokens;
        }
        let count = &mut block.counts[storing.medium];
        *count = count.saturating_add(1);
        let [old, new] = [node.media(), block.media()].map(|media| self.holder(lot, media));
        // Its era is renewed when its turn to go has come, not now.
        let mut node = node.with_used(true);
        if node.chain() == NONE {
            node = node.with_chain(self.hold(chain, new, storing.tokens));
            if node.chain() != NONE {
                block.size = storing.tokens;
            }
        } else {
            self.change_holder(node.chain(), old, new);
        }
        *self.nodes.get_mut(at) = node;
        self.set_block(at, &block);
        node.chain()
    }

    /// Adds a holder to a chain, if one is known. Returns it, or [`NONE`].
    #[inline]
    fn hold(&mut self, hash: Option<u64>, holder: Holder, size: u32) -> u32 {
        let held = hash.map_or(NONE, |hash| self.add_holder(hash, holder, size));
        self.counts.unchained += u64::from(held == NONE);
        held
    }

    /// The same for a chain that is known, made if need be; [`NONE`] when there is no room.
    #[inline(always)]
    pub(super) fn add_holder(&mut self, hash: u64, holder: Holder, size: u32) -> u32 {
        if size > MAX_SIZE {
            return NONE;
        }
        match self.chain_table.find_or_add(hash, &mut self.chains) {
            Added::Known(at) => self.join_holders(at, holder),
            Added::New(at) => {
                *self.chains.get_mut(at) = Chain::new(hash, holder, size);
                at
            }
            Added::Full => NONE,
        }
    }

    #[inline(never)]
    fn join_holders(&mut self, at: u32, holder: Holder) -> u32 {
        let chain = self.chains.get_mut(at);
        let mut holders = chain.holders();
        let added = self.lists.add(&mut holders, holder);
        chain.set_holders(holders);
        if added { at } else { NONE }
    }
}
