//! Dynamo's default indexer, as its router feeds it: a normalizer for each engine, and one
//! thread that applies.

use crate::payloads::{Payload, count};
use anyhow::{Context, Result, anyhow};
use dynamo_kv_router::ConcurrentRadixTreeCompressed;
use dynamo_kv_router::indexer::{KvIndexerInterface, ThreadPoolIndexer};
use dynamo_kv_router::protocols::{KvCacheEventData, RouterEvent, WorkerWithDpRank};
use dynamo_kv_router::zmq_wire::{ZmqEventNormalizer, decode_event_batch};
use std::collections::HashMap;

/// Source and blocks.
pub type Scores = Vec<(u64, u32)>;

/// An index.
pub struct Indexer {
    pool: ThreadPoolIndexer<ConcurrentRadixTreeCompressed>,
    normalizers: HashMap<u32, ZmqEventNormalizer>,
    block_size: u32,
    events: u64,
}

impl Indexer {
    pub fn new(block_size: u32) -> Self {
        Self {
            pool: ThreadPoolIndexer::new(ConcurrentRadixTreeCompressed::new(), 1, block_size),
            normalizers: HashMap::new(),
            block_size,
            events: 0,
        }
    }

    /// Decodes, normalizes and applies; over when everything is applied. Returns blocks
    /// stored and removed.
    pub async fn apply(&mut self, payloads: &[Payload]) -> Result<(u64, u64)> {
        let mut counts = (0, 0);
        for payload in payloads {
            let source = u64::from(payload.source);
            let worker = WorkerWithDpRank::new(source, 0);
            let normalizer = self
                .normalizers
                .entry(payload.source)
                .or_insert_with(|| ZmqEventNormalizer::new(self.block_size));
            for event in decode_event_batch(&payload.bytes)?.events {
                count(&event, &mut counts);
                self.events += 1;
                let placed = normalizer
                    .normalize(event, self.events, worker)
                    .context("the normalizer drops an event")?;
                let event = RouterEvent::new(source, placed.event);
                self.pool.apply_event(event).await;
            }
        }
        self.pool
            .flush_and_wait()
            .await
            .map_err(|e| anyhow!("{e}"))?;
        Ok(counts)
    }

    /// Blocks held, for each source that holds them.
    pub async fn held(&self) -> Result<u64> {
        let events = self.pool.dump_events().await.map_err(|e| anyhow!("{e}"))?;
        let blocks = events.iter().map(|event| match &event.event.data {
            KvCacheEventData::Stored(stored) => stored.blocks.len() as u64,
            _ => 0,
        });
        Ok(blocks.sum())
    }

    /// How many of a prompt's blocks each source holds, from its start.
    pub async fn find(&self, tokens: &[u32]) -> Result<Scores> {
        let found = self
            .pool
            .find_matches_for_request(tokens, None, None, None)
            .await
            .map_err(|e| anyhow!("{e}"))?;
        let scores = found.scores.iter();
        let mut scores: Scores = scores
            .map(|(worker, blocks)| (worker.worker_id, *blocks))
            .collect();
        scores.sort_unstable();
        Ok(scores)
    }
}
