//! Batches into `prefix-index`: as a component, and the same crate compiled into
//! this program. Decoding happens before the clock starts, on both sides.
//!
//! The caches of the engines are filled first; from then on every batch removes as
//! many blocks as it stores. A figure a block is the time over all of these, stored
//! and removed; while caches fill nothing is removed.
//!
//! The boundary alone is the same batches with event kinds that the plugin does
//! not know: every column is copied in, and nothing is done with it.

mod sides;

use crate::measure::{Spread, ns_each, thread_time};
use crate::payloads::{Conversation, Engine, Shape};
use crate::report::{Expected, Report, Row, ends, number};
use anyhow::{Result, ensure};
use bytes::Bytes;
use penstock_decode::Decoder;
use penstock_event::{Batch, EVENT_STRIDE, Epoch, Pool, SourceId};
use penstock_peer::encode::Style;
use serde_json::{Value, json};
use sides::{Component, Native, Plugged, Rows};
use std::time::Duration;

/// How much is indexed.
#[derive(Clone, Copy, Debug)]
struct Scale {
    name: &'static str,
    what: &'static str,
    /// Engines, each a source.
    engines: usize,
    /// Blocks that an engine's cache holds.
    capacity: usize,
    /// Batches an engine that are measured once its cache is full.
    steady: usize,
}

/// One engine on one large GPU; and a node of them.
const SCALES: [Scale; 2] = [
    Scale {
        name: "engine",
        what: "1 engine, 24,576 blocks",
        engines: 1,
        capacity: 24_576,
        steady: 12_000,
    },
    Scale {
        name: "node",
        what: "8 engines, 196,608 blocks",
        engines: 8,
        capacity: 24_576,
        steady: 1_500,
    },
];

const SHAPE: Shape = Shape {
    events: 4,
    blocks: 8,
    tokens: 16,
    capacity: 0,
    style: Style::MAP,
};

/// Batches decoded at a time, before the clock starts.
const CHUNK: usize = 64;

/// Expected at most: ns a block in wasm, and wasm to native.
const LIMIT: f64 = 100.0;
const RATIO_LIMIT: f64 = 1.5;

/// Nobody knows this kind of event.
const NO_KIND: u32 = 0xff;

const WASM: &str = "plugin (release, fat lto, 1 codegen unit), compiled by Cranelift";
const NATIVE: &str = "release (opt-level 3, no lto, 1 codegen unit)";

/// What all engines publish, in the order of arrival, and what they hold then.
struct Stream {
    scale: Scale,
    engines: Vec<Engine>,
    fill: Part,
    steady: Part,
    samples: [Vec<Sample>; 2],
}

#[derive(Default)]
struct Part {
    batches: Vec<(usize, u64, Bytes)>,
    /// Stored and removed.
    blocks: u64,
}

/// One round of one side.
struct Sample {
    /// ns a block, caches filling.
    fill: f64,
    /// ns a block, caches full.
    steady: f64,
    /// ns a batch that is skipped.
    boundary: f64,
    /// Blocks that all steady batches together store and remove, a batch.
    blocks: f64,
}

/// Both sides in turn, at each scale.
pub fn run(rounds: usize) -> Result<Report> {
    eprintln!("index: compiling the component, making batches");
    let wasm = Component::load()?;
    let mut streams = SCALES.map(Stream::new);
    // The first round warms caches and the allocator, and is not counted.
    for round in 0..=rounds {
        eprintln!("index: round {round} of {rounds}");
        for stream in &mut streams {
            stream.round(&wasm, round)?;
        }
    }
    let (mut figures, mut rows) = (json!({}), Vec::new());
    for stream in &streams {
        if rows.is_empty() {
            figures = stream.figures();
            rows.push(stream.boundary_row());
        } else {
            figures[stream.scale.name] = stream.figures();
        }
        rows.extend(stream.rows());
    }
    for (key, value) in [
        ("expected_wasm_ns_per_block", json!(LIMIT)),
        ("expected_ratio", json!(RATIO_LIMIT)),
        (
            "batch",
            json!("4 x 8 blocks of 16 tokens stored, 32 blocks removed"),
        ),
        ("wasm_build", json!(WASM)),
        ("native_build", json!(NATIVE)),
        ("rounds", json!(rounds)),
    ] {
        figures[key] = value;
    }
    Ok(Report::new("index", figures, rows))
}

// === impl Stream ===

impl Stream {
    fn new(scale: Scale) -> Self {
        let shape = Shape {
            capacity: scale.capacity,
            ..SHAPE
        };
        let mut engines: Vec<Engine> = (0..scale.engines).map(|n| Engine::new(n, shape)).collect();
        // Some more than a cache takes: their first blocks are shared, and stay.
        let fill = scale.capacity / (SHAPE.events * SHAPE.blocks);
        let filling = Part::new(&mut engines, 0, fill);
        let steady = Part::new(&mut engines, fill, scale.steady);
        Self {
            scale,
            engines,
            fill: filling,
            steady,
            samples: [Vec::new(), Vec::new()],
        }
    }

    fn held(&self) -> usize {
        self.engines.iter().map(Engine::held).sum()
    }

    /// Feeds both sides everything, asks both about everything.
    fn round(&mut self, component: &Component, round: usize) -> Result<()> {
        let mut wasm = component.instance()?;
        let mut native = Native::new(self.scale.engines)?;
        // Who goes first takes turns too.
        let ((ours, answers), (theirs, expected)) = if round.is_multiple_of(2) {
            let ours = self.sample(&mut wasm)?;
            (ours, self.sample(&mut native)?)
        } else {
            let theirs = self.sample(&mut native)?;
            (self.sample(&mut wasm)?, theirs)
        };
        self.check(&answers, &expected, native.blocks())?;
        if round > 0 {
            let [wasm, native] = &mut self.samples;
            wasm.push(ours);
            native.push(theirs);
        }
        Ok(())
    }

    fn sample(&self, side: &mut impl Plugged) -> Result<(Sample, Vec<Rows>)> {
        for source in 0..self.scale.engines {
            side.join(source)?;
        }
        let mut feeder = Feeder::default();
        let fill = feeder.feed(&self.fill, side, false)?;
        let steady = feeder.feed(&self.steady, side, false)?;
        let skipped = feeder.feed(&self.steady, side, true)?;
        let batches = self.steady.batches.len() as u64;
        let sample = Sample {
            fill: ns_each(fill, self.fill.blocks),
            steady: ns_each(steady, self.steady.blocks),
            boundary: ns_each(skipped, batches),
            blocks: self.steady.blocks as f64 / batches as f64,
        };
        Ok((sample, self.ask(side)?))
    }

    /// Wasm, native, and wasm to native.
    fn spreads(&self, of: fn(&Sample) -> f64) -> [Spread; 3] {
        let [wasm, native] = &self.samples;
        let ratio = wasm.iter().zip(native).map(|(a, b)| of(a) / of(b));
        [
            Spread::of(wasm.iter().map(of)),
            Spread::of(native.iter().map(of)),
            Spread::of(ratio),
        ]
    }

    fn figures(&self) -> Value {
        let [wasm, native, ratio] = self.spreads(|s| s.steady);
        let [filling, native_filling, filling_ratio] = self.spreads(|s| s.fill);
        let [boundary, ..] = self.spreads(|s| s.boundary);
        let [boundary_a_block, ..] = self.spreads(|s| s.boundary / s.blocks);
        json!({
            "boundary_ns_per_block": number(boundary_a_block.median),
            "boundary_ns_per_batch": number(boundary.median),
            "boundary_ns_per_batch_range": ends(boundary),
            "wasm_ns_per_block": number(wasm.median),
            "wasm_ns_per_block_range": ends(wasm),
            "native_ns_per_block": number(native.median),
            "native_ns_per_block_range": ends(native),
            "ratio": number(ratio.median),
            "ratio_range": ends(ratio),
            "filling": {
                "wasm_ns_per_block": number(filling.median),
                "native_ns_per_block": number(native_filling.median),
                "ratio": number(filling_ratio.median),
            },
            "engines": self.scale.engines,
            "blocks_held": self.held(),
            "blocks_per_round": self.steady.blocks,
        })
    }

    fn boundary_row(&self) -> Row {
        let [wasm, native, _] = self.spreads(|s| s.boundary);
        Row {
            what: "boundary: a batch of 4 x 8 blocks stored, 32 removed, copied in and skipped"
                .into(),
            unit: "ns/batch",
            ours: wasm,
            beside: Some(("native", native)),
            ratio: None,
            expected: None,
        }
    }

    fn rows(&self) -> Vec<Row> {
        let row = |what: String, of, expected| {
            let [wasm, native, ratio] = self.spreads(of);
            Row {
                what,
                unit: "ns/block",
                ours: wasm,
                beside: Some(("native", native)),
                ratio: Some(ratio),
                expected,
            }
        };
        let what = self.scale.what;
        let steady = |s: &Sample| s.steady;
        vec![
            row(
                format!("index: {what}, full"),
                steady,
                Some(Expected::Ours(LIMIT)),
            ),
            row(
                "        the same, wasm to native".into(),
                steady,
                Some(Expected::Ratio(RATIO_LIMIT)),
            ),
            row(format!("index: {what}, filling"), |s| s.fill, None),
        ]
    }

    fn conversations(&self) -> impl Iterator<Item = (usize, &Conversation)> {
        let engines = self.engines.iter().enumerate();
        engines.flat_map(|(n, engine)| engine.conversations().map(move |c| (n, c)))
    }

    /// Every conversation by its tokens, then by its engine hashes.
    fn ask(&self, side: &mut impl Plugged) -> Result<Vec<Rows>> {
        let mut answers = Vec::new();
        for (_, conversation) in self.conversations() {
            answers.push(side.find_tokens(conversation.tokens(SHAPE))?);
            answers.push(side.find_hashes(conversation.hashes())?);
        }
        Ok(answers)
    }

    /// Both sides answer alike, and what the engines hold.
    fn check(&self, wasm: &[Rows], native: &[Rows], blocks: u64) -> Result<()> {
        ensure!(
            blocks == self.held() as u64,
            "the native index holds {blocks} blocks, the engines {}",
            self.held()
        );
        ensure!(wasm == native, "wasm and native answer lookups differently");
        let mut answers = wasm.iter();
        for (source, conversation) in self.conversations() {
            for by in ["tokens", "engine hashes"] {
                let rows = answers.next().map_or(&[][..], Vec::as_slice);
                let row = rows.iter().find(|row| row[0] == source as u32);
                let found = row.map_or(0, |row| row[2]);
                ensure!(
                    found == conversation.answer(),
                    "by {by}: {found} blocks found, engine {source} holds {}",
                    conversation.answer()
                );
            }
        }
        Ok(())
    }
}

// === impl Part ===

impl Part {
    fn new(engines: &mut [Engine], from: usize, many: usize) -> Self {
        let mut part = Self::default();
        let mut payloads = Vec::new();
        for engine in engines.iter_mut() {
            let before = engine.held() as u64;
            let (of_engine, stored) = engine.payloads(many);
            part.blocks += stored + (before + stored - engine.held() as u64);
            payloads.push(of_engine.into_iter());
        }
        for n in from..from + many {
            for (source, payload) in payloads.iter_mut().enumerate() {
                part.batches
                    .extend(payload.next().map(|p| (source, n as u64, p)));
            }
        }
        part
    }
}

/// Decodes and feeds, a chunk at a time.
struct Feeder {
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
    /// The time that the side took, decoding left out.
    fn feed(&mut self, part: &Part, side: &mut impl Plugged, skip: bool) -> Result<Duration> {
        let mut time = Duration::ZERO;
        for chunk in part.batches.chunks(CHUNK) {
            let batches: Vec<Batch> = chunk
                .iter()
                .map(|(source, sequence, payload)| {
                    self.decode(side, *source, *sequence, payload, skip)
                })
                .collect::<Result<_>>()?;
            side.stage(&batches);
            let begun = thread_time();
            let refused = side.feed(&batches)?;
            time += thread_time().saturating_sub(begun);
            ensure!(refused == 0, "the plugin refused {refused} events");
        }
        Ok(time)
    }

    fn decode(
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
        let wanted = crate::decode::WANTED;
        let head = self
            .decoder
            .decode(payload, wanted, names, &mut columns, &mut skipped)?;
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
