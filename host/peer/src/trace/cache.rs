use std::collections::{BTreeMap, HashMap};

/// A bounded cache of blocks, least recently used out first, leaves before
/// their parents.
///
/// Blocks in use are pinned. A chain is given back from its end, so that every
/// block is older in the queue than its parent: what leaves is a leaf always.
#[derive(Debug)]
pub(super) struct Cache {
    blocks: HashMap<u64, Block>,
    /// Blocks that nobody uses, by the time they were given back.
    free: BTreeMap<u64, u64>,
    clock: u64,
    capacity: usize,
}

#[derive(Debug)]
struct Block {
    pins: u32,
    /// Key in `free` while `pins` is 0.
    given_back: u64,
}

/// What became of a block that a request wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was there.
    Hit,
    /// It is there now; another one had to leave, or none.
    Stored(Option<u64>),
    /// All blocks are in use.
    Full,
}

impl Cache {
    pub fn new(capacity: usize) -> Self {
        Self {
            blocks: HashMap::new(),
            free: BTreeMap::new(),
            clock: 0,
            capacity,
        }
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        self.blocks.keys().copied()
    }

    pub fn contains(&self, hash: u64) -> bool {
        self.blocks.contains_key(&hash)
    }

    /// Pins a block that is there.
    pub fn pin(&mut self, hash: u64) -> bool {
        let Some(block) = self.blocks.get_mut(&hash) else {
            return false;
        };
        if block.pins == 0 {
            self.free.remove(&block.given_back);
        }
        block.pins += 1;
        true
    }

    /// Pins a block, storing it where it is not there.
    pub fn take(&mut self, hash: u64) -> Taken {
        if self.pin(hash) {
            return Taken::Hit;
        }
        let mut evicted = None;
        if self.blocks.len() >= self.capacity {
            let Some((_, oldest)) = self.free.pop_first() else {
                return Taken::Full;
            };
            self.blocks.remove(&oldest);
            evicted = Some(oldest);
        }
        let block = Block {
            pins: 1,
            given_back: 0,
        };
        self.blocks.insert(hash, block);
        Taken::Stored(evicted)
    }

    /// Gives back a chain of pinned blocks, its end first.
    pub fn give_back(&mut self, chain: &[u64]) {
        for hash in chain.iter().rev() {
            let Some(block) = self.blocks.get_mut(hash) else {
                continue;
            };
            block.pins = block.pins.saturating_sub(1);
            if block.pins == 0 {
                self.clock += 1;
                block.given_back = self.clock;
                self.free.insert(self.clock, *hash);
            }
        }
    }

    pub fn clear(&mut self) {
        self.blocks.clear();
        self.free.clear();
    }
}
