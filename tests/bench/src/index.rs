//! Batches into `prefix-index`: as a component, and the same crate compiled into
//! this program. Decoding happens before the clock starts, on both sides.
//!
//! The caches of four engines are filled first; from then on every batch removes
//! as much as it stores. A figure a block is the time over the blocks stored, so
//! that it holds the later removal of one block as well.
//!
//! The boundary alone is the same batches with event kinds that the plugin does
//! not know: every column is copied in, and nothing is done with it.

mod sides;

use crate::measure::{Spread, ns_each};
use crate::payloads::{Conversation, Engine, Shape};
use crate::report::{PROFILE, Row, Side};
use anyhow::{Result, ensure};
use bytes::Bytes;
use penstock_decode::Decoder;
use penstock_event::{Batch, EVENT_STRIDE, Epoch, Pool, SourceId};
use sides::{Native, Plugged, Rows, Wasm};
use std::time::{Duration, Instant};

/// Engines, each a source.
const ENGINES: usize = 4;

/// Their batches; a cache of a million tokens.
const SHAPE: Shape = Shape {
    events: 4,
    blocks: 8,
    tokens: 16,
    capacity: 65_536,
};

/// Batches an engine that fill its cache: 2,045 would do.
const FILL: usize = 2_100;

/// Batches an engine that are measured after that.
const STEADY: usize = 4_096;

/// Batches decoded at a time, before the clock starts.
const CHUNK: usize = 64;

/// Expected at most: ns a block in wasm, and wasm to native.
const LIMIT: f64 = 100.0;
const RATIO_LIMIT: f64 = 1.5;

/// Nobody knows this kind of event.
const NO_KIND: u32 = 0xff;

/// What all engines publish, in the order of arrival, and what they hold then.
struct Stream {
    engines: Vec<Engine>,
    fill: Part,
    steady: Part,
}

#[derive(Default)]
struct Part {
    batches: Vec<(usize, u64, Bytes)>,
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
    /// Answers to all lookups.
    answers: Vec<Rows>,
}

/// Rows for the boundary, the full index and the index that fills.
pub fn run(rounds: usize) -> Result<Vec<Row>> {
    eprintln!("index: compiling the component, making batches");
    let wasm = sides::Component::load()?;
    let stream = Stream::new();
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    // The first round warms caches and the allocator, and is not counted.
    for round in 0..=rounds {
        eprintln!("index: round {round} of {rounds}");
        let (mut a, mut b) = (wasm.instance()?, Native::new()?);
        // Who goes first takes turns too.
        let (sample, native) = if round % 2 == 0 {
            let sample = stream.sample(&mut a)?;
            (sample, stream.sample(&mut b)?)
        } else {
            let native = stream.sample(&mut b)?;
            (stream.sample(&mut a)?, native)
        };
        stream.check(&sample.answers, &native.answers, b.blocks())?;
        if round > 0 {
            ours.push(sample);
            peers.push(native);
        }
    }
    let row = |name: &str, what: &str, unit, of: fn(&Sample) -> f64| Row {
        name: name.into(),
        what: what.into(),
        unit,
        ours: Side::new("wasm component", Spread::of(ours.iter().map(of))),
        peer: Some(Side::new(
            "the same crate, native",
            Spread::of(peers.iter().map(of)),
        )),
        limit: None,
        limit_on: "ours",
        ratio: Spread::of(ours.iter().zip(&peers).map(|(a, b)| of(a) / of(b))),
        samples: ours.len(),
        blocks: stream.steady.blocks,
        profile: format!(
            "wasm: plugin (release + fat lto, 1 codegen unit), then Cranelift; native: {PROFILE} \
             (opt-level 3, no lto, 1 codegen unit for the index and its kit)"
        ),
        more: [
            ("engines".into(), ENGINES as f64),
            ("blocks_held".into(), stream.held() as f64),
        ]
        .into(),
    };
    let blocks_a_batch = (SHAPE.events * SHAPE.blocks) as f64;
    let mut boundary = row(
        "boundary",
        "a batch of 4 x 8 blocks copied in whole, and skipped",
        "ns/batch",
        |s| s.boundary,
    );
    let median = boundary.ours.spread.median;
    boundary
        .more
        .insert("ns_per_block".into(), median / blocks_a_batch);
    let mut full = row(
        "index",
        "batches of 4 x 8 blocks into a full index; each stores 32 blocks and removes 32",
        "ns/block",
        |s| s.steady,
    );
    let steady = full.ours.spread.median;
    full.limit = Some(LIMIT);
    full.more
        .insert("ns_per_block_stored_or_removed".into(), steady / 2.0);
    full.more
        .insert("boundary_ns_per_block".into(), median / blocks_a_batch);
    let mut ratio = full.clone();
    ratio.name = "index/ratio".into();
    (ratio.limit, ratio.limit_on) = (Some(RATIO_LIMIT), "ratio");
    let mut fill = row(
        "index/filling",
        "the same into an index that grows; nothing is removed",
        "ns/block",
        |s| s.fill,
    );
    fill.blocks = stream.fill.blocks;
    Ok(vec![boundary, full, ratio, fill])
}

// === impl Stream ===

impl Stream {
    fn new() -> Self {
        let mut engines: Vec<Engine> = (0..ENGINES).map(|n| Engine::new(n, SHAPE)).collect();
        let fill = Part::new(&mut engines, 0, FILL);
        let steady = Part::new(&mut engines, FILL, STEADY);
        Self {
            engines,
            fill,
            steady,
        }
    }

    fn held(&self) -> usize {
        self.engines.iter().map(Engine::held).sum()
    }

    /// Feeds one side everything, then asks about everything.
    fn sample(&self, side: &mut impl Plugged) -> Result<Sample> {
        for source in 0..ENGINES {
            side.join(source)?;
        }
        let mut feeder = Feeder::default();
        let fill = feeder.feed(&self.fill, side, false)?;
        let steady = feeder.feed(&self.steady, side, false)?;
        let skipped = feeder.feed(&self.steady, side, true)?;
        Ok(Sample {
            fill: ns_each(fill, self.fill.blocks),
            steady: ns_each(steady, self.steady.blocks),
            boundary: ns_each(skipped, self.steady.batches.len() as u64),
            answers: self.ask(side)?,
        })
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
            let (of_engine, blocks) = engine.payloads(many);
            part.blocks += blocks;
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
            let begun = Instant::now();
            let refused = side.feed(&batches)?;
            time += begun.elapsed();
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
            skipped,
        })
    }
}
