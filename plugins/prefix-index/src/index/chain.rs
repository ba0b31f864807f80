//! Chains: who holds the block that ends one particular prefix.

use super::slab::Slot;

/// One holder of a chain: a worker, the media in which it has it, and its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holder {
    /// Worker in the low 24 bits, a bit a medium above.
    packed: u32,
    /// The node that says so.
    pub(super) node: u32,
}

/// Workers above do not fit into a [`Holder`].
pub(super) const MAX_WORKERS: u32 = 1 << 24;

/// Holders of one chain. Most chains have one, a shared system prompt's have
/// as many as there are engines.
#[derive(Clone, Debug)]
pub(super) enum Holders {
    One(Holder),
    Many(Vec<Holder>),
}

/// A prefix's last block.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    /// The chain hash.
    pub(super) hash: u64,
    /// Tokens of the block; next free slot while free.
    pub(super) block_size: u32,
    /// The index's clock when a lookup last came by.
    pub(super) touched: u32,
    /// Some child has another block size: a partial last block, as a rule.
    pub(super) odd_child: bool,
    pub(super) holders: Holders,
}

// === impl Holder ===

impl Holder {
    #[inline]
    pub(super) fn new(worker: u32, media: u8, node: u32) -> Self {
        Self {
            packed: worker | u32::from(media) << 24,
            node,
        }
    }

    #[inline]
    pub(super) fn worker(self) -> u32 {
        self.packed & (MAX_WORKERS - 1)
    }

    #[inline]
    pub(super) fn media(self) -> u8 {
        (self.packed >> 24) as u8
    }
}

// === impl Holders ===

impl Default for Holders {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Holders {
    #[inline]
    pub(super) fn as_slice(&self) -> &[Holder] {
        match self {
            Self::One(holder) => std::slice::from_ref(holder),
            Self::Many(holders) => holders,
        }
    }

    #[inline]
    pub(super) fn at_mut(&mut self, pos: u32) -> Option<&mut Holder> {
        match self {
            Self::One(holder) => (pos == 0).then_some(holder),
            Self::Many(holders) => holders.get_mut(pos as usize),
        }
    }

    /// Adds one and returns its position.
    #[inline]
    pub(super) fn push(&mut self, holder: Holder) -> u32 {
        match self {
            Self::One(first) => {
                *self = Self::Many(vec![*first, holder]);
                1
            }
            Self::Many(holders) if holders.is_empty() => {
                *self = Self::One(holder);
                0
            }
            Self::Many(holders) => {
                holders.push(holder);
                holders.len() as u32 - 1
            }
        }
    }

    /// Takes the one at `pos` out; the last takes its place and is returned.
    #[inline]
    pub(super) fn remove(&mut self, pos: u32) -> Option<Holder> {
        match self {
            Self::One(_) => {
                *self = Self::default();
                None
            }
            Self::Many(holders) => {
                let pos = pos as usize;
                if pos >= holders.len() {
                    return None;
                }
                holders.swap_remove(pos);
                let moved = holders.get(pos).copied();
                if let [last] = holders[..] {
                    *self = Self::One(last);
                } else if holders.len() < holders.capacity() / 4 {
                    holders.shrink_to(holders.len() * 2);
                }
                moved
            }
        }
    }

    /// Bytes outside of the slot: capacity, and the allocator's own share.
    #[inline]
    pub(super) fn spilled(&self) -> usize {
        match self {
            Self::Many(holders) if holders.capacity() > 0 => {
                holders.capacity() * std::mem::size_of::<Holder>() + 16
            }
            _ => 0,
        }
    }
}

// === impl Chain ===

impl Slot for Chain {
    fn next_free(&self) -> u32 {
        self.block_size
    }
    fn set_free(&mut self, next: u32) {
        *self = Self {
            block_size: next,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_keep_track_of_positions() {
        let mut holders = Holders::default();
        for i in 0..100 {
            assert_eq!(holders.push(Holder::new(i, 1, i)), i);
        }
        assert_eq!(holders.remove(99), None);
        assert_eq!(holders.remove(3).map(Holder::worker), Some(98));
        assert_eq!(holders.at_mut(3).map(|h| h.worker()), Some(98));
        for left in (1..98).rev() {
            holders.remove(0);
            assert_eq!(holders.as_slice().len(), left);
        }
        assert_eq!(holders.spilled(), 0);
        holders.remove(0);
        assert!(holders.as_slice().is_empty());
    }
}
