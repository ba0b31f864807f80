//! Frames that wait, and digests of frames that came lately.

use crate::{Config, Frame};
use penstock_event::Sequence;
use std::collections::VecDeque;

/// A live frame that waits.
#[derive(Debug)]
pub(crate) struct Waiting<P> {
    pub(crate) sequence: Sequence,
    pub(crate) digest: u64,
    pub(crate) frame: P,
}

/// Frames in the order they came, with their bytes counted.
#[derive(Debug)]
pub(crate) struct Buffer<P> {
    frames: VecDeque<Waiting<P>>,
    bytes: usize,
}

// === impl Buffer ===

impl<P: Frame> Buffer<P> {
    pub(crate) fn new() -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(crate) fn push(&mut self, waiting: Waiting<P>) {
        self.bytes = self.bytes.saturating_add(waiting.frame.bytes());
        self.frames.push_back(waiting);
    }

    /// Takes the oldest. The last one out gives the memory back: waiting is rare,
    /// and a source must not keep what one bad minute needed.
    pub(crate) fn pop(&mut self) -> Option<Waiting<P>> {
        let waiting = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(waiting.frame.bytes());
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
        Some(waiting)
    }

    pub(crate) fn front(&self) -> Option<&Waiting<P>> {
        self.frames.front()
    }

    pub(crate) fn back(&self) -> Option<&Waiting<P>> {
        self.frames.back()
    }

    /// Digest of the frame of that number, where sequences rise.
    pub(crate) fn find(&self, sequence: Sequence) -> Option<u64> {
        let i = self.frames.partition_point(|w| w.sequence < sequence);
        let found = self.frames.get(i).filter(|w| w.sequence == sequence);
        found.map(|w| w.digest)
    }

    /// How many frames end with the last one of which `what` is true.
    pub(crate) fn last_where(&self, what: impl Fn(&Waiting<P>) -> bool) -> usize {
        self.frames.iter().rposition(what).map_or(0, |i| i + 1)
    }

    pub(crate) fn any(&self, what: impl Fn(&Waiting<P>) -> bool) -> bool {
        self.frames.iter().any(what)
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Moves all of `other` behind what is here.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.frames.append(&mut other.frames);
        other.bytes = 0;
    }

    /// True when this buffer and `other` together hold more than may wait.
    pub(crate) fn over(&self, other: &Self, config: &Config) -> bool {
        self.len() + other.len() > config.buffer_frames
            || self.bytes.saturating_add(other.bytes) > config.buffer_bytes
    }

    /// Index of the first frame after the last time that sequences went back:
    /// what lies before it comes from an earlier engine. 0 when they never did.
    pub(crate) fn last_turn(&self) -> usize {
        let mut turn = 0;
        let mut highest: Option<Sequence> = None;
        for (i, w) in self.frames.iter().enumerate() {
            let back = highest.is_some_and(|h| w.sequence <= h);
            if back && !self.frames.range(turn..i).any(|o| o.same(w)) {
                turn = i;
                highest = Some(w.sequence);
            } else {
                highest = highest.max(Some(w.sequence));
            }
        }
        turn
    }
}

// === impl Waiting ===

impl<P> Waiting<P> {
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.sequence == other.sequence && self.digest == other.digest
    }
}

/// Frames whose digests are remembered: how far one of two ways to an engine may lag
/// behind the other before its copies call for a check.
pub(crate) const RECENT: usize = 256;

/// Digests of the last [`RECENT`] frames delivered.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    ring: Vec<(Sequence, u64)>,
    /// The oldest one, once the ring is full.
    oldest: usize,
}

// === impl Recent ===

impl Recent {
    pub(crate) fn push(&mut self, sequence: Sequence, digest: u64) {
        if self.ring.len() < RECENT {
            self.ring.push((sequence, digest));
            return;
        }
        self.ring[self.oldest] = (sequence, digest);
        self.oldest = (self.oldest + 1) % RECENT;
    }

    /// Digest of a frame, if it is remembered.
    pub(crate) fn find(&self, sequence: Sequence) -> Option<u64> {
        let (newer, older) = self.ring.split_at(self.oldest);
        let mut known = newer.iter().rev().chain(older.iter().rev());
        known.find(|(s, _)| *s == sequence).map(|(_, d)| *d)
    }

    pub(crate) fn clear(&mut self) {
        self.ring.clear();
        self.oldest = 0;
    }
}
