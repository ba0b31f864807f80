//! Stored events: a block after the other, each with the chain that it ends.

use super::ahead::{AHEAD, touch};
use super::chain::{Chain, MAX_SIZE};
use super::lists::Holder;
use super::node::{Block, Node};
use super::slab::NONE;
use super::table::Vacancy;
use super::worker::Size;
use super::{Index, Place, Stored, mix};
use std::ops::Range;

/// The chain before a block: its hash, and where it was seen; a prompt's start is nowhere.
type Before = Option<(u64, u32)>;

/// What is known of some blocks before the first of them is stored.
#[derive(Default)]
struct Ahead {
    /// Keys in the table of nodes.
    keys: [u64; AHEAD],
    /// The chain before the first, and those that the blocks end if nothing else
    /// is known of them; none when tokens are unknown.
    chains: Option<(u64, [u64; AHEAD])>,
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
        let mut before = match stored.parent {
            None => Some((place.key.root ^ self.seed, NONE)),
            Some(parent) => self.chain_of(lot, parent),
        };
        let mut ahead = Ahead::default();
        for first in (0..stored.hashes.len()).step_by(AHEAD) {
            let last = (first + AHEAD).min(stored.hashes.len());
            self.read_ahead(lot, before, stored, first..last, &mut ahead);
            let mut planned = ahead.chains.as_ref().map(|(parent, _)| *parent);
            for (at, i) in (first..last).enumerate() {
                let ends = ahead.chains.as_ref().map(|(_, chains)| chains[at]);
                let chain = match before {
                    Some((parent, _)) if planned == Some(parent) => ends,
                    Some((parent, _)) => stored.chain(parent, i),
                    None => None,
                };
                planned = ends;
                before = self.store_block(lot, ahead.keys[at], chain, before, stored);
            }
            self.trim();
        }
        if self.workers.get(worker).nodes == 0 {
            self.idle.push(worker);
        }
    }

    /// Works out keys and chains of some blocks, and reads where they will be looked up.
    #[inline]
    fn read_ahead(
        &self,
        lot: u16,
        before: Before,
        stored: &Stored<'_>,
        blocks: Range<usize>,
        ahead: &mut Ahead,
    ) {
        let hashes = &stored.hashes[blocks.clone()];
        let salt = self.lots.get(lot).salt;
        let mut slots = [[&0; AHEAD]; 2];
        for ((key, slot), hash) in ahead.keys.iter_mut().zip(&mut slots[0]).zip(hashes) {
            *key = mix::node_key(salt, *hash);
            *slot = self.node_table.start(*key);
        }
        let known = stored.token_hashes.is_some_and(|t| t.len() >= blocks.end);
        ahead.chains = before.filter(|_| known).map(|(parent, _)| {
            let (mut chains, mut chain) = ([0; AHEAD], parent);
            for ((at, slot), i) in chains.iter_mut().zip(&mut slots[1]).zip(blocks) {
                chain = stored.chain(chain, i).unwrap_or(chain);
                *at = chain;
                *slot = self.chain_table.start(chain);
            }
            (parent, chains)
        });
        touch(slots.as_flattened());
    }

    /// The chain that a block of a lot ends.
    fn chain_of(&self, lot: u16, hash: u64) -> Before {
        let key = mix::node_key(self.lots.get(lot).salt, hash);
        match self.nodes.get(self.node(lot, key)?).chain() {
            NONE => None,
            at => Some((self.chains.get(at).hash, at)),
        }
    }

    /// One block of a stored event; returns the chain that it ends.
    #[inline]
    fn store_block(
        &mut self,
        lot: u16,
        key: u64,
        chain: Option<u64>,
        before: Before,
        stored: &Stored<'_>,
    ) -> Before {
        let nodes = &self.nodes;
        let is = |at| nodes.get(at).key == key;
        match self.node_table.find_or_reserve(key, is) {
            Ok(at) => self.store_again(lot, at, chain, before, stored),
            Err(vacancy) => self.store_new(lot, key, vacancy, chain, before, stored),
        }
    }

    #[inline]
    fn store_new(
        &mut self,
        lot: u16,
        key: u64,
        vacancy: Vacancy,
        chain: Option<u64>,
        before: Before,
        stored: &Stored<'_>,
    ) -> Before {
        let Some(at) = self.nodes.take() else {
            self.counts.refused += 1;
            return None;
        };
        self.node_table.fill(vacancy, key, at);
        let slot = stored.medium.slot();
        let holder = self.holder(lot, 1 << slot);
        let ends = self.hold(chain, before, holder, stored.block_size);
        let node = Node::new(key, lot, self.recency.era());
        let node = node.with_chain(ends.map_or(NONE, |(_, at)| at));
        let size = self.lots.get_mut(lot).number(stored.block_size);
        *self.nodes.get_mut(at) = match size {
            Some(size) => node.with_block(1 << slot, size, 1),
            None => {
                let block = Block::of(1 << slot, 1, stored.block_size);
                self.rich.insert(at, block);
                node.with_block(1 << slot, 0, 0)
            }
        };
        self.workers.get_mut(holder.worker()).nodes += 1;
        self.recency.stored();
        ends
    }

    /// One more reference to a block that is there.
    fn store_again(
        &mut self,
        lot: u16,
        at: u32,
        chain: Option<u64>,
        before: Before,
        stored: &Stored<'_>,
    ) -> Before {
        let node = *self.nodes.get(at);
        if node.lot() != lot {
            self.counts.refused += 1;
            return None;
        }
        let mut block = self.block(at);
        if block.size == 0 {
            block.size = stored.block_size;
        }
        let count = &mut block.counts[stored.medium.slot()];
        *count = count.saturating_add(1);
        let [old, new] = [node.media(), block.media()].map(|media| self.holder(lot, media));
        // Its era is renewed when its turn to go has come, not now.
        let mut node = node.with_used(true);
        let ends = match node.chain() {
            NONE => {
                let ends = self.hold(chain, before, new, stored.block_size);
                if let Some((_, chain)) = ends {
                    node = node.with_chain(chain);
                    block.size = stored.block_size;
                }
                ends
            }
            chain => {
                self.change_holder(chain, old, new);
                Some((self.chains.get(chain).hash, chain))
            }
        };
        *self.nodes.get_mut(at) = node;
        self.set_block(at, &block);
        ends
    }

    /// Adds a holder to a chain, if one is known, which it makes if need be. Returns it;
    /// none when there is no room.
    #[inline]
    fn hold(&mut self, hash: Option<u64>, before: Before, holder: Holder, size: u32) -> Before {
        let held = hash.and_then(|hash| Some((hash, self.add_holder(hash, holder, size)?)));
        self.counts.unchained += u64::from(held.is_none());
        if held.is_some()
            && let Some((parent_hash, parent)) = before
            && parent != NONE
        {
            // The slot may have been evicted since and hold another chain.
            let parent = self.chains.get_mut(parent);
            if parent.hash == parent_hash && parent.size() != size {
                parent.set_odd_child();
            }
        }
        held
    }

    /// The same for a chain that is known.
    #[inline]
    pub(super) fn add_holder(&mut self, hash: u64, holder: Holder, size: u32) -> Option<u32> {
        let chains = &self.chains;
        let is = |at| chains.get(at).hash == hash;
        match self.chain_table.find_or_reserve(hash, is) {
            Ok(at) => {
                let chain = self.chains.get_mut(at);
                let mut holders = chain.holders();
                let added = self.lists.add(&mut holders, holder);
                chain.set_holders(holders);
                added.then_some(at)
            }
            Err(_) if size > MAX_SIZE => None,
            Err(vacancy) => {
                let at = self.chains.take()?;
                self.chain_table.fill(vacancy, hash, at);
                *self.chains.get_mut(at) = Chain::new(hash, holder, size);
                Some(at)
            }
        }
    }
}
