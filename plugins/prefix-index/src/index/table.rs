//! A hash table from mixed 64-bit keys to slab indices.
//!
//! ```text
//! bucket, a cache line: 12 tags of 8 bits | 8 counts of 4 bits: who passed by | 12 indices
//! ```
//! A key's tag and index are in its home bucket, or in the next one with room; the slab behind
//! the table holds the key itself and settles doubts. Tags are compared all at once. A bucket
//! counts the entries that found no room in it, by a part of their tags: where there are none like
//! the one looked for, a search ends. So nearly always the first bucket is all there is to
//! see, and there is no loop on the way. Nothing is moved when an entry goes; a count that has
//! come to 15 stays there until the shard grows.
//!
//! The table comes in shards, so that no single call pays for growing all of it. A key's home is
//! its part of all keys, so a shard may be of any size: large ones grow by a third when they
//! are 80 % full, small ones double.

#[cfg(all(target_arch = "wasm32", not(target_feature = "simd128")))]
compile_error!("built without simd128: RUSTFLAGS replaces what .cargo/config.toml says");

use super::slab::{NONE, Slab, Slot};
use wide::u8x16;

const SHARD_BITS: u32 = 8;
const SHARDS: usize = 1 << SHARD_BITS;
/// Indices in a bucket.
const SLOTS: usize = 12;
/// Entries that five buckets take before a shard grows: 80 % of their slots.
const OF_FIVE: usize = 48;
/// Shards of so many buckets grow by a third, smaller ones double.
const LARGE: usize = 64;
/// The most that is counted.
const MANY: u32 = 15;
/// Buckets behind the homes of a shard, and so many more when they are full.
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
pub(super) struct Bucket {
    /// 0 in empty slots. The last four are the counts.
    tags: [u8; 16],
    at: [u32; SLOTS],
}

/// Some slots of a bucket, a bit each.
#[derive(Clone, Copy)]
struct Matches(u32);

#[inline]
fn shard_of(key: u64) -> usize {
    (key >> (64 - SHARD_BITS)) as usize
}

/// Never 0.
#[inline]
fn tag_of(key: u64) -> u8 {
    ((key >> 32) as u8).max(1)
}

/// Where in a bucket's word those are counted that share some bits with this tag.
#[inline]
fn class(tag: u8) -> u32 {
    u32::from(tag % 8) * 4
}

// === impl Matches ===

impl Matches {
    #[inline]
    fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first one. Of none it is some slot: ask before, or look what is in it.
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
    fn with(&self, tag: u8) -> Matches {
        let same = u8x16::from(self.tags).simd_eq(u8x16::splat(tag));
        Matches(same.to_bitmask() & ((1 << SLOTS) - 1))
    }

    /// The index that most likely is the one under `key`; [`NONE`] when none looks like it.
    #[inline]
    pub(super) fn probe(&self, key: u64) -> u32 {
        let slots = self.with(tag_of(key));
        match slots.is_empty() {
            true => NONE,
            false => self.at[slots.first()],
        }
    }

    /// Some word of it: see [`super::AHEAD`].
    #[inline]
    pub(super) fn word(&self) -> u32 {
        self.at[0]
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

    fn passed(&self) -> u32 {
        let [.., a, b, c, d] = self.tags;
        u32::from_le_bytes([a, b, c, d])
    }

    /// Whether entries with a tag like this one may have found no room here.
    #[inline]
    fn passed_by(&self, tag: u8) -> bool {
        self.passed() >> class(tag) & MANY != 0
    }

    /// One more of them, or one less.
    fn count(&mut self, tag: u8, more: bool) {
        let (passed, shift) = (self.passed(), class(tag));
        let passed = match (passed >> shift & MANY, more) {
            // Nobody knows how many they were.
            (MANY, _) | (0, false) => passed,
            (_, true) => passed + (1 << shift),
            (_, false) => passed - (1 << shift),
        };
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
            if !bucket.passed_by(tag_of(key)) {
                break;
            }
        }
        None
    }

    /// Into the first bucket with room, a new one if need be: keys that share a home must
    /// not make the shard grow.
    #[inline(never)]
    fn put(&mut self, key: u64, at: u32) {
        let home = self.home(key);
        let mut buckets = self.buckets.iter().enumerate().skip(home);
        let found = buckets.find(|(_, bucket)| !bucket.with(0).is_empty());
        let number = found.map_or(self.buckets.len(), |(number, _)| number);
        if number == self.buckets.len() {
            let mut more = std::mem::take(&mut self.buckets).into_vec();
            more.resize(number + SPARE, Bucket::default());
            self.buckets = more.into_boxed_slice();
        }
        for passed in &mut self.buckets[home..number] {
            passed.count(tag_of(key), true);
        }
        let bucket = &mut self.buckets[number];
        bucket.set(bucket.with(0).first(), tag_of(key), at);
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
        self.put(key, at);
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
                passed.count(tag_of(key), false);
            }
            self.len -= 1;
            return;
        }
    }

    /// A third larger, or twice as long as that is little.
    #[cold]
    #[inline(never)]
    fn grow<T: Slot>(&mut self, slab: &Slab<T>) {
        let old = std::mem::take(&mut self.buckets);
        let homes = self.homes as usize;
        let more = if homes < LARGE { homes } else { homes / 3 };
        let homes = homes + more.max(2);
        self.homes = homes as u64;
        self.most = homes * OF_FIVE / 5;
        let buckets = homes + (homes / 2).clamp(1, SPARE);
        self.buckets = vec![Bucket::default(); buckets].into_boxed_slice();
        for bucket in &old {
            self.take_over(bucket, slab);
        }
    }

    fn take_over<T: Slot>(&mut self, old: &Bucket, slab: &Slab<T>) {
        // All keys first, so that their cache misses overlap.
        let keys = old.at.map(|at| slab.seen(at).map_or(0, Slot::key));
        let empty = old.with(0).0;
        for slot in (0..SLOTS).filter(|slot| empty >> slot & 1 == 0) {
            let (key, at) = (keys[slot], old.at[slot]);
            let home = self.home(key);
            let bucket = &mut self.buckets[home];
            let free = bucket.with(0);
            match free.is_empty() {
                true => self.put(key, at),
                false => bucket.set(free.first(), tag_of(key), at),
            }
        }
    }
}

// === impl Table ===

impl Table {
    pub(super) fn new() -> Self {
        Self {
            shards: Box::new(std::array::from_fn(|_| Shard::default())),
        }
    }

    /// The bucket where a search for `key` begins.
    #[inline]
    pub(super) fn home(&self, key: u64) -> Option<&Bucket> {
        let shard = &self.shards[shard_of(key)];
        shard.buckets.get(shard.home(key))
    }

    /// A word of it: see [`super::AHEAD`].
    #[inline]
    pub(super) fn start(&self, key: u64) -> u32 {
        self.home(key).map_or(0, Bucket::word)
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
        if slots.rest().is_empty() && !bucket.passed_by(tag_of(key)) {
            return None;
        }
        shard.search(key, slab)
    }

    /// The index under `key`, or a new one. Inlined: see [`super::store`].
    #[inline(always)]
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
        if free.is_empty() || !slots.rest().is_empty() || bucket.passed_by(tag_of(key)) {
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
    use std::collections::{HashMap, VecDeque};

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
        assert!(buckets.all(|bucket| bucket.tags[..SLOTS] == [0; SLOTS]));
    }

    #[test]
    fn searches_stay_short_however_often_entries_change() {
        let (mut table, mut slab) = (Table::new(), Slab::new());
        let (mut held, mut state) = (VecDeque::new(), 1);
        let mut add = |table: &mut Table, slab: &mut Slab<Key>, held: &mut VecDeque<u64>| {
            state = mix64(state + 1);
            // Of one shard, so that there are many in it.
            let key = state >> SHARD_BITS;
            if let Added::New(at) = table.find_or_add(key, slab) {
                *slab.get_mut(at) = Key(key);
                held.push_back(key);
            }
        };
        while table.shards[0].len < 4_000 || table.shards[0].len < table.shards[0].most {
            add(&mut table, &mut slab, &mut held);
        }
        let homes = table.shards[0].homes;
        for _ in 0..20 * held.len() {
            let key = held.pop_front().unwrap();
            let at = table.find(key, &slab).unwrap();
            table.remove(key, at);
            slab.give(at);
            add(&mut table, &mut slab, &mut held);
        }
        assert_eq!(table.shards[0].homes, homes);
        let shard = &table.shards[0];
        let looked_at = (0..10_000u64).map(|n| {
            let key = mix64(n ^ 0xabcd) >> SHARD_BITS;
            let buckets = shard.buckets[shard.home(key)..].iter();
            1 + buckets.take_while(|b| b.passed_by(tag_of(key))).count()
        });
        let mean = looked_at.sum::<usize>() as f64 / 10_000.0;
        assert!(mean < 3.0, "{mean} buckets for what is not there");
    }

    #[test]
    fn keys_that_share_a_home_do_not_make_a_shard_grow() {
        let (mut table, mut slab) = (Table::new(), Slab::new());
        for n in 1..2_000u64 {
            let key = n << 32 | u64::from(u32::MAX);
            let Added::New(at) = table.find_or_add(key, &mut slab) else {
                panic!("{n} is not new");
            };
            *slab.get_mut(at) = Key(key);
        }
        assert!(table.shards[0].homes < 300);
        for n in 1..2_000u64 {
            assert!(table.find(n << 32 | u64::from(u32::MAX), &slab).is_some());
        }
    }

    #[test]
    fn slots_are_found_by_tag() {
        let mut bucket = Bucket::default();
        for slot in 0..SLOTS {
            assert_eq!(bucket.with(0).first(), slot);
            bucket.set(slot, slot as u8 + 1, 100 + slot as u32);
        }
        for _ in 0..3 {
            bucket.count(5, true);
        }
        bucket.count(5, false);
        assert!(bucket.with(0).is_empty() && bucket.passed() == 2 << 20);
        assert!(bucket.passed_by(13) && !bucket.passed_by(4));
        for slot in 0..SLOTS {
            let tag = slot as u8 + 1;
            assert_eq!(bucket.slot_of(tag, 100 + slot as u32), Some(slot));
            assert_eq!(bucket.slot_of(tag, 99), None);
        }
    }
}
