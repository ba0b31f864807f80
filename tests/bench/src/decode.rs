//! Payload bytes to the columns that `prefix-index` asks for, token hashes
//! included, for the ways in which the main engines write them. Stored events
//! alone: a removed block has no tokens and would flatter the figure.

use crate::measure::{Spread, ns_each, thread_time};
use crate::payloads::{Engine, Shape};
use crate::report::{Expected, Report, Row, ends, number};
use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use penstock_decode::Decoder;
use penstock_event::{ColumnSet, Columns, Dictionary};
use serde_json::json;

/// Blocks decoded in one sample of each style: more bytes than caches hold.
const BLOCKS: usize = 200_000;

/// Expected at most: ns a block.
const LIMIT: f64 = 200.0;

/// What `prefix-index` asks for.
pub const WANTED: ColumnSet = ColumnSet(ColumnSet::TOKEN_HASHES.0 | ColumnSet::EXTRA_DIGESTS.0);

/// Stored events a batch, as a busy engine's step has them.
const EVENTS: usize = 4;

/// Style, events a batch, and for whom it stands. The first is the headline.
const CASES: [(&str, usize, &str); 8] = [
    ("vllm-0.33", EVENTS, "vLLM, maps, 4 events a batch"),
    ("vllm-0.33", 1, "vLLM, maps, 1 event a batch"),
    ("vllm-0.33", 64, "vLLM, maps, 64 events a batch"),
    ("vllm-0.33+bytes", EVENTS, "vLLM, maps, hashes of 32 bytes"),
    ("vllm-0.9", EVENTS, "vLLM up to 0.23, arrays"),
    ("sglang-0.5.10", EVENTS, "SGLang up to 0.5.19, arrays"),
    ("sglang-0.5.23", EVENTS, "SGLang, maps"),
    ("aibrix", EVENTS, "AIBrix, a map a batch"),
];

struct Case {
    style: &'static str,
    events: usize,
    what: &'static str,
    payloads: Vec<Bytes>,
    bytes: u64,
    blocks: u64,
    samples: Vec<f64>,
}

/// Measures all cases in turn, round by round.
pub fn run(rounds: usize) -> Result<Report> {
    eprintln!("decode: {rounds} rounds of {BLOCKS} blocks in each style");
    let cases = CASES.map(|(style, events, what)| Case::new(style, events, what));
    let mut cases: Vec<Case> = cases.into_iter().collect::<Result<_>>()?;
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
    let first = cases.first().ok_or_else(|| anyhow!("no cases"))?;
    let ours = first.spread();
    let styles: Vec<_> = cases
        .iter()
        .map(|case| {
            json!({
                "style": case.style,
                "events_per_batch": case.events,
                "ns_per_block": number(case.spread().median),
                "ns_per_block_range": ends(case.spread()),
                "bytes_per_second": number(case.bytes_per_second()),
                "bytes_per_block": number(case.bytes_per_block()),
            })
        })
        .collect();
    let figures = json!({
        "ns_per_block": number(ours.median),
        "ns_per_block_range": ends(ours),
        "bytes_per_second": number(first.bytes_per_second()),
        "expected_ns_per_block": LIMIT,
        "style": first.style,
        "blocks_per_event": 8,
        "tokens_per_block": 16,
        "styles": styles,
        "rounds": rounds,
        "blocks_per_round": first.blocks,
    });
    Ok(Report::new(
        "decode",
        figures,
        cases.iter().map(Case::row).collect(),
    ))
}

// === impl Case ===

impl Case {
    fn new(style: &'static str, events: usize, what: &'static str) -> Result<Self> {
        let shape = Shape {
            events,
            blocks: 8,
            tokens: 16,
            capacity: usize::MAX,
            style: style.parse().map_err(|e| anyhow!("{style}: {e}"))?,
        };
        let (payloads, blocks) = Engine::new(0, shape).payloads(BLOCKS / (events * shape.blocks));
        Ok(Self {
            style,
            events,
            what,
            bytes: payloads.iter().map(|p| p.len() as u64).sum(),
            payloads,
            blocks,
            samples: Vec::new(),
        })
    }

    fn sample(&self, decoder: &mut Decoder) -> Result<f64> {
        let dictionary = Dictionary::default();
        let (mut columns, mut skipped) = (Columns::default(), Vec::new());
        let (mut blocks, mut refused, mut without) = (0, 0, 0);
        let begun = thread_time();
        for payload in &self.payloads {
            decoder.decode(payload, WANTED, &dictionary, &mut columns, &mut skipped)?;
            blocks += columns.hashes.len() as u64;
            refused += skipped.len();
            without += usize::from(columns.token_hashes.last().is_none_or(|hash| *hash == 0));
        }
        let time = thread_time().saturating_sub(begun);
        let style = self.style;
        ensure!(
            blocks == self.blocks,
            "{style}: decoded {blocks} blocks of {}",
            self.blocks
        );
        ensure!(refused == 0, "{style}: {refused} events were skipped");
        ensure!(
            without == 0,
            "{style}: {without} batches have no token hash at their end"
        );
        Ok(ns_each(time, blocks))
    }

    fn spread(&self) -> Spread {
        Spread::of(self.samples.iter().copied())
    }

    fn bytes_per_block(&self) -> f64 {
        self.bytes as f64 / self.blocks as f64
    }

    fn bytes_per_second(&self) -> f64 {
        self.bytes_per_block() * 1e9 / self.spread().median
    }

    fn row(&self) -> Row {
        Row {
            what: format!(
                "decode: {} ({:.0} MB/s)",
                self.what,
                self.bytes_per_second() / 1e6
            ),
            unit: "ns/block",
            ours: self.spread(),
            beside: None,
            ratio: None,
            expected: Some(Expected::Ours(LIMIT)),
        }
    }
}
