//! What leaves the index: the last reference, the least recently used above the
//! bound, and the blocks of workers that were cleared.

use super::Index;
use super::slab::NONE;
use super::worker::Life;

/// Nodes looked at for every batch while something is to be swept away.
const SWEEP_NODES: u32 = 2_048;

/// Nodes spared for having been looked up, before one goes all the same: a
/// bound on the time of a single eviction.
const CHANCES: u32 = 32;

impl Index {
    /// Call it after each batch: sweeps a little, and lets time go on.
    pub fn end_batch(&mut self) {
        self.clock = self.clock.wrapping_add(1);
        while let Some(worker) = self.idle.pop() {
            if self.workers.get(worker).nodes == 0 {
                self.workers.kill(worker);
            }
        }
        if self.workers.dead_nodes > 0 {
            self.sweep(SWEEP_NODES);
        }
    }

    /// Looks at up to `budget` nodes and frees those of dead workers.
    pub fn sweep(&mut self, budget: u32) {
        for _ in 0..budget.min(self.nodes.high_water()) {
            if self.workers.dead_nodes == 0 {
                return;
            }
            if self.sweep_at >= self.nodes.high_water() {
                self.sweep_at = 0;
            }
            let at = self.sweep_at;
            self.sweep_at += 1;
            let worker = self.nodes.get(at).worker;
            if worker != NONE && self.workers.get(worker).life == Life::Dead {
                self.free_node(at);
            }
        }
    }

    /// Evicts until the index is within its bound.
    #[inline]
    pub(super) fn trim(&mut self) {
        while self.bytes() > self.max_bytes && self.evict() {}
    }

    fn evict(&mut self) -> bool {
        for chance in 0..=CHANCES {
            let Some(at) = self.recency.oldest() else {
                return false;
            };
            let node = self.nodes.get(at);
            let dead = self.workers.get(node.worker).life == Life::Dead;
            let used = node.used || self.looked_up_since(node.chain, node.stamp);
            if !dead && used && chance < CHANCES {
                let node = self.nodes.get_mut(at);
                (node.stamp, node.used) = (self.clock, false);
                self.recency.touch(&mut self.nodes, at);
                continue;
            }
            self.counts.evicted += u64::from(!dead);
            self.free_node(at);
            return true;
        }
        true
    }

    fn looked_up_since(&self, chain: u32, stamp: u32) -> bool {
        // The clock wraps: what counts is the way between the two.
        chain != NONE && self.chains.get(chain).touched.wrapping_sub(stamp) as i32 > 0
    }

    /// Takes a node out of everything.
    pub(super) fn free_node(&mut self, at: u32) {
        self.recency.remove(&mut self.nodes, at);
        let node = self.nodes.get(at);
        let (key, worker, chain, pos) = (node.key(), node.worker, node.chain, node.pos);
        self.node_table.remove(key, at);
        if chain != NONE {
            self.unlink(chain, pos);
        }
        self.nodes.give(at);
        if self.workers.lost_node(worker) {
            self.idle.push(worker);
        }
    }

    fn unlink(&mut self, chain: u32, pos: u32) {
        let entry = self.chains.get_mut(chain);
        let spilled = entry.holders.spilled();
        let moved = entry.holders.remove(pos);
        self.spilled += entry.holders.spilled() as u64;
        self.spilled -= spilled as u64;
        if entry.holders.as_slice().is_empty() {
            let hash = entry.hash;
            self.chain_table.remove(hash, chain);
            self.chains.give(chain);
        } else if let Some(moved) = moved {
            self.nodes.get_mut(moved.node).pos = pos;
        }
    }
}
