//! Payload bytes to the columns that `prefix-index` asks for, token hashes
//! included. Stored events alone: a removed block has no tokens and would
//! flatter the figure.

use crate::measure::{Spread, ns_each};
use crate::payloads::{Engine, Shape};
use crate::report::{PROFILE, Row, Side};
use anyhow::{Result, ensure};
use bytes::Bytes;
use penstock_decode::Decoder;
use penstock_event::{ColumnSet, Columns, Dictionary};
use std::time::Instant;

/// Blocks decoded in one sample, whatever the shape.
const BLOCKS: usize = 640_000;

/// Expected at most: ns a block.
const LIMIT: f64 = 200.0;

/// What `prefix-index` asks for.
pub const WANTED: ColumnSet = ColumnSet(ColumnSet::TOKEN_HASHES.0 | ColumnSet::EXTRA_DIGESTS.0);

struct Case {
    events: usize,
    payloads: Vec<Bytes>,
    bytes: u64,
    blocks: u64,
    samples: Vec<f64>,
}

/// Rows for batches of 4, 1 and 64 events.
pub fn run(rounds: usize) -> Result<Vec<Row>> {
    eprintln!("decode: {rounds} rounds, {BLOCKS} blocks each");
    let mut cases: Vec<Case> = [4, 1, 64].map(Case::new).into();
    let mut decoder = Decoder::default();
    for round in 0..=rounds {
        for case in &mut cases {
            let ns = case.sample(&mut decoder)?;
            // The first round warms the decoder's memory.
            if round > 0 {
                case.samples.push(ns);
            }
        }
    }
    Ok(cases.iter().map(Case::row).collect())
}

// === impl Case ===

impl Case {
    fn new(events: usize) -> Self {
        let shape = Shape {
            events,
            blocks: 8,
            tokens: 16,
            capacity: usize::MAX,
        };
        let (payloads, blocks) = Engine::new(0, shape).payloads(BLOCKS / (events * shape.blocks));
        Self {
            events,
            bytes: payloads.iter().map(|p| p.len() as u64).sum(),
            payloads,
            blocks,
            samples: Vec::new(),
        }
    }

    fn sample(&self, decoder: &mut Decoder) -> Result<f64> {
        let dictionary = Dictionary::default();
        let (mut columns, mut skipped) = (Columns::default(), Vec::new());
        let (mut blocks, mut refused, mut without) = (0, 0, 0);
        let begun = Instant::now();
        for payload in &self.payloads {
            decoder.decode(payload, WANTED, &dictionary, &mut columns, &mut skipped)?;
            blocks += columns.hashes.len() as u64;
            refused += skipped.len();
            without += usize::from(columns.token_hashes.last().is_none_or(|hash| *hash == 0));
        }
        let time = begun.elapsed();
        ensure!(
            blocks == self.blocks,
            "decoded {blocks} blocks of {}",
            self.blocks
        );
        ensure!(refused == 0, "{refused} events were skipped");
        ensure!(
            without == 0,
            "{without} batches have no token hash at their end"
        );
        Ok(ns_each(time, blocks))
    }

    fn row(&self) -> Row {
        let bytes_a_block = self.bytes as f64 / self.blocks as f64;
        let ours = Spread::of(self.samples.iter().copied());
        Row {
            name: match self.events {
                4 => "decode".into(),
                events => format!("decode/{events}-events"),
            },
            what: format!(
                "map batches of {} x 8 blocks x 16 tokens to columns",
                self.events
            ),
            unit: "ns/block",
            ours: Side::new("penstock-decode", ours),
            peer: None,
            limit: Some(LIMIT),
            limit_on: "ours",
            ratio: Spread::of(self.samples.iter().map(|ns| ns / LIMIT)),
            samples: self.samples.len(),
            blocks: self.blocks,
            profile: PROFILE.into(),
            more: [
                ("bytes_per_s".into(), bytes_a_block * 1e9 / ours.median),
                ("bytes_per_block".into(), bytes_a_block),
                ("batches".into(), self.payloads.len() as f64),
            ]
            .into(),
        }
    }
}
