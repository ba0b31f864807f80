//! Nodes: one block in one worker and group, and the list of least recent use.

use super::slab::{NONE, Slab, Slot};

/// Media of a node, in the order of `Medium::slot`.
pub(super) const MEDIA: usize = 6;

/// One block of one worker. A cache line of its own: whoever looks at a part of it
/// soon needs the rest.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Node {
    key_low: u32,
    key_high: u32,
    /// The worker; [`NONE`] while the slot is free.
    pub(super) worker: u32,
    /// Its chain; [`NONE`] while unknown.
    pub(super) chain: u32,
    /// Its position among the chain's holders.
    pub(super) pos: u32,
    /// Neighbour used later; next free slot while free.
    newer: u32,
    /// Neighbour used earlier.
    older: u32,
    /// The index's clock when it last came to the front.
    pub(super) stamp: u32,
    /// Tokens; 0 while unknown.
    pub(super) block_size: u32,
    /// KV cache group; inside of the key, but not to be had from it.
    pub(super) group: u32,
    /// References by medium, up to 65,535 each.
    pub(super) counts: [u16; MEDIA],
    /// Stored again, or asked for by engine hash, since it came to the front.
    pub(super) used: bool,
}

/// Ends of the list of nodes by use.
#[derive(Debug)]
pub(super) struct Recency {
    newest: u32,
    oldest: u32,
}

// === impl Node ===

impl Default for Node {
    fn default() -> Self {
        Self {
            key_low: 0,
            key_high: 0,
            worker: NONE,
            chain: NONE,
            pos: 0,
            newer: NONE,
            older: NONE,
            stamp: 0,
            block_size: 0,
            group: 0,
            counts: [0; MEDIA],
            used: false,
        }
    }
}

impl Node {
    pub(super) fn new(key: u64, worker: u32, group: u32, stamp: u32) -> Self {
        Self {
            key_low: key as u32,
            key_high: (key >> 32) as u32,
            worker,
            group,
            stamp,
            ..Self::default()
        }
    }

    /// Those used before and after it.
    #[inline]
    pub(super) fn neighbours(&self) -> [u32; 2] {
        [self.older, self.newer]
    }

    #[inline]
    pub(super) fn key(&self) -> u64 {
        u64::from(self.key_high) << 32 | u64::from(self.key_low)
    }

    /// One bit a medium in which it is.
    #[inline]
    pub(super) fn media(&self) -> u8 {
        let bit = |(i, count): (usize, &u16)| u8::from(*count > 0) << i;
        self.counts.iter().enumerate().map(bit).sum()
    }
}

impl Slot for Node {
    fn next_free(&self) -> u32 {
        self.newer
    }
    fn set_free(&mut self, next: u32) {
        self.worker = NONE;
        self.newer = next;
    }
}

// === impl Recency ===

impl Recency {
    pub(super) fn new() -> Self {
        Self {
            newest: NONE,
            oldest: NONE,
        }
    }

    /// The node not used for longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    #[inline]
    pub(super) fn push(&mut self, nodes: &mut Slab<Node>, at: u32) {
        let node = nodes.get_mut(at);
        node.newer = NONE;
        node.older = self.newest;
        match self.newest {
            NONE => self.oldest = at,
            newest => nodes.get_mut(newest).newer = at,
        }
        self.newest = at;
    }

    #[inline]
    pub(super) fn remove(&mut self, nodes: &mut Slab<Node>, at: u32) {
        let (newer, older) = {
            let node = nodes.get(at);
            (node.newer, node.older)
        };
        match newer {
            NONE => self.newest = older,
            newer => nodes.get_mut(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => nodes.get_mut(older).newer = newer,
        }
    }

    /// Brings a node to the front.
    #[inline]
    pub(super) fn touch(&mut self, nodes: &mut Slab<Node>, at: u32) {
        if self.newest != at {
            self.remove(nodes, at);
            self.push(nodes, at);
        }
    }
}
