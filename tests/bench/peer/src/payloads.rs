//! The payloads that both sides get.

use anyhow::{Context, Result, ensure};
use dynamo_kv_router::zmq_wire::{RawKvEvent, decode_event_batch};
use std::path::Path;

/// Payloads in the order of their arrival.
pub struct Payloads {
    pub all: Vec<Payload>,
    /// Tokens a block.
    pub block_size: u32,
    /// So many fill caches.
    pub fill: usize,
}

/// What one engine published at once.
pub struct Payload {
    pub source: u32,
    pub bytes: Vec<u8>,
}

impl Payloads {
    /// Reads a file of `source u32 | length u32 | bytes`, little endian, again and again.
    pub fn read(file: &Path, block_size: u32, fill: usize) -> Result<Self> {
        let read = std::fs::read(file).with_context(|| file.display().to_string())?;
        let (mut rest, mut all) = (&read[..], Vec::new());
        while let Some((head, more)) = rest.split_first_chunk::<8>() {
            let [source, length] = [&head[..4], &head[4..]]
                .map(|b| b.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b)));
            let (bytes, more) = more
                .split_at_checked(length as usize)
                .context("the file ends within a payload")?;
            all.push(Payload {
                source,
                bytes: bytes.to_vec(),
            });
            rest = more;
        }
        ensure!(rest.is_empty(), "the file ends within a payload");
        ensure!(
            fill <= all.len(),
            "{fill} payloads to fill, {} there",
            all.len()
        );
        Ok(Self {
            all,
            block_size,
            fill,
        })
    }

    pub fn bytes(&self) -> u64 {
        self.all.iter().map(|p| p.bytes.len() as u64).sum()
    }

    /// Decodes all; blocks stored and removed.
    pub fn decode(&self) -> Result<(u64, u64)> {
        let mut counts = (0, 0);
        for payload in &self.all {
            for event in &decode_event_batch(&payload.bytes)?.events {
                count(event, &mut counts);
            }
        }
        Ok(counts)
    }
}

/// Adds an event's blocks to those stored and removed.
pub fn count(event: &RawKvEvent, (stored, removed): &mut (u64, u64)) {
    match event {
        RawKvEvent::BlockStored { block_hashes, .. } => *stored += block_hashes.len() as u64,
        RawKvEvent::BlockRemoved { block_hashes, .. } => *removed += block_hashes.len() as u64,
        _ => {}
    }
}
