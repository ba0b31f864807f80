//! Payloads into an index, all of it applied: ours is decoded natively and indexed in wasm;
//! beside it Dynamo's decoder, normalizer and default indexer. One core each, CPU time.

use crate::feeder::Feeder;
use crate::measure::{ns_each, thread_time};
use crate::peer::Peer;
use crate::report::{As, Beside, Row};
use crate::sides::{Component, Plugged, Wasm};
use crate::stream::Stream;
use anyhow::Result;

/// Row, what it is, and the payloads.
type Case = (&'static str, &'static str, Stream);

/// Both sides in turn, round by round.
pub fn run(rounds: usize, peer: &mut Peer) -> Result<Vec<Row>> {
    let component = Component::load()?;
    let cases: [Case; 2] = [
        (
            "index-uniform",
            "8 engines of 24,576 blocks, 4 x 8 blocks a batch",
            Stream::uniform(8, 24_576, 1_500),
        ),
        (
            "index-mooncake",
            "2 engines on the Mooncake trace",
            Stream::mooncake()?,
        ),
    ];
    let mut rows = Vec::new();
    for (name, what, stream) in cases {
        peer.load(&stream, 16)?;
        let (mut ours, mut theirs, mut void) = (Vec::new(), Vec::new(), None);
        for round in 0..=rounds {
            eprintln!("{name}: round {round} of {rounds}");
            let (mut one, mut other) = (0.0, 0.0);
            for first in [round % 2 == 0, round % 2 == 1] {
                match first {
                    true => {
                        let mut side = component.instance()?;
                        one = sample(&stream, &mut side)?;
                        void = void.or(check(&stream, &mut side)?);
                    }
                    false => {
                        let indexed = peer.index()?;
                        let all = indexed.fill_ns + indexed.ns;
                        other = all as f64 / stream.work.blocks as f64;
                        let found = [indexed.stored, indexed.removed, indexed.held];
                        let expected = [stream.work.blocks, stream.work.removes, stream.held];
                        if found != expected {
                            void.get_or_insert(format!(
                                "the peer stored, removed and holds {found:?}, not {expected:?}"
                            ));
                        }
                        void = void.or(check_peer(&stream, peer)?);
                    }
                }
            }
            // The first round warms memory.
            if round > 0 {
                ours.push(one);
                theirs.push(other);
            }
        }
        rows.push(Row {
            name,
            what: format!("decode and index: {what}"),
            unit: "ns/block",
            ours,
            beside: Some(Beside {
                name: peer.version.clone(),
                samples: theirs,
                as_: As::TimesFaster,
            }),
            work: stream.work,
            void,
            ..Row::default()
        });
    }
    Ok(rows)
}

fn sample(stream: &Stream, side: &mut Wasm) -> Result<f64> {
    for source in 0..stream.engines {
        side.join(source)?;
    }
    let mut feeder = Feeder::default();
    let begun = thread_time();
    for (at, (source, payload)) in stream.payloads.iter().enumerate() {
        let batch = feeder.decode(side, *source, at as u64, payload, false)?;
        side.feed(std::slice::from_ref(&batch))?;
    }
    let time = thread_time().saturating_sub(begun);
    Ok(ns_each(time, stream.work.blocks))
}

/// What is wrong with our answers.
fn check(stream: &Stream, side: &mut Wasm) -> Result<Option<String>> {
    for (at, probe) in stream.probes.iter().enumerate() {
        let rows = side.find_tokens(probe.tokens.clone())?;
        for (engine, held) in &probe.held {
            let row = rows.iter().find(|row| row[0] == *engine as u32);
            let found = row.map_or(0, |row| row[2]);
            if found != *held {
                return Ok(Some(format!("prompt {at}: {found} blocks, not {held}")));
            }
        }
    }
    Ok(None)
}

/// What is wrong with the peer's.
fn check_peer(stream: &Stream, peer: &mut Peer) -> Result<Option<String>> {
    let prompts: Vec<Vec<u32>> = stream.probes.iter().map(|p| p.tokens.clone()).collect();
    let found = peer.find(&prompts)?;
    for (at, (probe, scores)) in stream.probes.iter().zip(&found.scores).enumerate() {
        for (engine, held) in &probe.held {
            let score = scores.iter().find(|(source, _)| *source == *engine as u64);
            let found = score.map_or(0, |(_, blocks)| *blocks);
            if found != *held {
                let why = format!("prompt {at}: {found} blocks at the peer, not {held}");
                return Ok(Some(why));
            }
        }
    }
    Ok(None)
}
