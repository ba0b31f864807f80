use crate::Frame;
use penstock_event::Sequence;
use std::collections::BTreeMap;

/// Live frames that wait for what comes before them.
#[derive(Debug)]
pub(crate) struct Buffer<P> {
    frames: BTreeMap<Sequence, P>,
    bytes: usize,
}

// === impl Buffer ===

impl<P: Frame> Buffer<P> {
    pub fn new() -> Self {
        Self {
            frames: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// False: a frame of that sequence waits already.
    pub fn insert(&mut self, sequence: Sequence, frame: P) -> bool {
        if self.frames.contains_key(&sequence) {
            return false;
        }
        self.bytes += frame.bytes();
        self.frames.insert(sequence, frame);
        true
    }

    pub fn first(&self) -> Option<Sequence> {
        self.frames.keys().next().copied()
    }

    pub fn digest(&self, sequence: Sequence) -> Option<u64> {
        self.frames.get(&sequence).map(Frame::digest)
    }

    pub fn take(&mut self, sequence: Sequence) -> Option<P> {
        let frame = self.frames.remove(&sequence)?;
        self.bytes -= frame.bytes();
        Some(frame)
    }

    /// Drops what is below `sequence`: it was delivered.
    pub fn forget_below(&mut self, sequence: Sequence) {
        while let Some(first) = self.first().filter(|first| *first < sequence) {
            self.take(first);
        }
    }

    /// Takes in another buffer; frames of our own stay.
    pub fn merge(&mut self, other: Self) {
        for (sequence, frame) in other.frames {
            self.insert(sequence, frame);
        }
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
