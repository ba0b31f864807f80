//! A hash table from mixed 64-bit keys to slab indices.
//!
//! ```text
//! bucket, a cache line: 12 tags of 8 bits | 32 bits: how many passed by | 12 indices
//! ```
//! A key's tag and index are in its home bucket, or in the next one with room; the slab behind
//! the table holds the key itself and settles doubts. A bucket knows how many entries found
//! no room in it: where there are none, a search ends. Tags are compared all at once, and
//! nearly always the first bucket is all there is to see, so that there is no loop on the way.
//!
//! The table comes in shards, so that no single call pays for growing all of it. They are 64 to
//! 85 % full however many entries there are: a key's home is its part of all keys, so a shard
//! grows by a third.

use super::slab::{NONE, Slab, Slot};
use wide::u8x16;

const SHARD_BITS: u32 = 8;
const SHARDS: usize = 1 << SHARD_BITS;
/// Indices in a bucket.
const SLOTS: usize = 12;
/// Entries that five buckets take before a shard grows: 85 % of their slots.
const OF_FIVE: usize = 51;
/// Shards of so many buckets grow by a third, smaller ones by half.
const LARGE: usize = 64;
/// Buckets behind the homes of a shard.
const SPARE: usize = 4;

/// The table. Keys must be mixed already.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Shard; SHARDS]>,
}

/// What [`Table::find_or_add`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It was there.
    Known(u32),
    /// A slot was taken for it, in which nothing is written yet.
    New(u32),
    /// There are no slots any more.
    Full,
}

#[derive(Debug, Default)]
struct Shard {
    buckets: Box<[Bucket]>,
    /// Buckets where a search may begin; those behind take what finds no room there.
    homes: u64,
    len: usize,
    /// It grows before there are more.
    most: usize,
}

#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// 0 in empty slots. The last four are the number of those that passed by.
    tags: [u8; 16],
    at: [u32; SLOTS],
}

/// Some slots of a bucket, a bit each.
#[derive(Clone, Copy)]
struct Slots(u32);

#[inline]
fn shard_of(key: u64) -> usize {
    (key >> (64 - SHARD_BITS)) as usize
}

/// Never 0.
#[inline]
fn tag_of(key: u64) -> u8 {
    ((key >> 32) as u8).max(1)
}

// === impl Slots ===

impl Slots {
    #[inline]
    fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first one; of none, any.
    #[inline]
    fn first(self) -> usize {
        (self.0.trailing_zeros() as usize).min(SLOTS - 1)
    }

    #[inline]
    fn rest(self) -> Self {
        Self(self.0 & self.0.wrapping_sub(1))
    }
}

// === impl Bucket ===

impl Bucket {
    /// The slots with a tag.
    #[inline]
    fn with(&self, tag: u8) -> Slots {
        let same = u8x16::from(self.tags).simd_eq(u8x16::splat(tag));
        Slots(same.to_bitmask() & ((1 << SLOTS) - 1))
    }

    /// The slot of an index whose tag this is.
    #[inline]
    fn slot_of(&self, tag: u8, at: u32) -> Option<usize> {
        let mut slots = self.with(tag);
        while !slots.is_empty() {
            if self.at[slots.first()] == at {
                return Some(slots.first());
            }
            slots = slots.rest();
        }
        None
    }

    #[inline]
    fn set(&mut self, slot: usize, tag: u8, at: u32) {
        self.tags[slot] = tag;
        self.at[slot] = at;
    }

    /// Entries that found no room here.
    #[inline]
    fn passed(&self) -> u32 {
        let [.., a, b, c, d] = self.tags;
        u32::from_le_bytes([a, b, c, d])
    }

    fn set_passed(&mut self, passed: u32) {
        self.tags[SLOTS..].copy_from_slice(&passed.to_le_bytes());
    }
}

// === impl Shard ===

impl Shard {
    #[inline]
    fn home(&self, key: u64) -> usize {
        (((key & u64::from(u32::MAX)) * self.homes) >> 32) as usize
    }

    /// The index under `key`, wherever it is.
    #[inline(never)]
    fn search<T: Slot>(&self, key: u64, slab: &Slab<T>) -> Option<u32> {
        for bucket in self.buckets.get(self.home(key)..)? {
            let mut slots = bucket.with(tag_of(key));
            while !slots.is_empty() {
                let at = bucket.at[slots.first()];
                if slab.get(at).key() == key {
                    return Some(at);
                }
                slots = slots.rest();
            }
            if bucket.passed() == 0 {
                break;
            }
        }
        None
    }

    /// False when there is no room behind its home.
    #[inline(never)]
    fn put(&mut self, key: u64, at: u32) -> bool {
        let home = self.home(key);
        let mut buckets = self.buckets.iter_mut().enumerate().skip(home);
        let bucket = buckets.find_map(|(n, bucket)| {
            let free = bucket.with(0);
            let found = !free.is_empty();
            if found {
                bucket.set(free.first(), tag_of(key), at);
            }
            found.then_some(n)
        });
        let Some(bucket) = bucket else {
            return false;
        };
        for passed in &mut self.buckets[home..bucket] {
            passed.set_passed(passed.passed() + 1);
        }
        true
    }

    /// As [`Table::find_or_add`], when the home has no room, or is not all there is to see.
    #[inline(never)]
    fn find_or_add<T: Slot>(&mut self, key: u64, slab: &mut Slab<T>) -> Added {
        if let Some(at) = self.search(key, slab) {
            return Added::Known(at);
        }
        let Some(at) = slab.take() else {
            return Added::Full;
        };
        while !self.put(key, at) {
            self.grow(slab);
        }
        self.len += 1;
        Added::New(at)
    }

    /// Takes out what is not the first with its tag, or found no room at home.
    #[inline(never)]
    fn remove(&mut self, key: u64, at: u32) {
        let home = self.home(key);
        for bucket in home..self.buckets.len() {
            let Some(slot) = self.buckets[bucket].slot_of(tag_of(key), at) else {
                continue;
            };
            self.buckets[bucket].set(slot, 0, 0);
            for passed in &mut self.buckets[home..bucket] {
                passed.set_passed(passed.passed() - 1);
            }
            self.len -= 1;
            return;
        }
    }

    /// A third larger, or half as long as that is little.
    #[cold]
    #[inline(never)]
    fn grow<T: Slot>(&mut self, slab: &Slab<T>) {
        let old = std::mem::take(&mut self.buckets);
        let mut homes = self.homes as usize;
        loop {
            let more = if homes < LARGE { homes / 2 } else { homes / 3 };
            homes += more.max(2);
            self.homes = homes as u64;
            self.most = homes * OF_FIVE / 5;
            let buckets = homes + (homes / 2).clamp(1, SPARE);
            self.buckets = vec![Bucket::default(); buckets].into_boxed_slice();
            if old.iter().all(|bucket| self.take_over(bucket, slab)) {
                return;
            }
        }
    }

    /// False when there is no room.
    fn take_over<T: Slot>(&mut self, old: &Bucket, slab: &Slab<T>) -> bool {
        // All keys first, so that their cache misses overlap.
        let keys = old.at.map(|at| slab.seen(at).map_or(0, Slot::key));
        let empty = old.with(0).0;
        for slot in (0..SLOTS).filter(|slot| empty >> slot & 1 == 0) {
            let (key, at) = (keys[slot], old.at[slot]);
            let home = self.home(key);
            let bucket = &mut self.buckets[home];
            let free = bucket.with(0);
            if !free.is_empty() {
                bucket.set(free.first(), tag_of(key), at);
            } else if !self.put(key, at) {
                return false;
            }
        }
        true
    }
}

// === impl Table ===

impl Table {
    pub(super) fn new() -> Self {
        Self {
            shards: Box::new(std::array::from_fn(|_| Shard::default())),
        }
    }

    /// A word of the bucket where a search for `key` begins: see [`super::AHEAD`].
    #[inline]
    pub(super) fn start(&self, key: u64) -> u32 {
        let shard = &self.shards[shard_of(key)];
        let bucket = shard.buckets.get(shard.home(key));
        bucket.map_or(0, |bucket| bucket.at[0])
    }

    /// The index that most likely is the one under `key`; [`NONE`] when none looks like it.
    #[inline]
    pub(super) fn probe(&self, key: u64) -> u32 {
        let shard = &self.shards[shard_of(key)];
        let Some(bucket) = shard.buckets.get(shard.home(key)) else {
            return NONE;
        };
        let slots = bucket.with(tag_of(key));
        match slots.is_empty() {
            true => NONE,
            false => bucket.at[slots.first()],
        }
    }

    /// The index under `key`.
    #[inline]
    pub(super) fn find<T: Slot>(&self, key: u64, slab: &Slab<T>) -> Option<u32> {
        let shard = &self.shards[shard_of(key)];
        let bucket = shard.buckets.get(shard.home(key))?;
        let slots = bucket.with(tag_of(key));
        let at = bucket.at[slots.first()];
        if !slots.is_empty() && slab.get(at).key() == key {
            return Some(at);
        }
        if slots.rest().is_empty() && bucket.passed() == 0 {
            return None;
        }
        shard.search(key, slab)
    }

    /// The index under `key`, or a new one.
    #[inline]
    pub(super) fn find_or_add<T: Slot>(&mut self, key: u64, slab: &mut Slab<T>) -> Added {
        let shard = &mut self.shards[shard_of(key)];
        if shard.len >= shard.most {
            shard.grow(slab);
        }
        let home = shard.home(key);
        let Some(bucket) = shard.buckets.get_mut(home) else {
            return Added::Full;
        };
        let (slots, free) = (bucket.with(tag_of(key)), bucket.with(0));
        if !slots.is_empty() {
            let at = bucket.at[slots.first()];
            if slab.get(at).key() == key {
                return Added::Known(at);
            }
        }
        if free.is_empty() || !slots.rest().is_empty() || bucket.passed() > 0 {
            return shard.find_or_add(key, slab);
        }
        let Some(at) = slab.take() else {
            return Added::Full;
        };
        bucket.set(free.first(), tag_of(key), at);
        shard.len += 1;
        Added::New(at)
    }

    /// Takes a key out that stands for `at`.
    #[inline]
    pub(super) fn remove(&mut self, key: u64, at: u32) {
        let shard = &mut self.shards[shard_of(key)];
        let home = shard.home(key);
        let Some(bucket) = shard.buckets.get_mut(home) else {
            return;
        };
        let slot = bucket.with(tag_of(key)).first();
        if bucket.at[slot] == at && bucket.tags[slot] != 0 {
            bucket.set(slot, 0, 0);
            shard.len -= 1;
        } else {
            shard.remove(key, at);
        }
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        let buckets = self.shards.iter().map(|s| s.buckets.len()).sum::<usize>();
        buckets * size_of::<Bucket>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::mix::mix64;
    use std::collections::HashMap;

    #[derive(Clone, Default)]
    struct Key(u64);

    impl Slot for Key {
        fn key(&self) -> u64 {
            self.0
        }
        fn next_free(&self) -> u32 {
            self.0 as u32
        }
        fn set_free(&mut self, next: u32) {
            self.0 = next.into();
        }
    }

    #[test]
    fn it_is_a_map() {
        let (mut table, mut map, mut slab) = (Table::new(), HashMap::new(), Slab::new());
        let mut state = 7;
        for n in 0..200_000u32 {
            state = mix64(state + 1);
            // Few distinct keys that share a shard and a home, now and then.
            let key = match n % 3 {
                0 => state & 0xff | 1 << 40,
                1 => state & 0xff00_0000_0000_0003 | 1 << 40,
                _ => mix64(state % 5_000),
            };
            let known = map.get(&key).copied();
            assert_eq!(table.find(key, &slab), known);
            match (table.find_or_add(key, &mut slab), known) {
                (Added::Known(at), Some(known)) => {
                    assert_eq!(at, known);
                    table.remove(key, at);
                    slab.give(at);
                    map.remove(&key);
                }
                (Added::New(at), None) => {
                    *slab.get_mut(at) = Key(key);
                    map.insert(key, at);
                }
                (added, known) => panic!("{added:?}, {known:?}"),
            }
        }
        assert_eq!(table.shards.iter().map(|s| s.len).sum::<usize>(), map.len());
        for (key, at) in &map {
            assert_eq!(table.find(*key, &slab), Some(*at));
        }
        // Nobody has passed by once all are gone.
        for (key, at) in map {
            table.remove(key, at);
        }
        let mut buckets = table.shards.iter().flat_map(|shard| &shard.buckets);
        assert!(buckets.all(|bucket| bucket.tags == [0; 16]));
    }

    #[test]
    fn slots_are_found_by_tag() {
        let mut bucket = Bucket::default();
        for slot in 0..SLOTS {
            assert_eq!(bucket.with(0).first(), slot);
            bucket.set(slot, slot as u8 + 1, 100 + slot as u32);
        }
        bucket.set_passed(0x0203_0407);
        assert!(bucket.with(0).is_empty() && bucket.passed() == 0x0203_0407);
        for slot in 0..SLOTS {
            let tag = slot as u8 + 1;
            assert_eq!(bucket.slot_of(tag, 100 + slot as u32), Some(slot));
            assert_eq!(bucket.slot_of(tag, 99), None);
        }
    }
}
