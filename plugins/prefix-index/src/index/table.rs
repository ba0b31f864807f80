//! A hash table from mixed 64-bit keys to slab indices.
//!
//! A slot is eight bytes, half of the key and the index, so that a probe takes
//! one cache line; the slab behind it holds the whole key and settles doubts.
//! It comes in shards, so that no single call pays for growing all of it.
//! Linear probing, at most half full, deletion by shifting back: a probe for a key
//! that is not there looks at two and a half slots at most, on average.

const SHARD_BITS: u32 = 8;
const SHARDS: usize = 1 << SHARD_BITS;
const EMPTY: u64 = u64::MAX;
const SMALLEST: usize = 8;

/// The table. Keys must be mixed already, and indices below `u32::MAX`.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Shard; SHARDS]>,
}

/// An empty slot where a key belongs that is not there.
#[derive(Debug)]
pub(super) struct Vacancy {
    shard: usize,
    slot: usize,
}

#[derive(Clone, Debug, Default)]
struct Shard {
    /// A power of two of slots, or none yet: key in the high half, index in the low.
    slots: Vec<u64>,
    len: usize,
}

#[inline]
fn shard_of(key: u64) -> usize {
    (key >> (64 - SHARD_BITS)) as usize
}

#[inline]
fn slot(key: u64, at: u32) -> u64 {
    key << 32 | u64::from(at)
}

impl Shard {
    /// Where the probe for a slot begins.
    #[inline]
    fn home(&self, slot: u64) -> usize {
        (slot >> 32) as usize & self.mask()
    }

    #[inline]
    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    fn put(&mut self, new: u64) {
        let mask = self.mask();
        let mut i = self.home(new);
        while self.slots[i] != EMPTY {
            i = (i + 1) & mask;
        }
        self.slots[i] = new;
    }

    #[cold]
    fn grow(&mut self) {
        let bigger = vec![EMPTY; (self.slots.len() * 2).max(SMALLEST)];
        for old in std::mem::replace(&mut self.slots, bigger) {
            if old != EMPTY {
                self.put(old);
            }
        }
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            shards: Box::new(std::array::from_fn(|_| Shard::default())),
        }
    }

    /// The slot where a probe for `key` begins. Read ahead for several keys, so
    /// that their cache misses overlap; the value means nothing.
    #[inline]
    pub(super) fn peek(&self, key: u64) -> u64 {
        let shard = &self.shards[shard_of(key)];
        let home = shard.home(slot(key, 0));
        shard.slots.get(home).copied().unwrap_or(0)
    }

    /// The index under `key`. `is` says whether an index is the key's.
    #[inline]
    pub(super) fn find(&self, key: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let shard = &self.shards[shard_of(key)];
        let wanted = slot(key, 0) >> 32;
        let mut i = shard.home(slot(key, 0));
        loop {
            let found = *shard.slots.get(i)?;
            if found == EMPTY {
                return None;
            }
            if found >> 32 == wanted && is(found as u32) {
                return Some(found as u32);
            }
            i = (i + 1) & shard.mask();
        }
    }

    /// The index under `key`, or where it is to be filled in. The table must not
    /// change in between.
    #[inline]
    pub(super) fn find_or_reserve(
        &mut self,
        key: u64,
        is: impl Fn(u32) -> bool,
    ) -> Result<u32, Vacancy> {
        let at = shard_of(key);
        let shard = &mut self.shards[at];
        if (shard.len + 1) * 2 > shard.slots.len() {
            shard.grow();
        }
        let wanted = slot(key, 0) >> 32;
        let mut i = shard.home(slot(key, 0));
        loop {
            let found = shard.slots[i];
            if found == EMPTY {
                return Err(Vacancy { shard: at, slot: i });
            }
            if found >> 32 == wanted && is(found as u32) {
                return Ok(found as u32);
            }
            i = (i + 1) & shard.mask();
        }
    }

    /// Fills a vacancy in.
    #[inline]
    pub(super) fn fill(&mut self, vacancy: Vacancy, key: u64, at: u32) {
        let shard = &mut self.shards[vacancy.shard % SHARDS];
        shard.len += 1;
        shard.slots[vacancy.slot] = slot(key, at);
    }

    /// Takes a key out that stands for `at`.
    #[inline]
    pub(super) fn remove(&mut self, key: u64, at: u32) {
        let shard = &mut self.shards[shard_of(key)];
        let wanted = slot(key, at);
        let mask = shard.mask();
        let mut hole = shard.home(wanted);
        loop {
            match shard.slots.get(hole) {
                None | Some(&EMPTY) => return,
                Some(found) if *found == wanted => break,
                Some(_) => hole = (hole + 1) & mask,
            }
        }
        // Whatever could stand in the hole moves there, so that probes end at
        // empty slots alone.
        let mut next = (hole + 1) & mask;
        while shard.slots[next] != EMPTY {
            let from_home = next.wrapping_sub(shard.home(shard.slots[next])) & mask;
            if from_home >= (next.wrapping_sub(hole) & mask) {
                shard.slots[hole] = shard.slots[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        shard.slots[hole] = EMPTY;
        shard.len -= 1;
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.shards.iter().map(|s| s.slots.capacity() * 8).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::mix::mix64;
    use std::collections::HashMap;

    #[test]
    fn it_is_a_map() {
        let (mut table, mut map) = (Table::new(), HashMap::new());
        let mut keys = Vec::new();
        let mut state = 7;
        for at in 0..200_000u32 {
            state = mix64(state + 1);
            // Few distinct keys that share a shard and a home, now and then.
            let key = match at % 3 {
                0 => state & 0xff,
                1 => state & 0xff00_0000_0000_0003,
                _ => mix64(state % 5_000),
            };
            let known = map.get(&key).copied();
            let is = |i: u32| keys.get(i as usize) == Some(&key);
            assert_eq!(table.find(key, is), known);
            let vacancy = table.find_or_reserve(key, is);
            assert_eq!(vacancy.as_ref().ok().copied(), known);
            match known {
                Some(known) => {
                    table.remove(key, known);
                    map.remove(&key);
                }
                None => {
                    keys.push(key);
                    let at = keys.len() as u32 - 1;
                    table.fill(vacancy.unwrap_err(), key, at);
                    map.insert(key, at);
                }
            }
        }
        assert_eq!(table.shards.iter().map(|s| s.len).sum::<usize>(), map.len());
        for (key, at) in &map {
            assert_eq!(table.find(*key, |i| keys[i as usize] == *key), Some(*at));
        }
    }
}
