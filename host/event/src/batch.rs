use crate::{Epoch, Kind, Mark, PooledColumns, Position, Sequence, SourceId};
use bytes::Bytes;

/// A batch's payload as it came, shared without a copy.
pub type Payload = Bytes;

/// A digest of a payload, by which a batch is known again after a reconnect.
#[must_use]
pub fn digest(payload: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(payload)
}

/// One batch of one source, decoded, in order.
#[derive(Debug)]
pub struct Batch {
    /// Whose it is.
    pub source: SourceId,
    /// Restarts of the source before this batch.
    pub epoch: Epoch,
    /// The publisher's number.
    pub sequence: Sequence,
    /// The third element of the batch, when the engine sends one.
    pub rank: Option<u32>,
    /// The engine's time, µs since 1970.
    pub published_us: i64,
    /// When the host received it, µs since 1970.
    pub received_us: i64,
    /// It came by replay, not live.
    pub replayed: bool,
    /// Dictionary entries (codes `1..=n`) that the columns may refer to.
    pub dictionary_len: u32,
    /// The events.
    pub columns: PooledColumns,
    /// The payload as it came.
    pub payload: Payload,
    /// Its [`digest`].
    pub digest: u64,
    /// Events left out because they were bad.
    pub skipped: Vec<Skipped>,
}

impl Batch {
    /// Where it stands in its source's stream.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            sequence: self.sequence,
        }
    }

    /// What to keep of it, to go on behind it another time.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            position: self.position(),
            digest: self.digest,
        }
    }

    /// Events lost because they were bad: what they stored or removed is unknown.
    #[must_use]
    pub fn skipped_events(&self) -> u32 {
        (self.skipped.iter()).fold(0, |sum, skipped| sum.saturating_add(skipped.lost))
    }

    /// True when some event of it says that the cache was emptied.
    #[must_use]
    pub fn clears(&self) -> bool {
        (0..self.columns.len()).any(|i| self.columns.event(i).kind == Kind::Cleared)
    }

    /// Bytes that a queue holding it accounts for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.columns.bytes() + std::mem::size_of::<Self>()
    }
}

/// An event left out of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its index in the payload.
    pub event: u32,
    /// Events lost with it: itself, or where the message broke off all from here
    /// on. 0 for a tag that no known engine sends and for bytes after the events:
    /// nothing known to be of the cache is missing then.
    pub lost: u32,
    /// Why: a short code from a bounded set, as in metrics.
    pub code: &'static str,
}
