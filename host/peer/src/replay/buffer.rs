use bytes::Bytes;
use std::collections::VecDeque;

/// The most recent batches, bounded in number and in bytes.
///
/// Batches come out in the order in which they went in. Each has an index that
/// counts all batches ever held, so that a reader keeps its place while older
/// batches leave.
#[derive(Debug)]
pub struct ReplayBuffer {
    held: VecDeque<Held>,
    first_index: u64,
    bytes: usize,
    max_batches: usize,
    max_bytes: usize,
    evicted: u64,
}

#[derive(Debug)]
pub(super) struct Held {
    pub topic: Bytes,
    pub sequence: u64,
    pub payload: Bytes,
    /// Held but never sent: a fault.
    pub hidden: bool,
}

impl ReplayBuffer {
    /// Holds at most `max_batches` batches and `max_bytes` bytes of topics and
    /// payloads. A single batch above `max_bytes` is not held at all.
    #[must_use]
    pub fn new(max_batches: usize, max_bytes: usize) -> Self {
        Self {
            held: VecDeque::new(),
            first_index: 0,
            bytes: 0,
            max_batches,
            max_bytes,
            evicted: 0,
        }
    }

    /// Holds one more batch; the oldest leave for it. Nothing is copied.
    pub fn push(&mut self, topic: Bytes, sequence: u64, payload: Bytes) {
        self.push_held(topic, sequence, payload, false);
    }

    /// As [`push`](Self::push), but no replay shows it: a fault for tests.
    pub fn push_hidden(&mut self, topic: Bytes, sequence: u64, payload: Bytes) {
        self.push_held(topic, sequence, payload, true);
    }

    fn push_held(&mut self, topic: Bytes, sequence: u64, payload: Bytes, hidden: bool) {
        self.bytes += topic.len() + payload.len();
        self.held.push_back(Held {
            topic,
            sequence,
            payload,
            hidden,
        });
        while self.held.len() > self.max_batches || self.bytes > self.max_bytes {
            let Some(oldest) = self.held.pop_front() else {
                break;
            };
            self.bytes -= oldest.topic.len() + oldest.payload.len();
            self.first_index += 1;
            self.evicted += 1;
        }
    }

    /// Forgets all batches, as an engine does that starts again.
    pub fn clear(&mut self) {
        self.first_index += self.held.len() as u64;
        self.held.clear();
        self.bytes = 0;
    }

    /// Batches held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// True without batches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes of topics and payloads held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Batches that left to make room, ever.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Sequence of the oldest batch held.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        self.held.front().map(|held| held.sequence)
    }

    /// Sequence of the newest batch held.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.held.back().map(|held| held.sequence)
    }

    /// Topic, sequence and payload of each batch held, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, u64, &Bytes)> {
        self.held.iter().map(|h| (&h.topic, h.sequence, &h.payload))
    }

    /// Index of the oldest batch held.
    pub(super) fn first_index(&self) -> u64 {
        self.first_index
    }

    /// Index past the newest batch held.
    pub(super) fn end_index(&self) -> u64 {
        self.first_index + self.held.len() as u64
    }

    /// The batch of an index; none when it has left or has yet to come.
    pub(super) fn at(&self, index: u64) -> Option<&Held> {
        let at = index.checked_sub(self.first_index)?;
        self.held.get(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(buffer: &mut ReplayBuffer, sequence: u64, length: usize) {
        buffer.push(Bytes::new(), sequence, Bytes::from(vec![0; length]));
    }

    #[test]
    fn both_bounds_hold() {
        let mut buffer = ReplayBuffer::new(3, 100);
        for sequence in 0..10 {
            push(&mut buffer, sequence, 10);
        }
        assert_eq!((buffer.oldest(), buffer.newest()), (Some(7), Some(9)));
        push(&mut buffer, 10, 85);
        assert_eq!((buffer.len(), buffer.bytes()), (2, 95));
        push(&mut buffer, 11, 101);
        assert_eq!((buffer.len(), buffer.bytes()), (0, 0));
        assert_eq!(buffer.evicted(), 12);
    }

    #[test]
    fn an_index_outlives_eviction_and_clearing() {
        let mut buffer = ReplayBuffer::new(2, 100);
        push(&mut buffer, 0, 1);
        push(&mut buffer, 1, 1);
        push(&mut buffer, 2, 1);
        assert!(buffer.at(0).is_none());
        assert_eq!(buffer.at(2).unwrap().sequence, 2);
        buffer.clear();
        assert!(buffer.at(2).is_none());
        push(&mut buffer, 0, 1);
        assert_eq!(buffer.at(buffer.first_index()).unwrap().sequence, 0);
        assert_eq!(buffer.end_index(), 4);
    }
}
