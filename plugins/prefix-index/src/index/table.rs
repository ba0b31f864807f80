//! A hash table from mixed 64-bit keys to slab indices.
//!
//! A slot is eight bytes, half of the key and the index, so that a probe takes a cache
//! line or two; the slab behind it holds the whole key and settles doubts. It comes in
//! shards, so that no single call pays for growing all of it. Linear probing, 60 to
//! 75 % full however many entries there are: a key's place is its part of all keys, so a
//! shard grows by a quarter. Deletion by shifting back.

const SHARD_BITS: u32 = 8;
const SHARDS: usize = 1 << SHARD_BITS;
const EMPTY: u64 = u64::MAX;
const SMALLEST: usize = 16;
/// Slots behind the homes of a shard.
const SPARE: usize = 32;

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
    /// The key in the high half, the index in the low.
    slots: Box<[u64]>,
    /// Slots where a probe may begin; those behind them take what finds no room there.
    homes: u64,
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
        (((slot >> 32) * self.homes) >> 32) as usize
    }

    #[inline]
    fn is_full(&self) -> bool {
        (self.len + 1) * 4 > self.homes as usize * 3
    }

    /// A quarter larger.
    #[cold]
    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        let mut homes = self.homes as usize;
        loop {
            homes = (homes * 5 / 4).max(homes + SMALLEST);
            self.homes = homes as u64;
            self.slots = vec![EMPTY; homes + (homes / 2).min(SPARE)].into_boxed_slice();
            let mut all = old.iter().filter(|slot| **slot != EMPTY);
            if all.all(|slot| self.put(*slot)) {
                return;
            }
        }
    }

    /// False when there is no room behind its home.
    fn put(&mut self, slot: u64) -> bool {
        let home = self.home(slot);
        let free = self.slots[home..].iter_mut().find(|slot| **slot == EMPTY);
        free.map(|free| *free = slot).is_some()
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            shards: Box::new(std::array::from_fn(|_| Shard::default())),
        }
    }

    /// The slot where a probe for `key` begins: see [`super::ahead`].
    #[inline]
    pub(super) fn start(&self, key: u64) -> &u64 {
        let shard = &self.shards[shard_of(key)];
        let home = shard.home(slot(key, 0));
        shard.slots.get(home).unwrap_or(&EMPTY)
    }

    /// The first index that may be the one under `key`.
    #[inline]
    pub(super) fn probe(&self, key: u64) -> Option<u32> {
        self.find(key, |_| true)
    }

    /// The index under `key`. `is` says whether an index is the key's.
    #[inline]
    pub(super) fn find(&self, key: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let shard = &self.shards[shard_of(key)];
        let wanted = slot(key, 0) >> 32;
        let slots = shard.slots.get(shard.home(slot(key, 0))..)?;
        for found in slots {
            if *found == EMPTY {
                return None;
            }
            if *found >> 32 == wanted && is(*found as u32) {
                return Some(*found as u32);
            }
        }
        None
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
        if shard.is_full() {
            shard.grow();
        }
        let wanted = slot(key, 0) >> 32;
        loop {
            let home = shard.home(slot(key, 0));
            for (i, found) in shard.slots[home..].iter().enumerate() {
                if *found == EMPTY {
                    let slot = home + i;
                    return Err(Vacancy { shard: at, slot });
                }
                if *found >> 32 == wanted && is(*found as u32) {
                    return Ok(*found as u32);
                }
            }
            shard.grow();
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
        let home = shard.home(wanted);
        let slots = shard.slots.get_mut(home..).unwrap_or_default();
        let mut some = slots.iter().take_while(|slot| **slot != EMPTY);
        let Some(mut hole) = some.position(|slot| *slot == wanted) else {
            return;
        };
        // Whatever could stand in the hole moves there, so that probes end at
        // empty slots alone.
        for next in hole + 1..slots.len() {
            let slot = slots[next];
            if slot == EMPTY {
                break;
            }
            if ((slot >> 32) * shard.homes) >> 32 <= (home + hole) as u64 {
                slots[hole] = slot;
                hole = next;
            }
        }
        slots[hole] = EMPTY;
        shard.len -= 1;
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.shards.iter().map(|s| s.slots.len() * 8).sum()
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
