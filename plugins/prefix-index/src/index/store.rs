//! Stored events: a block after the other, each with the chain that it ends.

use super::chain::{Chain, Holder, Holders};
use super::node::Node;
use super::slab::NONE;
use super::table::Vacancy;
use super::worker::Size;
use super::{AHEAD, Index, Place, Stored, mix};
use std::ops::Range;

/// The chain before a block, and the slot where it was seen; none while unknown.
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
        let Some(worker) = self.workers.find_or_make(place.key) else {
            self.counts.refused += stored.hashes.len() as u64;
            return;
        };
        self.workers.get_mut(worker).note_group(stored.group);
        let size = Size {
            tokens: stored.block_size,
            bigram: stored.bigram,
        };
        if stored.token_hashes.is_some() {
            self.workers.note_size(worker, size);
        }
        let salt = mix::node_salt(self.seed, worker, stored.group);
        let mut before = match stored.parent {
            None => Some((place.key.root ^ self.seed, NONE)),
            Some(parent) => self.chain_of(worker, mix::node_key(salt, parent)),
        };
        let mut ahead = Ahead::default();
        for first in (0..stored.hashes.len()).step_by(AHEAD) {
            let last = (first + AHEAD).min(stored.hashes.len());
            self.read_ahead(salt, before, stored, first..last, &mut ahead);
            let mut planned = ahead.chains.as_ref().map(|(parent, _)| *parent);
            for (at, i) in (first..last).enumerate() {
                let ends = ahead.chains.as_ref().map(|(_, chains)| chains[at]);
                let chain = match before {
                    Some((parent, _)) if planned == Some(parent) => ends,
                    Some((parent, _)) => stored.chain(parent, i),
                    None => None,
                };
                planned = ends;
                before = self.store_block(worker, ahead.keys[at], chain, before, stored);
                self.trim();
            }
        }
        if self.workers.get(worker).nodes == 0 {
            self.idle.push(worker);
        }
    }

    /// Works out keys and chains of some blocks, and looks at where they will be
    /// looked up: in loops of few instructions, so that the cache misses of all
    /// of them overlap.
    #[inline]
    fn read_ahead(
        &self,
        salt: u64,
        before: Before,
        stored: &Stored<'_>,
        blocks: Range<usize>,
        ahead: &mut Ahead,
    ) {
        let hashes = &stored.hashes[blocks.clone()];
        for (key, hash) in ahead.keys.iter_mut().zip(hashes) {
            *key = mix::node_key(salt, *hash);
        }
        let mut seen = 0;
        for key in &ahead.keys[..hashes.len().min(AHEAD)] {
            seen ^= self.node_table.peek(*key);
        }
        let known = stored.token_hashes.is_some_and(|t| t.len() >= blocks.end);
        ahead.chains = before.filter(|_| known).map(|(parent, _)| {
            let (mut chains, mut chain) = ([0; AHEAD], parent);
            for (at, i) in chains.iter_mut().zip(blocks) {
                chain = stored.chain(chain, i).unwrap_or(chain);
                *at = chain;
            }
            (parent, chains)
        });
        if let Some((_, chains)) = &ahead.chains {
            for chain in &chains[..hashes.len().min(AHEAD)] {
                seen ^= self.chain_table.peek(*chain);
            }
        }
        std::hint::black_box(seen);
    }

    /// One block of a stored event; returns the chain that it ends.
    #[inline]
    fn store_block(
        &mut self,
        worker: u32,
        key: u64,
        chain: Option<u64>,
        before: Before,
        stored: &Stored<'_>,
    ) -> Before {
        let nodes = &self.nodes;
        let is = |at| nodes.get(at).key() == key;
        match self.node_table.find_or_reserve(key, is) {
            Ok(at) => self.store_again(worker, at, chain, before, stored),
            Err(vacancy) => self.store_new(worker, key, vacancy, chain, before, stored),
        }
    }

    #[inline]
    fn store_new(
        &mut self,
        worker: u32,
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
        let mut node = Node::new(key, worker, stored.group, self.clock);
        node.block_size = stored.block_size;
        node.counts[slot] = 1;
        match chain {
            Some(hash) => {
                let holder = Holder::new(worker, 1 << slot, at);
                (node.chain, node.pos) = self.hold(hash, holder, before, stored.block_size);
            }
            None => self.counts.unchained += 1,
        }
        let known = node.chain;
        self.own(at, worker);
        *self.nodes.get_mut(at) = node;
        self.recency.push(&mut self.nodes, at);
        self.workers.get_mut(worker).nodes += 1;
        chain.map(|hash| (hash, known))
    }

    /// Slot `at` holds a block of this worker from now on.
    #[inline]
    pub(super) fn own(&mut self, at: u32, worker: u32) {
        match self.owners.get_mut(at as usize) {
            Some(owner) => *owner = worker,
            // Slots are given out in order.
            None => self.owners.push(worker),
        }
    }

    /// One more reference to a block that is there.
    fn store_again(
        &mut self,
        worker: u32,
        at: u32,
        chain: Option<u64>,
        before: Before,
        stored: &Stored<'_>,
    ) -> Before {
        let node = self.nodes.get_mut(at);
        if node.worker != worker {
            self.counts.refused += 1;
            return None;
        }
        // Moved to the front when its turn to go has come, not now.
        node.used = true;
        if node.block_size == 0 {
            node.block_size = stored.block_size;
        }
        let count = &mut node.counts[stored.medium.slot()];
        *count = count.saturating_add(1);
        let fresh = *count == 1;
        match (node.chain, chain) {
            (NONE, Some(hash)) => {
                let holder = Holder::new(worker, node.media(), at);
                let (known, pos) = self.hold(hash, holder, before, stored.block_size);
                if known != NONE {
                    let node = self.nodes.get_mut(at);
                    (node.chain, node.pos) = (known, pos);
                    node.block_size = stored.block_size;
                }
                Some((hash, known))
            }
            (NONE, None) => {
                self.counts.unchained += 1;
                None
            }
            (known, _) => {
                if fresh {
                    self.publish_media(at);
                }
                Some((self.chains.get(known).hash, known))
            }
        }
    }

    /// Adds a holder to a chain, which it makes if need be. Returns the chain's
    /// slot, none when slots have run out, and the holder's position in it.
    #[inline]
    pub(super) fn hold(
        &mut self,
        hash: u64,
        holder: Holder,
        before: Before,
        block_size: u32,
    ) -> (u32, u32) {
        let chains = &self.chains;
        let is = |at| chains.get(at).hash == hash;
        let held = match self.chain_table.find_or_reserve(hash, is) {
            Ok(at) => {
                let holders = &mut self.chains.get_mut(at).holders;
                let spilled = holders.spilled();
                let pos = holders.push(holder);
                self.spilled += holders.spilled() as u64;
                self.spilled -= spilled as u64;
                (at, pos)
            }
            Err(vacancy) => {
                let Some(at) = self.chains.take() else {
                    return (NONE, 0);
                };
                self.chain_table.fill(vacancy, hash, at);
                *self.chains.get_mut(at) = Chain {
                    hash,
                    block_size,
                    touched: self.clock,
                    odd_child: false,
                    holders: Holders::One(holder),
                };
                (at, 0)
            }
        };
        if let Some((parent_hash, parent)) = before
            && parent != NONE
        {
            // The slot may have been evicted since and hold another chain.
            let parent = self.chains.get_mut(parent);
            if parent.hash == parent_hash && parent.block_size != block_size {
                parent.odd_child = true;
            }
        }
        held
    }
}
