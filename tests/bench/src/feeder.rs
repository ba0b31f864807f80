//! Payloads to batches, as the host hands them to plugins.

use crate::parts::decode::WANTED;
use crate::sides::Plugged;
use anyhow::{Result, ensure};
use bytes::Bytes;
use penstock_decode::Decoder;
use penstock_event::{Batch, EVENT_STRIDE, Epoch, Pool, SourceId};

/// Batches decoded at a time, before a clock starts.
pub const CHUNK: usize = 64;

/// Nobody knows this kind of event.
const NO_KIND: u32 = 0xff;

/// Decodes.
pub struct Feeder {
    decoder: Decoder,
    pool: Pool,
}

impl Default for Feeder {
    fn default() -> Self {
        Self {
            decoder: Decoder::default(),
            pool: Pool::new(2 * CHUNK),
        }
    }
}

impl Feeder {
    /// A batch; with `skip`, one whose events are of a kind that nobody knows.
    pub fn decode(
        &mut self,
        side: &impl Plugged,
        source: usize,
        sequence: u64,
        payload: &Bytes,
        skip: bool,
    ) -> Result<Batch> {
        let mut columns = self.pool.take();
        let mut skipped = Vec::new();
        let names = side.names(source);
        let head = self
            .decoder
            .decode(payload, WANTED, names, &mut columns, &mut skipped)?;
        ensure!(skipped.is_empty(), "a bad event");
        if skip {
            columns
                .events
                .iter_mut()
                .step_by(EVENT_STRIDE)
                .for_each(|word| *word |= NO_KIND);
        }
        Ok(Batch {
            source: SourceId(source as u32),
            epoch: Epoch(0),
            sequence,
            rank: head.rank,
            published_us: head.published_us,
            received_us: head.published_us,
            replayed: false,
            dictionary_len: names.len(),
            columns,
            payload: payload.clone(),
            digest: penstock_event::digest(payload),
            skipped,
        })
    }
}
