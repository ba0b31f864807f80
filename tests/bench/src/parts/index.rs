//! Payloads into an index, all of it applied: ours is decoded natively and indexed in wasm;
//! beside it Dynamo's decoder, normalizer and default indexer. One core each, CPU time.

use crate::feeder::Feeder;
use crate::measure::{ns_each, thread_time, warmed};
use crate::peer::Peer;
use crate::report::{Beside, Row};
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
        eprintln!("{name}: {rounds} rounds");
        let (mut ours_void, mut theirs_void) = (None, None);
        let (ours, theirs) = warmed(
            rounds,
            || {
                let mut side = component.instance()?;
                let ns = sample(&stream, &mut side)?;
                ours_void = ours_void.take().or(check(&stream, &mut side)?);
                Ok(ns)
            },
            || {
                let indexed = peer.index()?;
                let found = [indexed.stored, indexed.removed, indexed.held];
                let expected = [stream.work.blocks, stream.work.removes, stream.held];
                let void = match found == expected {
                    true => check_peer(&stream, peer)?,
                    false => Some(format!(
                        "the peer stored, removed and holds {found:?}, not {expected:?}"
                    )),
                };
                theirs_void = theirs_void.take().or(void);
                Ok((indexed.fill_ns + indexed.ns) as f64 / stream.work.blocks as f64)
            },
        )?;
        rows.push(Row {
            name,
            what: format!("decode and index: {what}"),
            unit: "ns/block",
            ours,
            beside: Some(Beside::times_faster(&peer.version, theirs)),
            work: stream.work,
            void: ours_void.or(theirs_void),
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
