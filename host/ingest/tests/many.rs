//! Many sources on few threads.

mod support;

use penstock_ingest::IngestConfig;
use support::*;

#[test]
fn sixty_four_sources_on_two_threads() {
    let bench = bench(IngestConfig {
        threads: 2,
        sources_per_context: 20,
        ..quick()
    });
    let mut engines = Vec::new();
    let context = zmq::Context::new();
    for n in 0..64u64 {
        let (live, replay) = (bench.ipc(&format!("l{n}")), bench.ipc(&format!("r{n}")));
        let mut engine = engine_at(&live).replay(&replay, Framing::New);
        engine.context = context.clone();
        let mut engine = engine.start(n);
        engine.publish(5);
        let mut spec = spec(&format!("e{n}"), &live);
        spec.replay = Some(replay);
        engines.push((engine, bench.ingest.add(spec).unwrap()));
    }
    for (engine, _) in &mut engines {
        engine.wait_subscribers(1);
        engine.publish(10);
        engine.lose(2);
        engine.publish(5);
    }
    for (engine, state) in &engines {
        let seen = bench.seen.wait_batch(state.info.id, 0, 21);
        assert_eq!(seen, joined_and(batches(0, engine.life, 0..22)));
    }
    assert_eq!(bench.ingest.sources().len(), 64);
}

#[test]
fn a_flood_does_not_drown_a_quiet_source() {
    const FLOOD: u64 = 20_000;
    let bench = bench(IngestConfig {
        threads: 1,
        turn: 16,
        ..quick()
    });
    let (loud, quiet) = (bench.ipc("loud"), bench.ipc("quiet"));
    let mut loud_engine = engine_at(&loud).start(1);
    let mut quiet_engine = engine_at(&quiet).start(2);
    let loud = bench.ingest.add(spec("loud", &loud)).unwrap();
    let quiet = bench.ingest.add(spec("quiet", &quiet)).unwrap();
    loud_engine.wait_subscribers(1);
    quiet_engine.wait_subscribers(1);
    quiet_engine.publish(1);
    bench.seen.wait_batch(quiet.info.id, 0, 0);

    let hold = bench.seen.hold.lock().unwrap();
    loud_engine.publish(FLOOD);
    quiet_engine.publish(1);
    drop(hold);
    bench.seen.wait_batch(loud.info.id, 0, FLOOD - 1);
    let all = bench.seen.all();
    let at = all
        .iter()
        .position(|(id, seen)| *id == quiet.info.id && matches!(seen, Seen::Batch(0, 1, _)));
    let at = at.expect("the quiet source was heard during the flood");
    assert!(at < all.len() * 3 / 4, "heard at {at} of {}", all.len());
}
