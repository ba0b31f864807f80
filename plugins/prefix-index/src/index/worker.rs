//! Workers: one rank of one source, for one model, and what each model uses.

use super::lists::MAX_WORKERS;
use foldhash::fast::FixedState;
use std::collections::HashMap;

/// Blocks of groups beyond these are refused.
pub(super) const MAX_GROUPS: usize = 256;

/// Block sizes beyond these are indexed, but not searched by tokens.
const MAX_SIZES: usize = 256;

/// Whose blocks: a source, a rank in it, and the root of a model's chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: u32,
    pub(super) rank: u32,
    pub(super) root: u64,
}

/// A worker.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) key: Key,
    /// Nodes it has, those of a dead one included until they are swept.
    pub(super) nodes: u32,
    pub(super) life: Life,
    /// A lot for each group.
    pub(super) lots: Vec<u16>,
    last_size: Size,
}

/// What has become of a worker's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    /// Cleared: its nodes answer nothing and are swept away.
    Dead,
    /// The number is free.
    Free,
}

/// How a model's blocks are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Tokens a block.
    pub(super) tokens: u32,
    /// Its hash covers one token more.
    pub(super) bigram: bool,
}

#[derive(Debug, Default)]
struct Model {
    workers: u32,
    sizes: Vec<Size>,
}

/// All workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    list: Vec<Worker>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32, FixedState>,
    models: HashMap<u64, Model, FixedState>,
    /// Nodes of dead workers.
    pub(super) dead_nodes: u32,
}

// === impl Size ===

impl Size {
    /// Tokens that a block's hash covers.
    pub(super) fn window(self) -> usize {
        self.tokens as usize + usize::from(self.bigram)
    }
}

// === impl Workers ===

impl Workers {
    #[inline]
    pub(super) fn get(&self, worker: u32) -> &Worker {
        &self.list[worker as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, worker: u32) -> &mut Worker {
        &mut self.list[worker as usize]
    }

    #[inline]
    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// The worker of `key`, a new one if need be; none when numbers ran out.
    pub(super) fn find_or_make(&mut self, key: Key) -> Option<u32> {
        if let Some(worker) = self.find(&key) {
            return Some(worker);
        }
        let worker = Worker {
            key,
            nodes: 0,
            life: Life::Alive,
            lots: Vec::new(),
            last_size: Size::default(),
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.list[at as usize] = worker;
                at
            }
            None if self.list.len() < MAX_WORKERS as usize => {
                self.list.push(worker);
                self.list.len() as u32 - 1
            }
            None => return None,
        };
        self.by_key.insert(key, at);
        self.models.entry(key.root).or_default().workers += 1;
        Some(at)
    }

    /// Numbers in use, and free ones below: every worker's number is below.
    pub(super) fn numbers(&self) -> usize {
        self.list.len()
    }

    /// Workers alive.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Workers alive, with their numbers.
    pub(super) fn alive(&self) -> impl Iterator<Item = (u32, &Worker)> {
        let all = self.list.iter().enumerate();
        all.filter(|(_, w)| w.life == Life::Alive)
            .map(|(i, w)| (i as u32, w))
    }

    /// Workers alive of a source.
    pub(super) fn of_source(&self, source: u32) -> impl Iterator<Item = u32> + '_ {
        self.alive()
            .filter(move |(_, w)| w.key.source == source)
            .map(|(at, _)| at)
    }

    /// Other workers of this source and rank: those of other models.
    pub(super) fn others(&self, key: Key) -> impl Iterator<Item = u32> + '_ {
        self.alive()
            .filter(move |(_, w)| {
                let other = w.key;
                other.source == key.source && other.rank == key.rank && other.root != key.root
            })
            .map(|(at, _)| at)
    }

    /// Notes a block size of `worker`'s model.
    #[inline]
    pub(super) fn note_size(&mut self, worker: u32, size: Size) {
        let at = &mut self.list[worker as usize];
        if at.last_size == size || size.tokens == 0 {
            return;
        }
        at.last_size = size;
        if let Some(model) = self.models.get_mut(&at.key.root)
            && model.sizes.len() < MAX_SIZES
            && !model.sizes.contains(&size)
        {
            model.sizes.push(size);
        }
    }

    /// Block sizes that a model's workers have used.
    pub(super) fn sizes(&self, root: u64) -> &[Size] {
        self.models.get(&root).map_or(&[], |m| &m.sizes)
    }

    /// Its blocks are gone: the number is free at once when it has no nodes,
    /// otherwise when the last was swept. Returns lots that are free.
    pub(super) fn kill(&mut self, worker: u32) -> Vec<u16> {
        let at = &mut self.list[worker as usize];
        if at.life != Life::Alive {
            return Vec::new();
        }
        at.life = Life::Dead;
        self.dead_nodes += at.nodes;
        let key = at.key;
        self.by_key.remove(&key);
        if let Some(model) = self.models.get_mut(&key.root) {
            model.workers -= 1;
            if model.workers == 0 {
                self.models.remove(&key.root);
            }
        }
        self.release(worker)
    }

    /// So many of its nodes are gone. True when it has none left.
    #[inline]
    pub(super) fn lost_nodes(&mut self, worker: u32, many: u32) -> bool {
        let at = &mut self.list[worker as usize];
        at.nodes -= many;
        if at.life != Life::Alive {
            self.dead_nodes -= many;
        }
        at.nodes == 0
    }

    /// Gives the number of a dead worker without nodes back, and its lots.
    pub(super) fn release(&mut self, worker: u32) -> Vec<u16> {
        let at = &mut self.list[worker as usize];
        if at.nodes > 0 || at.life != Life::Dead {
            return Vec::new();
        }
        at.life = Life::Free;
        self.free.push(worker);
        std::mem::take(&mut at.lots)
    }
}
