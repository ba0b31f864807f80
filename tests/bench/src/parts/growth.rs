//! Memory and time as the index grows: 64 engines that share some of what they hold.
//!
//! Every prompt is 32 blocks. Of 20 prompts 14 are held by one engine, three by two, two by
//! three and one by six: 1.6 on average. First all is stored; at 100,000 and at 10 million
//! pairs of a block and an engine, batches are timed that remove as much as they store.

use crate::feeder::Feeder;
use crate::measure::{ns_each, thread_time};
use crate::payloads::{Prompt, SHAPE};
use crate::peer::Peer;
use crate::report::{As, Beside, Row, Work};
use crate::sides::{Component, Plugged, Wasm};
use crate::stream::Stream;
use anyhow::{Result, ensure};
use bytes::Bytes;
use penstock_plugin::Limits;
use serde_json::Map;
use std::collections::VecDeque;
use std::time::Duration;

/// Sources.
const ENGINES: u64 = 64;
/// Pairs held, at first and in the end.
const FEW: u64 = 100_000;
const MANY: u64 = 10_000_000;
/// Of these the peer gets fewer: its payloads are all in memory at once.
const PEER: u64 = 2_000_000;
/// Batches that are timed at each size.
const TIMED: usize = 10_000;
/// From here on the worst of memory counts: just after tables have grown.
const FROM: u64 = MANY * 3 / 4;

/// Prompts and who holds them, in turn.
struct Source {
    next: u64,
    of: u64,
    held: VecDeque<(usize, Prompt)>,
}

/// Rounds in full: a round is one fill.
pub fn run(rounds: usize) -> Result<Vec<Row>> {
    let limits = Limits {
        memory_bytes: 4 << 30,
        deadline_ms: 10_000,
        ..Limits::default()
    };
    let config = Map::from_iter([("max_bytes".to_owned(), 3_000_000_000u64.into())]);
    let component = Component::with(limits, Some(&config))?;
    let (mut memory, mut few, mut many) = (Vec::new(), Vec::new(), Vec::new());
    let mut work = Work::default();
    for round in 0..rounds {
        eprintln!("growth: round {} of {rounds}", round + 1);
        let mut side = component.instance()?;
        for source in 0..ENGINES as usize {
            side.join(source)?;
        }
        let mut fed = Fed::default();
        let mut source = Source::new();
        while fed.pairs < FEW {
            fed.store(&mut side, &mut source)?;
        }
        few.push(fed.timed(&mut side, &mut source)?);
        while fed.pairs < MANY {
            fed.store(&mut side, &mut source)?;
        }
        many.push(fed.timed(&mut side, &mut source)?);
        memory.push(fed.worst);
        check(&mut side, &source)?;
        work = Work {
            blocks: fed.stored,
            removes: fed.stored - fed.pairs,
            ..Work::default()
        };
    }
    eprintln!("growth: the peer, {PEER} pairs");
    let stream = stored(PEER);
    // One of its own: memory that was used before would not grow.
    let mut peer = Peer::start()?;
    peer.load(&stream, SHAPE.tokens)?;
    let indexed = peer.index()?;
    ensure!(
        indexed.held == PEER,
        "the peer holds {} pairs",
        indexed.held
    );
    let each = indexed.memory as f64 / PEER as f64;
    Ok(vec![
        Row {
            name: "memory",
            what: "linear memory a (block, source) pair, the worst from 7.5 to 10 million".into(),
            unit: "bytes",
            ours: memory,
            beside: Some(Beside {
                name: format!("{}, 2 million pairs, resident", peer.version),
                samples: vec![each; rounds],
                as_: As::Aside,
            }),
            work: work.clone(),
            ..Row::default()
        },
        Row {
            name: "growth",
            what: "decode and apply at 10 million pairs, beside 100,000".into(),
            unit: "ns/block",
            ours: many,
            beside: Some(Beside {
                name: "100,000 pairs".into(),
                samples: few,
                as_: As::TimesAsMuch,
            }),
            work,
            ..Row::default()
        },
    ])
}

/// Every thousandth prompt is found where it is, and only there.
fn check(side: &mut Wasm, source: &Source) -> Result<()> {
    for (engine, prompt) in source.held.iter().step_by(1_000) {
        for rows in [
            side.find_tokens(prompt.tokens())?,
            side.find_hashes(prompt.hashes())?,
        ] {
            let row = rows.iter().find(|row| row[0] as usize == *engine);
            let found = row.map_or(0, |row| row[2]);
            ensure!(
                found == Prompt::BLOCKS as u32,
                "{found} blocks of a prompt found"
            );
        }
    }
    Ok(())
}

/// Payloads that store so many pairs and remove nothing.
fn stored(pairs: u64) -> Stream {
    let mut source = Source::new();
    let mut payloads = Vec::new();
    let mut held = 0;
    while held < pairs {
        let (engine, prompt) = source.next();
        payloads.push((engine, prompt.payload(None)));
        held += Prompt::BLOCKS as u64;
    }
    Stream::of_stored(payloads, ENGINES as usize, held)
}

// === impl Source ===

impl Source {
    fn new() -> Self {
        Self {
            next: 0,
            of: 0,
            held: VecDeque::new(),
        }
    }

    /// The next prompt that an engine stores.
    fn next(&mut self) -> (usize, Prompt) {
        let holders = match self.next % 20 {
            0..14 => 1,
            14..17 => 2,
            17..19 => 3,
            _ => 6,
        };
        // Neighbours in the list are not neighbours in time.
        let engine = (self.next * 7 + self.of * 11) % ENGINES;
        let prompt = Prompt(self.next);
        self.of += 1;
        if self.of == holders {
            (self.of, self.next) = (0, self.next + 1);
        }
        self.held.push_back((engine as usize, prompt));
        (engine as usize, prompt)
    }
}

// === impl Fed ===

/// What was fed so far.
#[derive(Default)]
struct Fed {
    feeder: Feeder,
    batches: u64,
    /// Pairs held.
    pairs: u64,
    stored: u64,
    /// The most bytes a pair, late enough.
    worst: f64,
}

impl Fed {
    fn store(&mut self, side: &mut Wasm, source: &mut Source) -> Result<()> {
        let (engine, prompt) = source.next();
        self.apply(side, engine, &prompt.payload(None))?;
        self.stored += Prompt::BLOCKS as u64;
        self.pairs += Prompt::BLOCKS as u64;
        if self.pairs >= FROM && self.batches.is_multiple_of(64) {
            self.worst = self.worst.max(side.memory() as f64 / self.pairs as f64);
        }
        Ok(())
    }

    fn apply(&mut self, side: &mut Wasm, engine: usize, payload: &Bytes) -> Result<()> {
        self.batches += 1;
        let batch = self
            .feeder
            .decode(side, engine, self.batches, payload, false)?;
        let refused = side.feed(std::slice::from_ref(&batch))?;
        ensure!(refused == 0, "the plugin refused {refused} events");
        Ok(())
    }

    /// Nanoseconds for each block stored, with as many removed.
    fn timed(&mut self, side: &mut Wasm, source: &mut Source) -> Result<f64> {
        let mut time = Duration::ZERO;
        // The engine whose turn it is removes the oldest of its own.
        let mut of: Vec<VecDeque<Prompt>> = vec![VecDeque::new(); ENGINES as usize];
        let old = source.held.iter().take(source.held.len().min(4 * TIMED));
        old.for_each(|(engine, prompt)| of[*engine].push_back(*prompt));
        let mut gone = Vec::new();
        let mut timed = 0;
        while timed < TIMED {
            let mut some = Vec::new();
            for _ in 0..64 {
                let (engine, prompt) = source.next();
                let oldest = of[engine].pop_front();
                gone.extend(oldest.map(|prompt| (engine, prompt)));
                self.pairs += if oldest.is_none() {
                    Prompt::BLOCKS as u64
                } else {
                    0
                };
                some.push((engine, prompt.payload(oldest)));
            }
            let begun = thread_time();
            for (engine, payload) in &some {
                self.apply(side, *engine, payload)?;
            }
            time += thread_time().saturating_sub(begun);
            timed += some.len();
        }
        self.stored += timed as u64 * Prompt::BLOCKS as u64;
        let gone: std::collections::HashSet<(usize, u64)> = gone
            .into_iter()
            .map(|(engine, prompt)| (engine, prompt.0))
            .collect();
        source
            .held
            .retain(|(engine, prompt)| !gone.contains(&(*engine, prompt.0)));
        Ok(ns_each(time, timed as u64 * Prompt::BLOCKS as u64))
    }
}
