//! A hash table from mixed 64-bit keys to slab indices, in shards, so that no
//! single call pays for growing all of it.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

const SHARD_BITS: u32 = 8;

/// The table. Keys must be mixed already.
#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<HashTable<Slot>>,
}

/// Twelve bytes instead of sixteen: the key in halves.
#[derive(Clone, Copy, Debug)]
struct Slot {
    low: u32,
    high: u32,
    at: u32,
}

impl Slot {
    #[inline]
    fn new(key: u64, at: u32) -> Self {
        Self {
            low: key as u32,
            high: (key >> 32) as u32,
            at,
        }
    }

    #[inline]
    fn key(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}

#[inline]
fn shard(key: u64) -> usize {
    (key >> (64 - SHARD_BITS)) as usize
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..1 << SHARD_BITS).map(|_| HashTable::new()).collect(),
        }
    }

    #[inline]
    pub(super) fn get(&self, key: u64) -> Option<u32> {
        let found = self.shards[shard(key)].find(key, |s| s.key() == key);
        found.map(|s| s.at)
    }

    /// The index under `key`, or the one that `make` gives, and whether it did.
    /// None when `make` gives none.
    #[inline]
    pub(super) fn get_or_insert(
        &mut self,
        key: u64,
        make: impl FnOnce() -> Option<u32>,
    ) -> Option<(u32, bool)> {
        let shard = &mut self.shards[shard(key)];
        match shard.entry(key, |s| s.key() == key, Slot::key) {
            Entry::Occupied(slot) => Some((slot.get().at, false)),
            Entry::Vacant(slot) => {
                let at = make()?;
                slot.insert(Slot::new(key, at));
                Some((at, true))
            }
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, key: u64) {
        let shard = &mut self.shards[shard(key)];
        if let Ok(slot) = shard.find_entry(key, |s| s.key() == key) {
            slot.remove();
        }
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }
}
