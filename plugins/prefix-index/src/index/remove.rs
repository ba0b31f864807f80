//! Removed events: references taken away, and what all of that needs to be read.

use super::AHEAD;
use super::lists::Holder;
use super::node::{MEDIA, Node};
use super::slab::NONE;
use super::table::Bucket;
use super::{Index, Place, mix};
use penstock_sdk::Medium;
use std::hint::black_box;

/// What the blocks of an event have in common.
struct Removing {
    lot: u16,
    medium: Medium,
    /// Of blocks that are in this medium alone.
    holder: Holder,
}

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
        let own = own.map(|lot| Removing {
            lot,
            medium,
            holder: self.holder(lot, 1 << medium.slot()),
        });
        let mut others = None;
        let mut ahead = Ahead::default();
        for hashes in hashes.chunks(AHEAD) {
            let mut missed = u32::MAX;
            if let Some(own) = &own {
                self.read_ahead_of_removal(own.lot, hashes, &mut ahead);
                missed = self.remove_blocks(own, &ahead, hashes.len());
            }
            for (at, hash) in hashes.iter().enumerate() {
                if missed >> at & 1 == 0 {
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
        let (mut seen, mut homes) = (0, [None; AHEAD]);
        for ((key, home), hash) in ahead.keys.iter_mut().zip(&mut homes).zip(hashes) {
            *key = mix::node_key(salt, *hash);
            *home = self.node_table.home(*key);
            seen ^= home.map_or(0, Bucket::word);
        }
        let keys = &ahead.keys[..hashes.len().min(AHEAD)];
        for ((node, key), home) in ahead.nodes.iter_mut().zip(keys).zip(homes) {
            *node = home.map_or(NONE, |home| home.probe(*key));
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

    /// Takes a reference away from each; a bit for those that have none.
    #[inline(never)]
    fn remove_blocks(&mut self, removing: &Removing, ahead: &Ahead, many: usize) -> u32 {
        let sole = Node::sole(removing.lot, 1 << removing.medium.slot());
        let (mut gone, mut missed) = (0, 0);
        let blocks = ahead.keys.iter().zip(&ahead.nodes).take(many);
        for (at, (key, node)) in blocks.enumerate() {
            let (key, number) = (*key, *node);
            let found = match number {
                NONE => None,
                number => Some(*self.nodes.get(number)),
            };
            match found {
                Some(node) if node.key == key && node.is(sole) => {
                    self.take_out(number, node, removing.holder);
                    gone += 1;
                }
                _ if self.remove_node(removing.lot, key, number, removing.medium) => {}
                _ => missed |= 1 << at,
            }
        }
        self.lost_nodes(removing.holder.worker(), gone);
        missed
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
