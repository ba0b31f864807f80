//! Nodes: one block in one lot.

use super::slab::{NONE, Slot};

/// Media of a node, in the order of `Medium::slot`.
pub(super) const MEDIA: usize = 6;

/// Eras that a node tells apart: see [`super::evict`].
pub(super) const ERAS: u32 = 16;

/// One block of one worker and group.
///
/// ```text
/// chain 32 | lot 16 | era 4 | used 1 | size 3 | media 6 | references 2
/// ```
/// `references` is their number in each medium that it is in; 0: it is kept elsewhere, and
/// so is the size. A free slot is in no medium, and its key is the next free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) key: u64,
    word: u64,
}

/// What a node says of its block, once it is unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// References by medium, up to 65,535 each.
    pub(super) counts: [u16; MEDIA],
    /// Tokens; 0 while unknown.
    pub(super) size: u32,
}

const CHAIN: u32 = 32;
const LOT: u32 = 16;
const ERA: u32 = 12;
const USED: u32 = 11;
const SIZE: u32 = 8;
const MEDIUM: u32 = 2;
const REFERENCES: u64 = 3;

// === impl Node ===

impl Node {
    /// A block that nothing is known of.
    #[inline]
    pub(super) fn new(key: u64, lot: u16, era: u32) -> Self {
        let era = u64::from(era % ERAS) << ERA;
        let word = u64::from(NONE) << CHAIN | u64::from(lot) << LOT | era;
        Self { key, word }
    }

    #[inline]
    fn with(self, shift: u32, mask: u64, value: u64) -> Self {
        Self {
            word: self.word & !(mask << shift) | (value & mask) << shift,
            ..self
        }
    }

    #[inline]
    pub(super) fn lot(self) -> u16 {
        (self.word >> LOT) as u16
    }

    /// Its chain; [`NONE`] while unknown.
    #[inline]
    pub(super) fn chain(self) -> u32 {
        (self.word >> CHAIN) as u32
    }

    #[inline]
    pub(super) fn with_chain(self, chain: u32) -> Self {
        self.with(CHAIN, u32::MAX.into(), chain.into())
    }

    #[inline]
    pub(super) fn with_key(self, key: u64) -> Self {
        Self { key, ..self }
    }

    /// What all blocks of a lot have in common that are in these media alone, once in each.
    #[inline]
    pub(super) fn sole(lot: u16, media: u8) -> Self {
        Self::new(0, lot, 0).with_block(media, 0, 1)
    }

    /// Whether it is [`sole`](Self::sole) where `other` is.
    #[inline]
    pub(super) fn is(self, other: Self) -> bool {
        const SAME: u64 = (u16::MAX as u64) << LOT | ((1 << MEDIA) - 1) << MEDIUM | REFERENCES;
        (self.word ^ other.word) & SAME == 0
    }

    /// False for a free slot.
    #[inline]
    pub(super) fn is_held(self) -> bool {
        self.media() != 0
    }

    /// When it was stored, or last seen to be in use.
    #[inline]
    pub(super) fn era(self) -> u32 {
        (self.word >> ERA) as u32 % ERAS
    }

    #[inline]
    pub(super) fn with_era(self, era: u32) -> Self {
        self.with(ERA, u64::from(ERAS) - 1, u64::from(era % ERAS))
    }

    /// Stored again, or asked for by engine hash, since its era.
    #[inline]
    pub(super) fn used(self) -> bool {
        self.word >> USED & 1 == 1
    }

    #[inline]
    pub(super) fn with_used(self, used: bool) -> Self {
        self.with(USED, 1, used.into())
    }

    /// One bit a medium in which it is.
    #[inline]
    pub(super) fn media(self) -> u8 {
        (self.word >> MEDIUM) as u8 & ((1 << MEDIA) - 1)
    }

    /// The lot's number of its size.
    #[inline]
    pub(super) fn size(self) -> usize {
        (self.word >> SIZE) as usize & 7
    }

    /// References in each medium that it is in; none: they are kept elsewhere.
    #[inline]
    pub(super) fn references(self) -> Option<u16> {
        let references = self.word & REFERENCES;
        (references > 0).then_some(references as u16)
    }

    /// The media, the lot's number of a size, and references; 0: they are kept elsewhere.
    #[inline]
    pub(super) fn with_block(self, media: u8, size: usize, references: u16) -> Self {
        self.with(SIZE, 7, size as u64)
            .with(MEDIUM, (1 << MEDIA) - 1, media.into())
            .with(0, REFERENCES, references.into())
    }
}

impl Slot for Node {
    #[inline]
    fn key(&self) -> u64 {
        self.key
    }
    #[inline]
    fn next_free(&self) -> u32 {
        self.key as u32
    }
    #[inline]
    fn set_free(&mut self, next: u32) {
        *self = Self {
            key: next.into(),
            word: 0,
        };
    }
}

// === impl Block ===

impl Block {
    /// One of so many references in each medium.
    #[inline]
    pub(super) fn of(media: u8, references: u16, size: u32) -> Self {
        let counts = std::array::from_fn(|medium| u16::from(media >> medium & 1) * references);
        Self { counts, size }
    }

    /// One bit a medium in which it is.
    #[inline]
    pub(super) fn media(&self) -> u8 {
        let bit = |(i, count): (usize, &u16)| u8::from(*count > 0) << i;
        self.counts.iter().enumerate().map(bit).sum()
    }

    /// The references of each medium that it is in, where they are the same and few.
    #[inline]
    pub(super) fn same(&self) -> Option<u16> {
        let most = self.counts.iter().copied().max().unwrap_or(0);
        let same = self.counts.iter().all(|count| [0, most].contains(count));
        (same && (1..=REFERENCES as u16).contains(&most)).then_some(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_word_do_not_touch_each_other() {
        let node = Node::new(7, 500, 5);
        assert_eq!((node.chain(), node.lot(), node.era()), (NONE, 500, 5));
        assert!(!node.used() && !node.is_held());
        let node = node.with_block(0b10_0001, 6, 3).with_chain(1 << 31);
        let node = node.with_used(true).with_era(15);
        assert_eq!((node.chain(), node.media()), (1 << 31, 0b10_0001));
        assert_eq!((node.era(), node.used(), node.size()), (15, true, 6));
        assert_eq!((node.references(), node.lot()), (Some(3), 500));
        let sole = Node::sole(500, 2).with_used(true).with_era(3);
        assert!(
            sole.with_chain(7)
                .with_block(2, 5, 1)
                .is(Node::sole(500, 2))
        );
        for other in [Node::sole(501, 2), Node::sole(500, 3), Node::default()] {
            assert!(!other.is(Node::sole(500, 2)));
        }
        assert!(!sole.with_block(2, 0, 2).is(sole) && !sole.with_block(2, 0, 0).is(sole));
        let node = node.with_block(0, 0, 0).with_used(false).with_era(0);
        assert_eq!(node.with_chain(NONE), Node::new(7, 500, 0));
    }
}
