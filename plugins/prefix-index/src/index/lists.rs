//! Who holds a chain: one holder in the chain itself, more in a list.

use super::node::MEDIA;

/// Workers above do not fit into a [`Holder`].
pub(super) const MAX_WORKERS: u32 = 1 << 24;

/// One holder: a worker in the low 24 bits, a bit a medium in which it has it above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder(u32);

/// The holders of a chain: one, or where the list of them is.
///
/// ```text
/// one:  0 | holder
/// list: 1 | log2 of its capacity, 4 bits | number, 27 bits
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holders(Holder);

/// All lists: each in a slot of 2, 4, 8 ... words, ended by [`FREE`] if it is not full.
#[derive(Debug)]
pub(super) struct Lists {
    sizes: [Slots; SIZES],
    /// Those above the largest size.
    long: Vec<Vec<Holder>>,
    free_long: Vec<u32>,
    /// Bytes in use.
    bytes: u64,
}

/// Slots of one size.
#[derive(Debug)]
struct Slots {
    words: usize,
    pages: Vec<Box<[Holder]>>,
    free: u32,
    fresh: u32,
}

/// No holder.
const FREE: Holder = Holder(u32::MAX);
const LIST: u32 = 1 << 31;
const SIZE_SHIFT: u32 = 27;
const NUMBER: u32 = (1 << SIZE_SHIFT) - 1;
const NONE: u32 = u32::MAX;
/// Sizes of 2 to 1,024 words.
const SIZES: usize = 10;
/// Instead of a size: a long list.
const LONG: usize = SIZES;
const PAGE_WORDS: usize = 1_024;

// === impl Holder ===

impl Holder {
    #[inline]
    pub(super) fn new(worker: u32, media: u8) -> Self {
        debug_assert!(worker < MAX_WORKERS && media < 1 << MEDIA);
        Self(worker | u32::from(media) << 24)
    }

    #[inline]
    pub(super) fn worker(self) -> u32 {
        self.0 & (MAX_WORKERS - 1)
    }

    #[inline]
    pub(super) fn media(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

// === impl Holders ===

impl Holders {
    #[inline]
    pub(super) fn one(holder: Holder) -> Self {
        Self(holder)
    }

    fn list(size: usize, number: u32) -> Self {
        Self(Holder(LIST | (size as u32) << SIZE_SHIFT | number))
    }

    #[inline]
    pub(super) fn bits(self) -> u32 {
        self.0.0
    }

    #[inline]
    pub(super) fn from_bits(bits: u32) -> Self {
        Self(Holder(bits))
    }

    /// Its size and number, if it is a list.
    #[inline]
    fn place(self) -> Option<(usize, u32)> {
        let bits = self.bits();
        (bits & LIST != 0).then_some(((bits >> SIZE_SHIFT & 15) as usize, bits & NUMBER))
    }
}

// === impl Slots ===

impl Slots {
    fn at(&self, number: u32) -> (usize, usize) {
        let at = number as usize * self.words;
        (at / PAGE_WORDS, at % PAGE_WORDS)
    }

    #[inline]
    fn get(&self, number: u32) -> &[Holder] {
        let (page, at) = self.at(number);
        &self.pages[page][at..at + self.words]
    }

    #[inline]
    fn get_mut(&mut self, number: u32) -> &mut [Holder] {
        let (page, at) = self.at(number);
        &mut self.pages[page][at..at + self.words]
    }

    fn take(&mut self) -> Option<u32> {
        let number = self.free;
        if number != NONE {
            self.free = self.get(number)[0].0;
            return Some(number);
        }
        if self.fresh > NUMBER {
            return None;
        }
        let number = self.fresh;
        if self.at(number).0 == self.pages.len() {
            self.pages.push(vec![FREE; PAGE_WORDS].into_boxed_slice());
        }
        self.fresh += 1;
        Some(number)
    }

    fn give(&mut self, number: u32) {
        let next = std::mem::replace(&mut self.free, number);
        self.get_mut(number)[0] = Holder(next);
    }
}

// === impl Lists ===

impl Default for Lists {
    fn default() -> Self {
        Self {
            sizes: std::array::from_fn(|size| Slots {
                words: 2 << size,
                pages: Vec::new(),
                free: NONE,
                fresh: 0,
            }),
            long: Vec::new(),
            free_long: Vec::new(),
            bytes: 0,
        }
    }
}

impl Lists {
    /// Bytes of all lists.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The holders, in no order.
    #[inline]
    pub(super) fn get<'a>(&'a self, holders: &'a Holders) -> &'a [Holder] {
        match holders.place() {
            None => std::slice::from_ref(&holders.0),
            Some((LONG, number)) => &self.long[number as usize],
            Some((size, number)) => {
                let slot = self.sizes[size].get(number);
                &slot[..slot.partition_point(|holder| *holder != FREE)]
            }
        }
    }

    fn get_mut<'a>(&'a mut self, holders: &'a mut Holders) -> &'a mut [Holder] {
        match holders.place() {
            None => std::slice::from_mut(&mut holders.0),
            Some((LONG, number)) => &mut self.long[number as usize],
            Some((size, number)) => {
                let slot = self.sizes[size].get_mut(number);
                let len = slot.partition_point(|holder| *holder != FREE);
                &mut slot[..len]
            }
        }
    }

    /// One holder more; false when there is no room for it.
    #[inline]
    pub(super) fn add(&mut self, holders: &mut Holders, holder: Holder) -> bool {
        if let Some((size, number)) = holders.place() {
            let words: &mut [Holder] = match size {
                LONG => {
                    self.long[number as usize].push(holder);
                    self.bytes += 4;
                    return true;
                }
                size => self.sizes[size].get_mut(number),
            };
            let len = words.partition_point(|holder| *holder != FREE);
            if let Some(free) = words.get_mut(len) {
                *free = holder;
                return true;
            }
        }
        let mut all = self.get(holders).to_vec();
        all.push(holder);
        match self.make(&all) {
            Some(new) => self.release(std::mem::replace(holders, new)),
            None => return false,
        }
        true
    }

    /// One holder less; false when it was the last.
    pub(super) fn remove(&mut self, holders: &mut Holders, holder: Holder) -> bool {
        let Some((size, number)) = holders.place() else {
            return holders.0 != holder;
        };
        let all = self.get_mut(holders);
        let Some(at) = all.iter().position(|h| *h == holder) else {
            debug_assert!(false, "a holder that is none");
            return true;
        };
        let left = all.len() - 1;
        all.swap(at, left);
        match size {
            LONG => {
                self.long[number as usize].pop();
                self.bytes -= 4;
            }
            _ => all[left] = FREE,
        }
        // Into a smaller one when it is a quarter full, so that it does not move each time.
        let shrinks = match size {
            LONG => left <= PAGE_WORDS / 2,
            size => left <= (2usize << size) / 4 || left == 1,
        };
        if shrinks {
            let rest = self.get(holders).to_vec();
            if let Some(new) = self.make(&rest) {
                self.release(std::mem::replace(holders, new));
            }
        }
        true
    }

    /// A holder becomes another.
    pub(super) fn replace(&mut self, holders: &mut Holders, old: Holder, new: Holder) {
        let mut all = self.get_mut(holders).iter_mut();
        if let Some(holder) = all.find(|holder| **holder == old) {
            *holder = new;
        }
    }

    fn make(&mut self, all: &[Holder]) -> Option<Holders> {
        if let [one] = all {
            return Some(Holders::one(*one));
        }
        let size = all.len().next_power_of_two().ilog2() as usize - 1;
        if size >= SIZES {
            self.bytes += all.len() as u64 * 4;
            let number = match self.free_long.pop() {
                Some(number) => {
                    self.long[number as usize] = all.to_vec();
                    number
                }
                None => {
                    self.long.push(all.to_vec());
                    self.long.len() as u32 - 1
                }
            };
            return Some(Holders::list(LONG, number));
        }
        let number = self.sizes[size].take()?;
        let slot = self.sizes[size].get_mut(number);
        slot.fill(FREE);
        slot[..all.len()].copy_from_slice(all);
        self.bytes += slot.len() as u64 * 4;
        Some(Holders::list(size, number))
    }

    fn release(&mut self, holders: Holders) {
        match holders.place() {
            None => {}
            Some((LONG, number)) => {
                let long = std::mem::take(&mut self.long[number as usize]);
                self.bytes -= long.len() as u64 * 4;
                self.free_long.push(number);
            }
            Some((size, number)) => {
                self.bytes -= self.sizes[size].words as u64 * 4;
                self.sizes[size].give(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::mix::mix64;

    #[test]
    fn lists_hold_what_was_added() {
        let mut lists = Lists::default();
        let mut all: Vec<(Holders, Vec<Holder>)> = (0..50)
            .map(|n| (Holders::one(Holder::new(n, 1)), vec![Holder::new(n, 1)]))
            .collect();
        let mut state = 1;
        for n in 0..200_000u32 {
            state = mix64(state + 1);
            // A few grow long, the others stay short.
            let (which, down) = (state % 50, state >> 8 & 7 < if n < 100_000 { 3 } else { 5 });
            let (holders, known) = &mut all[if which > 45 { 0 } else { which as usize }];
            if !down {
                let new = Holder::new(n, 1 << (n % 6));
                assert!(lists.add(holders, new));
                known.push(new);
            } else if known.len() > 1 {
                let gone = known.swap_remove((state >> 16) as usize % known.len());
                assert!(lists.remove(holders, gone));
            } else {
                assert!(!lists.remove(holders, known[0]));
                let other = Holder::new(known[0].worker(), 2);
                lists.replace(holders, known[0], other);
                known[0] = other;
            }
            if n % 97 == 0 {
                let mut found = lists.get(holders).to_vec();
                found.sort_by_key(|h| h.0);
                known.sort_by_key(|h| h.0);
                assert_eq!(&found, known);
            }
        }
        assert!(!lists.long.is_empty());
        for (holders, known) in &mut all {
            while let Some(gone) = known.pop() {
                assert_eq!(lists.remove(holders, gone), !known.is_empty());
            }
        }
        assert_eq!(lists.bytes(), 0);
    }
}
