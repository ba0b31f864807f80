//! What engines publish: a load that never ends and changes nothing in size.
//!
//! An engine works on a group of four conversations at a time, a batch of which
//! appends 8 blocks to each. Once its cache is full, each batch also removes as many
//! blocks of the oldest group, ends first. Groups come round again after all others,
//! so that payloads are made once: making them meanwhile would cost more than what is
//! measured.

use bytes::Bytes;
use penstock_event::digest;
use penstock_peer::encode::{Style, encode_batch};
use penstock_peer::event::{Event, Removed, Stored};
use std::ops::Range;

/// Tokens a block.
const TOKENS: usize = 16;
/// Conversations that grow side by side.
const TOGETHER: usize = 4;
/// Blocks that a batch appends to each.
const STEP: usize = 8;
/// Batches until a group is done.
const BATCHES: usize = 16;
/// Blocks of a group.
const GROUP: usize = TOGETHER * STEP * BATCHES;
/// Token numbers are below it.
const VOCABULARY: u64 = 128_000;
/// Groups beside those held: the one that grows, and one of distance.
const SPARE: usize = 2;

/// The load of all engines.
pub struct Load {
    /// Groups that an engine holds when its cache is full.
    held: usize,
    /// By engine: the payloads of a whole round, and their digests.
    rounds: Vec<Vec<(Bytes, u64)>>,
}

// === impl Load ===

impl Load {
    /// A load under which `engines` hold about `blocks` blocks together.
    pub fn new(engines: usize, blocks: u64) -> Self {
        let each = usize::try_from(blocks).unwrap_or(usize::MAX) / engines.max(1);
        let mut load = Self {
            held: each.div_ceil(GROUP).max(1),
            rounds: Vec::new(),
        };
        let round = |engine| {
            (0..load.round())
                .map(|at| load.made(engine, at, true))
                .collect()
        };
        let rounds = (0..engines).map(round).collect();
        load.rounds = rounds;
        load
    }

    /// Blocks that all engines hold together once their caches are full.
    pub fn blocks(&self) -> u64 {
        (self.rounds.len() * self.held * GROUP) as u64
    }

    /// Batches of one engine until its cache is full.
    pub fn fill(&self) -> u64 {
        (self.held * BATCHES) as u64
    }

    /// Batch `number` of an engine, and its digest.
    pub fn batch(&self, engine: usize, number: u64) -> (Bytes, u64) {
        let at = (number % self.round() as u64) as usize;
        if number < self.fill() {
            return self.made(engine, at, false);
        }
        self.rounds[engine][at].clone()
    }

    /// A prompt that was, or is, in an engine's cache; any number makes one.
    pub fn prompt(&self, number: u64) -> Vec<u32> {
        let engine = (mix(number, 1) % self.rounds.len() as u64) as usize;
        let group = (mix(number, 2) % (self.held + SPARE) as u64) as usize;
        let which = (mix(number, 3) % TOGETHER as u64) as usize;
        tokens(content(engine, group, which), 0..STEP * BATCHES)
    }

    /// Batches until all comes round again.
    fn round(&self) -> usize {
        (self.held + SPARE) * BATCHES
    }

    fn made(&self, engine: usize, at: usize, removes: bool) -> (Bytes, u64) {
        let (group, step) = (at / BATCHES, at % BATCHES);
        let mut events = Vec::with_capacity(TOGETHER + 1);
        if removes {
            // The oldest one: `held` groups ago, counted round.
            let oldest = (group + SPARE) % (self.held + SPARE);
            let end = STEP * (BATCHES - step);
            let of = |which| {
                let content = content(engine, oldest, which);
                (end - STEP..end)
                    .rev()
                    .map(move |block| hash(content, block))
            };
            events.push(Event::Removed(Removed {
                hashes: (0..TOGETHER).flat_map(of).collect(),
                medium: Some("GPU".into()),
                group: Some(0),
            }));
        }
        let range = STEP * step..STEP * (step + 1);
        events.extend(
            (0..TOGETHER).map(|which| stored(content(engine, group, which), range.clone())),
        );
        let ts = 1_700_000_000.0 + at as f64 * 0.01;
        let payload = encode_batch(ts, &events, Some(0), Style::MAP);
        let sum = digest(&payload);
        (payload.into(), sum)
    }
}

fn stored(content: u64, range: Range<usize>) -> Event {
    Event::Stored(Stored {
        parent: range
            .start
            .checked_sub(1)
            .map(|before| hash(content, before)),
        tokens: tokens(content, range.clone()),
        block_size: TOKENS as u32,
        medium: Some("GPU".into()),
        group: Some(0),
        spec_kind: Some("full_attention".into()),
        extra_keys: Some(vec![None; range.len()]),
        hashes: range.map(|block| hash(content, block)).collect(),
        ..Stored::default()
    })
}

fn content(engine: usize, group: usize, which: usize) -> u64 {
    ((engine as u64 + 1) << 40) | (group as u64) << 8 | which as u64
}

fn hash(content: u64, block: usize) -> u64 {
    mix(content ^ 0x5bd1_e995, block as u64)
}

fn tokens(content: u64, range: Range<usize>) -> Vec<u32> {
    let numbers = range.start * TOKENS..range.end * TOKENS;
    numbers
        .map(|at| (mix(content, at as u64) % VOCABULARY) as u32)
        .collect()
}

fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Follows the events with a set, over more than a round.
    #[test]
    fn a_full_cache_stays_as_full_as_said() {
        let load = Load::new(2, 6_000);
        let mut set = HashSet::new();
        for number in 0..3 * load.round() as u64 {
            let full = number >= load.fill();
            let at = (number % load.round() as u64) as usize;
            let (group, step) = (at / BATCHES, at % BATCHES);
            if full {
                let oldest = (group + SPARE) % (load.held + SPARE);
                for which in 0..TOGETHER {
                    let end = STEP * (BATCHES - step);
                    for block in end - STEP..end {
                        assert!(set.remove(&hash(content(0, oldest, which), block)));
                    }
                }
            }
            for which in 0..TOGETHER {
                for block in STEP * step..STEP * (step + 1) {
                    assert!(set.insert(hash(content(0, group, which), block)));
                }
            }
            let held = load.blocks() as usize / 2;
            assert!(!full || set.len() == held, "{} of {held}", set.len());
        }
    }
}
