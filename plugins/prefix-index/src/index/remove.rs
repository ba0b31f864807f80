//! Removed events: references taken away, and what all of that needs to be read.

use super::node::MEDIA;
use super::slab::NONE;
use super::{AHEAD, Index, Place, mix};
use penstock_sdk::Medium;

/// Some blocks of one worker that are about to be removed.
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
        let mut others = None;
        let mut ahead = Ahead::default();
        for hashes in hashes.chunks(AHEAD) {
            if let Some(own) = own {
                self.read_ahead_of_removal(own, group, hashes, &mut ahead);
            }
            for (at, hash) in hashes.iter().enumerate() {
                let (key, node) = (ahead.keys[at], ahead.nodes[at]);
                if own.is_some_and(|w| self.remove_node(w, key, node, medium)) {
                    continue;
                }
                let hit = self.several_models && !place.named && {
                    let others: &Vec<u32> =
                        others.get_or_insert_with(|| self.workers.others(place.key).collect());
                    let mut others = others.iter();
                    others.any(|w| self.remove(*w, group, *hash, medium))
                };
                self.counts.unknown_removes += u64::from(!hit);
            }
        }
    }

    /// Finds the nodes of some blocks, and looks at all that their removal will
    /// look at: in loops of few instructions, so that the cache misses of all of
    /// them overlap.
    #[inline]
    fn read_ahead_of_removal(&self, worker: u32, group: u32, hashes: &[u64], ahead: &mut Ahead) {
        let salt = mix::node_salt(self.seed, worker, group);
        let count = hashes.len().min(AHEAD);
        let mut seen = 0;
        for (key, hash) in ahead.keys.iter_mut().zip(hashes) {
            *key = mix::node_key(salt, *hash);
            seen ^= self.node_table.peek(*key);
        }
        for (node, key) in ahead.nodes.iter_mut().zip(&ahead.keys[..count]) {
            *node = self.node(worker, *key).unwrap_or(NONE);
        }
        let mut chains = [0; AHEAD];
        for (chain, node) in chains.iter_mut().zip(&ahead.nodes[..count]) {
            if *node == NONE {
                continue;
            }
            let node = self.nodes.get(*node);
            if node.chain != NONE {
                *chain = self.chains.get(node.chain).hash;
            }
            for neighbour in node.neighbours() {
                if neighbour != NONE {
                    seen ^= u64::from(self.nodes.get(neighbour).stamp);
                }
            }
        }
        for chain in &chains[..count] {
            seen ^= self.chain_table.peek(*chain);
        }
        std::hint::black_box(seen);
    }

    /// Takes a reference away; false when there is none.
    fn remove(&mut self, worker: u32, group: u32, hash: u64, medium: Medium) -> bool {
        let key = mix::node_key(mix::node_salt(self.seed, worker, group), hash);
        let at = self.node(worker, key).unwrap_or(NONE);
        self.remove_node(worker, key, at, medium)
    }

    /// The same for a node found before; others may have been removed since.
    #[inline]
    fn remove_node(&mut self, worker: u32, key: u64, at: u32, medium: Medium) -> bool {
        if at == NONE {
            return false;
        }
        let node = self.nodes.get_mut(at);
        // The same block twice in one event: the first has freed its slot.
        if node.worker != worker || node.key() != key {
            return false;
        }
        let count = &mut node.counts[medium.slot()];
        match *count {
            0 => return false,
            1 => *count = 0,
            _ => {
                *count -= 1;
                return true;
            }
        }
        if node.counts == [0; MEDIA] {
            self.free_node(at);
        } else {
            self.publish_media(at);
        }
        true
    }
}
