//! What leaves the index: the last reference, what was used least recently above the
//! bound, and the blocks of workers that were cleared.
//!
//! Time passes in eras: eight for as many stores as the bound has room for. A node
//! knows the low bits of the one in which it was stored or last found in use, a chain those
//! of the last lookup. To evict, some nodes are looked at, going round through all of them,
//! and the oldest of these goes. An era that is long past is brought nearer whenever it
//! is seen, so that it never looks like a new one.

use super::Index;
use super::lists::{Holder, Holders};
use super::node::{ERAS, Node};
use super::slab::NONE;
use super::worker::Life;

/// Nodes looked at for every batch while something is to be swept away.
const SWEEP_NODES: u32 = 2_048;

/// Eras for as many stores as there is room for.
const ERAS_A_TURN: u64 = 8;

/// Ages are told apart up to here.
const OLD: u32 = ERAS - 4;

/// Nodes among which the oldest is evicted.
const SAMPLES: usize = 16;

/// Slots looked at for them, some of which may be free.
const STEPS: u32 = 1_024;

/// Of these, how many may turn out to have been looked up since.
const CHANCES: u32 = 4;

/// Eras, and where nodes are looked at next.
#[derive(Debug)]
pub(super) struct Recency {
    era: u32,
    /// Stores of this era that are left, and of each.
    left: u64,
    each: u64,
    /// The next node to be looked at.
    hand: u32,
    samples: Vec<Sample>,
}

/// A node that may go.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: u32,
    age: u32,
}

// === impl Recency ===

impl Recency {
    /// `room`: so many blocks are within the bound.
    pub(super) fn new(room: u64) -> Self {
        let each = (room / ERAS_A_TURN).max(1);
        Self {
            era: 0,
            left: each,
            each,
            hand: 0,
            samples: Vec::new(),
        }
    }

    /// The era that it is.
    #[inline]
    pub(super) fn era(&self) -> u32 {
        self.era
    }

    /// Nodes were stored. At most one era ends, however many they are.
    #[inline]
    pub(super) fn stored(&mut self, nodes: u32) {
        self.left = match self.left.checked_sub(nodes.into()) {
            None | Some(0) => {
                self.era = self.era.wrapping_add(1);
                self.each
            }
            Some(left) => left,
        };
    }
}

// === impl Index ===

impl Index {
    /// Call it after each batch: sweeps a little.
    pub fn end_batch(&mut self) {
        while let Some(worker) = self.idle.pop() {
            if self.workers.get(worker).nodes == 0 {
                self.kill(worker);
            }
        }
        if self.workers.dead_nodes > 0 {
            self.sweep(SWEEP_NODES);
        }
    }

    /// A worker's blocks are gone.
    pub(super) fn kill(&mut self, worker: u32) {
        let lots = self.workers.kill(worker);
        self.lots.free(lots);
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
            if self.life(at) == Life::Dead {
                self.free_node(at, *self.nodes.get(at));
            }
        }
    }

    /// What has become of a node's worker; free slots have none.
    fn life(&self, at: u32) -> Life {
        let node = self.nodes.get(at);
        match node.is_held() {
            true => self.workers.get(self.lots.get(node.lot()).worker).life,
            false => Life::Free,
        }
    }

    /// Evicts until the index is within its bound.
    #[inline]
    pub(super) fn trim(&mut self) {
        while self.bytes() > self.max_bytes && self.evict() {}
    }

    #[inline(never)]
    fn evict(&mut self) -> bool {
        let mut samples = std::mem::take(&mut self.recency.samples);
        self.look_around(&mut samples);
        let evicted = self.evict_of(&mut samples);
        self.recency.samples = samples;
        evicted
    }

    /// Takes some nodes in turn. Those of dead workers are as old as can be.
    fn look_around(&mut self, samples: &mut Vec<Sample>) {
        samples.clear();
        let end = self.nodes.high_water();
        let mut steps = 0;
        while steps < end && samples.len() < SAMPLES && (steps < STEPS || samples.is_empty()) {
            steps += 1;
            if self.recency.hand >= end {
                self.recency.hand = 0;
            }
            let at = self.recency.hand;
            self.recency.hand += 1;
            let life = self.life(at);
            if life == Life::Free {
                continue;
            }
            let node = self.nodes.get_mut(at);
            let mut age = self.recency.era.wrapping_sub(node.era()) % ERAS;
            if node.used() {
                age = 0;
            }
            if age == 0 || age > OLD {
                age = age.min(OLD);
                let era = self.recency.era.wrapping_sub(age);
                *node = node.with_used(false).with_era(era);
            }
            if life == Life::Dead {
                age = ERAS;
            }
            samples.push(Sample { at, age });
        }
    }

    fn evict_of(&mut self, samples: &mut [Sample]) -> bool {
        for chance in 0..=CHANCES {
            let oldest = samples.iter_mut().rev().max_by_key(|sample| sample.age);
            let Some(sample) = oldest else {
                return false;
            };
            let node = *self.nodes.get(sample.at);
            let ago = match node.chain() {
                NONE => None,
                chain => self.chains.get(chain).touched(),
            };
            let ago = ago.map(|touched| (self.recency.era as u8).wrapping_sub(touched).into());
            match ago {
                Some(ago) if ago < sample.age && sample.age < ERAS && chance < CHANCES => {
                    sample.age = ago;
                    let era = self.recency.era.wrapping_sub(ago);
                    *self.nodes.get_mut(sample.at) = node.with_era(era);
                }
                _ => {
                    self.counts.evicted += u64::from(sample.age < ERAS);
                    self.free_node(sample.at, node);
                    return true;
                }
            }
        }
        true
    }

    /// Takes a node out of everything.
    #[inline]
    pub(super) fn free_node(&mut self, at: u32, node: Node) {
        let holder = self.holder(node.lot(), node.media());
        if node.references().is_none() {
            self.rich.remove(&at);
        }
        self.take_out(at, node, holder);
        self.lost_nodes(holder.worker(), 1);
    }

    /// The same for one that has nothing beside it; its worker is not told.
    #[inline(always)]
    pub(super) fn take_out(&mut self, at: u32, node: Node, holder: Holder) {
        self.node_table.remove(node.key, at);
        if node.chain() != NONE {
            let chain = self.chains.get(node.chain());
            if chain.holders() == Holders::one(holder) {
                self.chain_table.remove(chain.hash, node.chain());
                self.chains.give(node.chain());
            } else {
                self.part_with(node.chain(), holder);
            }
        }
        self.nodes.give(at);
    }

    /// So many nodes of a worker are gone.
    #[inline]
    pub(super) fn lost_nodes(&mut self, worker: u32, many: u32) {
        if many > 0 && self.workers.lost_nodes(worker, many) {
            let lots = self.workers.release(worker);
            self.lots.free(lots);
            self.idle.push(worker);
        }
    }

    /// One of several holders goes.
    #[inline(never)]
    fn part_with(&mut self, at: u32, holder: Holder) {
        let chain = self.chains.get_mut(at);
        let mut holders = chain.holders();
        let left = self.lists.remove(&mut holders, holder);
        debug_assert!(left, "the only holder was another");
        chain.set_holders(holders);
    }
}
