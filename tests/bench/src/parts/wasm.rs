//! Batches into `prefix-index`: as a component, and the same crate compiled into
//! this program. Decoding happens before the clock starts, on both sides.
//!
//! The caches of the engines are filled first; from then on every batch removes as
//! many blocks as it stores. A figure a block is the time over all of these, stored
//! and removed; while caches fill nothing is removed.
//!
//! The boundary alone is the same batches with event kinds that the plugin does
//! not know: every column is copied in, and nothing is done with it.

use crate::feeder::{CHUNK, Feeder};
use crate::measure::{ns_each, thread_time};
use crate::payloads::{Conversation, Engine, Shape};
use crate::report::{As, Beside, Row, Work};
use crate::sides::{Component, Native, Plugged, Rows};
use anyhow::{Result, ensure};
use bytes::Bytes;
use penstock_event::Batch;
use penstock_peer::encode::Style;
use std::time::Duration;

/// How much is indexed.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Rows: wasm to native, caches full; the same while they fill; the boundary alone.
    names: [&'static str; 3],
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
        names: ["wasm-engine", "wasm-engine-filling", "boundary"],
        what: "1 engine, 24,576 blocks",
        engines: 1,
        capacity: 24_576,
        steady: 12_000,
    },
    Scale {
        names: ["wasm-node", "wasm-node-filling", "boundary-node"],
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
}

/// Both sides in turn, at each scale.
pub fn run(rounds: usize) -> Result<Vec<Row>> {
    eprintln!("wasm: compiling the component, making batches");
    let wasm = Component::load()?;
    let mut streams = SCALES.map(Stream::new);
    // The first round warms caches and the allocator, and is not counted.
    for round in 0..=rounds {
        eprintln!("wasm: round {round} of {rounds}");
        for stream in &mut streams {
            stream.round(&wasm, round)?;
        }
    }
    Ok(streams.iter().flat_map(Stream::rows).collect())
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
        let fill = feed(&mut feeder, &self.fill, side, false)?;
        let steady = feed(&mut feeder, &self.steady, side, false)?;
        let skipped = feed(&mut feeder, &self.steady, side, true)?;
        let batches = self.steady.batches.len() as u64;
        let sample = Sample {
            fill: ns_each(fill, self.fill.blocks),
            steady: ns_each(steady, self.steady.blocks),
            boundary: ns_each(skipped, batches),
        };
        Ok((sample, self.ask(side)?))
    }

    fn rows(&self) -> Vec<Row> {
        let [wasm, native] = &self.samples;
        let row = |name, what: String, unit, of: fn(&Sample) -> f64, stored| Row {
            name,
            what,
            unit,
            ours: wasm.iter().map(of).collect(),
            beside: Some(Beside {
                name: "native".into(),
                samples: native.iter().map(of).collect(),
                as_: As::TimesAsMuch,
            }),
            work: Work {
                blocks: stored,
                removes: self.fill.blocks + self.steady.blocks - stored,
                ..Work::default()
            },
            ..Row::default()
        };
        let (names, what) = (self.scale.names, self.scale.what);
        let all = self.fill.blocks + self.steady.blocks;
        let stored = (all + self.held() as u64) / 2;
        let steady = format!("index in wasm: {what}, full, stored and removed");
        let fill = format!("index in wasm: {what}, filling");
        let boundary = "a batch of 4 x 8 blocks stored, 32 removed: copied in and skipped";
        vec![
            row(names[0], steady, "ns/block", |s| s.steady, stored),
            row(names[1], fill, "ns/block", |s| s.fill, stored),
            row(
                names[2],
                boundary.into(),
                "ns/batch",
                |s| s.boundary,
                stored,
            ),
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

/// The time that a side took, decoding left out.
fn feed(feeder: &mut Feeder, part: &Part, side: &mut impl Plugged, skip: bool) -> Result<Duration> {
    let mut time = Duration::ZERO;
    for chunk in part.batches.chunks(CHUNK) {
        let batches: Vec<Batch> = chunk
            .iter()
            .map(|(source, sequence, payload)| {
                feeder.decode(side, *source, *sequence, payload, skip)
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
