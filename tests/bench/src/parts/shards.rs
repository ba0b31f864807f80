//! Two shards on two cores against one: the same batches, decoded before, dealt by source.

use crate::feeder::Feeder;
use crate::measure::warmed;
use crate::report::{Beside, Row};
use crate::sides::{Component, Plugged, Wasm};
use crate::stream::Stream;
use anyhow::{Context, Result, anyhow};
use penstock_event::Batch;
use std::time::Instant;

/// Sources, and batches of each once caches are full.
const ENGINES: usize = 8;
const STEADY: usize = 1_500;

/// One and two, in turn.
pub fn run(rounds: usize) -> Result<Vec<Row>> {
    let component = Component::load()?;
    let stream = Stream::uniform(ENGINES, 24_576, STEADY);
    eprintln!("shards: {rounds} rounds");
    let shards = |n| sample(&component, &stream, n);
    let (two, one) = warmed(rounds, || shards(2), || shards(1))?;
    Ok(vec![Row {
        name: "shards",
        what: "two shards on two cores, each half of the sources; beside one".into(),
        unit: "ms",
        ours: two,
        beside: Some(Beside::times_faster("one", one)),
        work: stream.work,
        ..Row::default()
    }])
}

/// Milliseconds until all of them have applied what is theirs.
fn sample(component: &Component, stream: &Stream, shards: usize) -> Result<f64> {
    let mut feeder = Feeder::default();
    let mut sides: Vec<(Wasm, Vec<Batch>)> = Vec::new();
    for _ in 0..shards {
        let mut side = component.instance()?;
        for source in 0..ENGINES {
            side.join(source)?;
        }
        sides.push((side, Vec::new()));
    }
    for (at, (source, payload)) in stream.payloads.iter().enumerate() {
        let (side, batches) = &mut sides[source % shards];
        batches.push(feeder.decode(side, *source, at as u64, payload, false)?);
    }
    let begun = Instant::now();
    let fed: Result<Vec<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = sides
            .iter_mut()
            .map(|(side, batches)| scope.spawn(move || side.feed(batches).map(drop)))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            let ended = thread.join().map_err(|_| anyhow!("a shard panicked"))?;
            ended.context("a shard")
        });
        joined.collect()
    });
    fed?;
    let time = begun.elapsed().as_secs_f64() * 1_000.0;
    check(stream, &mut sides, shards)?;
    Ok(time)
}

/// Each shard holds what its sources hold.
fn check(stream: &Stream, sides: &mut [(Wasm, Vec<Batch>)], shards: usize) -> Result<()> {
    for probe in &stream.probes {
        for (engine, held) in &probe.held {
            let rows = sides[engine % shards].0.find_tokens(probe.tokens.clone())?;
            let row = rows.iter().find(|row| row[0] as usize == *engine);
            let found = row.map_or(0, |row| row[2]);
            anyhow::ensure!(found == *held, "{found} blocks found, {held} are held");
        }
    }
    Ok(())
}
