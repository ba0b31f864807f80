//! A payload and its place in the stream, to a decoded batch.

use penstock_decode::{DecodeError, Decoder, Limits};
use penstock_event::{
    Batch, ColumnSet, Columns, EVENT_STRIDE, Epoch, Kind, Payload, Pool, Sequence, Skipped,
    SourceState,
};

/// Makes batches. One serves any number of sources; each thread has its own.
#[derive(Debug)]
pub struct BatchMaker {
    decoder: Decoder,
    pool: Pool,
    skipped: Vec<Skipped>,
}

/// A payload and what is known of it.
#[derive(Clone, Debug)]
pub struct Undecoded {
    /// Restarts of the source before it.
    pub epoch: Epoch,
    /// The publisher's number.
    pub sequence: Sequence,
    /// The payload as it came.
    pub payload: Payload,
    /// [`penstock_event::digest`] of it.
    pub digest: u64,
    /// When it was received, µs since 1970.
    pub received_us: i64,
    /// It came by replay.
    pub replayed: bool,
}

// === impl BatchMaker ===

impl BatchMaker {
    /// A maker that refuses what is above `limits` and takes columns from `pool`.
    #[must_use]
    pub fn new(limits: Limits, pool: Pool) -> Self {
        Self {
            decoder: Decoder::new(limits),
            pool,
            skipped: Vec::new(),
        }
    }

    /// Decodes, filling the columns in `want`.
    ///
    /// # Errors
    /// The payload is not a batch, or above the limits.
    pub fn make(
        &mut self,
        state: &SourceState,
        raw: Undecoded,
        want: ColumnSet,
    ) -> Result<Batch, DecodeError> {
        let mut columns = self.pool.take();
        let head = self.decoder.decode(
            &raw.payload,
            want,
            &state.dictionary,
            &mut columns,
            &mut self.skipped,
        )?;
        Ok(Batch {
            source: state.info.id,
            epoch: raw.epoch,
            sequence: raw.sequence,
            rank: head.rank,
            published_us: head.published_us,
            received_us: raw.received_us,
            replayed: raw.replayed,
            dictionary_len: state.dictionary.len(),
            columns,
            payload: raw.payload,
            digest: raw.digest,
            skipped: std::mem::take(&mut self.skipped),
        })
    }
}

/// Blocks of the stored events.
pub(crate) fn stored_blocks(columns: &Columns) -> u64 {
    let mut start = 0;
    let mut stored = 0;
    for words in columns.events.chunks_exact(EVENT_STRIDE) {
        let (head, end) = (words[0], words[EVENT_STRIDE - 1]);
        if head & 0xff == Kind::Stored as u32 {
            stored += u64::from(end.saturating_sub(start));
        }
        start = end;
    }
    stored
}
