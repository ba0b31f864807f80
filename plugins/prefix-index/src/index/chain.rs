//! Chains: who holds the block that ends one particular prefix.

use super::lists::{Holder, Holders};
use super::slab::Slot;

/// A prefix's last block.
///
/// ```text
/// tags 8 | touched 8 | tokens 16 | holders 32
/// ```
/// A free slot is held by nobody, and its hash is the next free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) hash: u64,
    word: u64,
}

const SIZE: u32 = 32;
const TOUCHED: u32 = 48;
/// Some child has another block size: a partial last block, as a rule.
const ODD_CHILD: u64 = 1 << 56;
/// A lookup has come by.
const LOOKED_UP: u64 = 1 << 57;

/// Larger blocks have no chain.
pub(super) const MAX_SIZE: u32 = u16::MAX as u32;

impl Chain {
    #[inline]
    pub(super) fn new(hash: u64, holder: Holder, size: u32) -> Self {
        let holders = Holders::one(holder).bits();
        let word = u64::from(size & MAX_SIZE) << SIZE | u64::from(holders);
        Self { hash, word }
    }

    /// Tokens of the block.
    #[inline]
    pub(super) fn size(self) -> u32 {
        (self.word >> SIZE) as u32 & MAX_SIZE
    }

    #[inline]
    pub(super) fn holders(self) -> Holders {
        Holders::from_bits(self.word as u32)
    }

    #[inline]
    pub(super) fn set_holders(&mut self, holders: Holders) {
        self.word = self.word & !u64::from(u32::MAX) | u64::from(holders.bits());
    }

    /// False for a free slot.
    #[cfg(test)]
    pub(super) fn is_held(self) -> bool {
        self.word != 0
    }

    #[inline]
    pub(super) fn odd_child(self) -> bool {
        self.word & ODD_CHILD != 0
    }

    #[inline]
    pub(super) fn set_odd_child(&mut self) {
        self.word |= ODD_CHILD;
    }

    /// The low bits of the era in which a lookup last came by.
    #[inline]
    pub(super) fn touched(self) -> Option<u8> {
        (self.word & LOOKED_UP != 0).then_some((self.word >> TOUCHED) as u8)
    }

    #[inline]
    pub(super) fn set_touched(&mut self, era: u32) {
        let era = u64::from(era as u8) << TOUCHED;
        self.word = self.word & !(0xff << TOUCHED) | era | LOOKED_UP;
    }
}

impl Slot for Chain {
    #[inline]
    fn key(&self) -> u64 {
        self.hash
    }
    #[inline]
    fn next_free(&self) -> u32 {
        self.hash as u32
    }
    #[inline]
    fn set_free(&mut self, next: u32) {
        *self = Self {
            hash: next.into(),
            word: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_word_do_not_touch_each_other() {
        let mut chain = Chain::new(3, Holder::new(7, 1), MAX_SIZE);
        assert_eq!((chain.size(), chain.odd_child()), (MAX_SIZE, false));
        assert_eq!(chain.touched(), None);
        chain.set_touched(511);
        chain.set_touched(258);
        chain.set_odd_child();
        assert_eq!((chain.touched(), chain.odd_child()), (Some(2), true));
        let other = Holders::one(Holder::new(9, 2));
        chain.set_holders(other);
        assert_eq!((chain.holders(), chain.size()), (other, MAX_SIZE));
        assert_eq!((chain.touched(), chain.odd_child()), (Some(2), true));
    }
}
