//! Removed events: references taken away, and what all of that needs to be read.

use super::AHEAD;
use super::node::MEDIA;
use super::slab::NONE;
use super::{Index, Place, mix};
use penstock_sdk::Medium;
use std::hint::black_box;

/// Some blocks of one lot that are about to be removed.
#[derive(Default)]
struct Ahead {
    /// Keys in the table of nodes.
    keys: [u64; AHEAD],
    /// Their nodes, [`NONE`] where there is none.
    nodes: [u32; AHEAD],
    /// The nodes' chains, likewise.
    chains: [u32; AHEAD],
}

// === impl Index ===

impl Index {
    /// Blocks left the cache. An event that names no model means the source's;
    /// a block not found there is looked for under the other models of the
    /// same source and rank.
    pub fn apply_removed(&mut self, place: Place, medium: Medium, group: u32, hashes: &[u64]) {
        let own = self.workers.find(&place.key);
        let own = own.and_then(|worker| self.lot(worker, group));
        let mut others = None;
        let mut ahead = Ahead::default();
        for hashes in hashes.chunks(AHEAD) {
            if let Some(own) = own {
                self.read_ahead_of_removal(own, hashes, &mut ahead);
            }
            for (at, hash) in hashes.iter().enumerate() {
                let (key, node) = (ahead.keys[at], ahead.nodes[at]);
                if own.is_some_and(|lot| self.remove_node(lot, key, node, medium)) {
                    continue;
                }
                let hit = self.several_models && !place.named && {
                    let others: &Vec<u16> = others.get_or_insert_with(|| {
                        let others = self.workers.others(place.key);
                        others.filter_map(|w| self.lot(w, group)).collect()
                    });
                    let mut others = others.iter();
                    others.any(|lot| self.remove(*lot, *hash, medium))
                };
                self.counts.unknown_removes += u64::from(!hit);
            }
        }
        // What is left of a block may take more than all of it did.
        self.trim();
    }

    /// Finds the nodes of some blocks, and reads all that their removal will look at.
    #[inline(never)]
    fn read_ahead_of_removal(&self, lot: u16, hashes: &[u64], ahead: &mut Ahead) {
        let salt = self.lots.get(lot).salt;
        let mut seen = 0;
        for (key, hash) in ahead.keys.iter_mut().zip(hashes) {
            *key = mix::node_key(salt, *hash);
            seen ^= self.node_table.start(*key);
        }
        let keys = &ahead.keys[..hashes.len().min(AHEAD)];
        for (node, key) in ahead.nodes.iter_mut().zip(keys) {
            *node = self.node_table.probe(*key);
            seen ^= self.nodes.seen(*node).map_or(0, |node| node.key as u32);
        }
        let nodes = ahead.nodes.iter_mut().zip(&mut ahead.chains);
        for ((node, chain), key) in nodes.zip(keys) {
            let mut found = self.nodes.seen(*node);
            if found.is_none_or(|node| node.key != *key || node.lot() != lot) {
                *node = self.node(lot, *key).unwrap_or(NONE);
                found = self.nodes.seen(*node);
            }
            *chain = found.map_or(NONE, |node| node.chain());
            seen ^= self
                .chains
                .seen(*chain)
                .map_or(0, |chain| chain.hash as u32);
        }
        for chain in &ahead.chains[..keys.len()] {
            if let Some(chain) = self.chains.seen(*chain) {
                seen ^= self.chain_table.start(chain.hash);
            }
        }
        black_box(seen);
    }

    /// Takes a reference away; false when there is none.
    fn remove(&mut self, lot: u16, hash: u64, medium: Medium) -> bool {
        let key = mix::node_key(self.lots.get(lot).salt, hash);
        let at = self.node(lot, key).unwrap_or(NONE);
        self.remove_node(lot, key, at, medium)
    }

    /// The same for a node found before; others may have been removed since.
    #[inline(never)]
    fn remove_node(&mut self, lot: u16, key: u64, at: u32, medium: Medium) -> bool {
        if at == NONE {
            return false;
        }
        let node = *self.nodes.get(at);
        // The same block twice in one event: the first has freed its slot.
        if !node.is_held() || node.lot() != lot || node.key != key {
            return false;
        }
        if node.references() == Some(1) && node.media() == 1 << medium.slot() {
            self.free_node(at, node);
            return true;
        }
        let mut block = self.block(at);
        match &mut block.counts[medium.slot()] {
            0 => return false,
            count => *count -= 1,
        }
        if block.counts == [0; MEDIA] {
            self.free_node(at, node);
            return true;
        }
        let [old, new] = [node.media(), block.media()].map(|media| self.holder(lot, media));
        self.change_holder(node.chain(), old, new);
        self.set_block(at, &block);
        true
    }
}
