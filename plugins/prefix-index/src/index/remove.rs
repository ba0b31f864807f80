//! Removed events: references taken away, and what all of that needs to be read.

use super::ahead::{AHEAD, touch};
use super::node::MEDIA;
use super::slab::NONE;
use super::{Index, Place, mix};
use penstock_sdk::Medium;

/// Some blocks of one lot that are about to be removed.
#[derive(Default)]
struct Ahead {
    /// Keys in the table of nodes.
    keys: [u64; AHEAD],
    /// Their nodes, none where there is none.
    nodes: [u32; AHEAD],
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
    #[inline]
    fn read_ahead_of_removal(&self, lot: u16, hashes: &[u64], ahead: &mut Ahead) {
        let salt = self.lots.get(lot).salt;
        let count = hashes.len().min(AHEAD);
        let keys = &mut ahead.keys[..count];
        let nodes = &mut ahead.nodes[..count];
        let mut words = [&0; AHEAD];
        let words = &mut words[..count];
        for ((key, word), hash) in keys.iter_mut().zip(&mut *words).zip(hashes) {
            *key = mix::node_key(salt, *hash);
            *word = self.node_table.start(*key);
        }
        touch(words);
        for ((node, word), key) in nodes.iter_mut().zip(&mut *words).zip(&*keys) {
            *node = self.node_table.probe(*key).unwrap_or(NONE);
            *word = self.nodes.seen(*node).map_or(&0, |node| &node.key);
        }
        touch(words);
        for ((node, word), key) in nodes.iter_mut().zip(&mut *words).zip(&*keys) {
            *node = match self.nodes.seen(*node) {
                Some(seen) if seen.key == *key && seen.lot() == lot => *node,
                _ => self.node(lot, *key).unwrap_or(NONE),
            };
            let chain = self.nodes.seen(*node).map_or(NONE, |node| node.chain());
            *word = self.chains.seen(chain).map_or(&0, |chain| &chain.hash);
        }
        touch(words);
        for word in &mut *words {
            *word = self.chain_table.start(**word);
        }
        touch(words);
    }

    /// Takes a reference away; false when there is none.
    fn remove(&mut self, lot: u16, hash: u64, medium: Medium) -> bool {
        let key = mix::node_key(self.lots.get(lot).salt, hash);
        let at = self.node(lot, key).unwrap_or(NONE);
        self.remove_node(lot, key, at, medium)
    }

    /// The same for a node found before; others may have been removed since.
    #[inline]
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
            self.free_node(at);
            return true;
        }
        let mut block = self.block(at);
        match &mut block.counts[medium.slot()] {
            0 => return false,
            count => *count -= 1,
        }
        if block.counts == [0; MEDIA] {
            self.free_node(at);
            return true;
        }
        let [old, new] = [node.media(), block.media()].map(|media| self.holder(lot, media));
        self.change_holder(node.chain(), old, new);
        self.set_block(at, &block);
        true
    }
}
