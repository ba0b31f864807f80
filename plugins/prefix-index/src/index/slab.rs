//! A slab in chunks: indices of 32 bits, no copy when it grows, slots reused.

const BITS: u32 = 12;
const CHUNK: usize = 1 << BITS;

/// No index.
pub(super) const NONE: u32 = u32::MAX;

/// What a slot of a [`Slab`] can do: while free, it holds the next free one.
pub(super) trait Slot: Default + Clone {
    /// What it is found by in a table, while it is in use.
    fn key(&self) -> u64;
    fn next_free(&self) -> u32;
    fn set_free(&mut self, next: u32);
}

/// Slots by index. An index that was never given out panics; one that was
/// freed shows a free slot.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Box<[T; CHUNK]>>,
    free: u32,
    fresh: u32,
    len: u32,
}

impl<T: Slot> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: NONE,
            fresh: 0,
            len: 0,
        }
    }

    /// A slot, with what was left in it. None when indices have run out.
    #[inline(always)]
    pub(super) fn take(&mut self) -> Option<u32> {
        let at = self.free;
        if at != NONE {
            self.free = self.get(at).next_free();
            self.len += 1;
            return Some(at);
        }
        self.take_fresh()
    }

    #[inline(never)]
    fn take_fresh(&mut self) -> Option<u32> {
        let at = self.fresh;
        if at as usize == self.chunks.len() * CHUNK {
            if at > NONE - CHUNK as u32 {
                return None;
            }
            let chunk = vec![T::default(); CHUNK].into_boxed_slice();
            self.chunks.push(chunk.try_into().ok()?);
        }
        self.fresh += 1;
        self.len += 1;
        Some(at)
    }

    /// Gives a slot back.
    #[inline]
    pub(super) fn give(&mut self, at: u32) {
        let next = std::mem::replace(&mut self.free, at);
        self.get_mut(at).set_free(next);
        self.len -= 1;
    }

    /// The same as [`Slab::get`] for an index that may be none.
    #[inline]
    pub(super) fn seen(&self, at: u32) -> Option<&T> {
        let chunk = self.chunks.get((at >> BITS) as usize)?;
        Some(&chunk[at as usize % CHUNK])
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> &T {
        &self.chunks[(at >> BITS) as usize][at as usize % CHUNK]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> &mut T {
        &mut self.chunks[(at >> BITS) as usize][at as usize % CHUNK]
    }

    /// Slots from `at` on, up to `end` or a little less; some at least.
    pub(super) fn run(&self, at: u32, end: u32) -> &[T] {
        let chunk = &self.chunks[(at >> BITS) as usize];
        let from = at as usize % CHUNK;
        let most = (end.saturating_sub(at) as usize).min(CHUNK - from);
        &chunk[from..from + most]
    }

    /// Slots in use.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Slots ever given out: indices lie below.
    pub(super) fn high_water(&self) -> u32 {
        self.fresh
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.chunks.len() * CHUNK * std::mem::size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Number(u32);

    impl Slot for Number {
        fn key(&self) -> u64 {
            self.0.into()
        }
        fn next_free(&self) -> u32 {
            self.0
        }
        fn set_free(&mut self, next: u32) {
            self.0 = next;
        }
    }

    #[test]
    fn slots_are_reused_and_kept_apart() {
        let mut slab = Slab::<Number>::new();
        let all: Vec<u32> = (0..CHUNK as u32 + 10)
            .map(|i| {
                let at = slab.take().unwrap();
                slab.get_mut(at).0 = i;
                at
            })
            .collect();
        assert!(
            all.iter()
                .enumerate()
                .all(|(i, at)| slab.get(*at).0 == i as u32)
        );
        slab.give(all[3]);
        slab.give(all[CHUNK + 1]);
        assert_eq!(slab.take(), Some(all[CHUNK + 1]));
        assert_eq!(slab.take(), Some(all[3]));
        assert_eq!(slab.len(), CHUNK as u32 + 10);
        assert_eq!(slab.take(), Some(slab.high_water() - 1));
    }
}
