//! Lots: the blocks of one worker in one group.

use super::mix;

/// Sizes that a lot's nodes tell apart; blocks of others take more memory.
const SIZES: usize = 8;

/// The blocks of one worker in one group.
#[derive(Debug, Default)]
pub(super) struct Lot {
    pub(super) worker: u32,
    pub(super) group: u32,
    /// What goes into its nodes' keys.
    pub(super) salt: u64,
    sizes: Vec<u32>,
}

/// All lots, by number.
#[derive(Debug, Default)]
pub(super) struct Lots {
    list: Vec<Lot>,
    free: Vec<u16>,
}

// === impl Lot ===

impl Lot {
    /// The size of that number.
    #[inline]
    pub(super) fn size(&self, number: usize) -> u32 {
        self.sizes.get(number).copied().unwrap_or(0)
    }

    /// The number of a size, if it has one.
    #[inline]
    pub(super) fn known(&self, size: u32) -> Option<usize> {
        self.sizes.iter().position(|known| *known == size)
    }

    /// The same, a new one if need be; none: there are too many.
    #[inline]
    pub(super) fn number(&mut self, size: u32) -> Option<usize> {
        let known = self.known(size);
        if known.is_none() && self.sizes.len() < SIZES {
            self.sizes.push(size);
            return Some(self.sizes.len() - 1);
        }
        known
    }
}

// === impl Lots ===

impl Lots {
    #[inline]
    pub(super) fn get(&self, lot: u16) -> &Lot {
        &self.list[usize::from(lot)]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, lot: u16) -> &mut Lot {
        &mut self.list[usize::from(lot)]
    }

    /// An empty one; none: there are too many.
    pub(super) fn make(&mut self, seed: u64, worker: u32, group: u32) -> Option<u16> {
        let lot = match self.free.pop() {
            Some(lot) => lot,
            None => {
                let lot = u16::try_from(self.list.len()).ok()?;
                self.list.push(Lot::default());
                lot
            }
        };
        *self.get_mut(lot) = Lot {
            worker,
            group,
            salt: mix::salt(seed, lot),
            sizes: Vec::new(),
        };
        Some(lot)
    }

    /// For another seed; there are no nodes.
    pub(super) fn reseed(&mut self, seed: u64) {
        for (number, lot) in (0u16..).zip(&mut self.list) {
            lot.salt = mix::salt(seed, number);
        }
    }

    /// Gives some back whose blocks are gone.
    pub(super) fn free(&mut self, lots: impl IntoIterator<Item = u16>) {
        self.free.extend(lots);
    }

    /// Lots in use.
    pub(super) fn len(&self) -> usize {
        self.list.len() - self.free.len()
    }

    /// Numbers of lots lie below; some of them are free.
    pub(super) fn numbers(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_end() {
        let mut lots = Lots::default();
        for n in 0..=u32::from(u16::MAX) {
            assert_eq!(lots.make(1, n, 0), Some(n as u16));
        }
        assert_eq!(lots.make(1, 0, 0), None);
        lots.free([7]);
        assert_eq!((lots.make(1, 9, 3), lots.get(7).worker), (Some(7), 9));
        let lot = lots.get_mut(7);
        for size in 0..10 {
            let number = lot.number(size);
            assert_eq!(number, (size < 8).then_some(size as usize));
        }
        assert_eq!((lot.number(3), lot.size(3)), (Some(3), 3));
    }
}
