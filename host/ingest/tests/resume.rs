//! A daemon that comes back with a checkpoint, and the engine it finds.

mod support;

use penstock_event::{Beginning, Epoch, GapReason, Link, Mode, SourceSpec, SourceState};
use penstock_ingest::{IngestConfig, Resume, Sources};
use std::sync::Arc;
use std::time::Duration;
use support::*;

/// Where the next daemon has it: five restarts were seen before.
const EPOCH: u32 = 5;

/// What a checkpoint of this source holds now, as if the daemon were older than it is.
fn checkpoint(state: &SourceState) -> Resume {
    let mut mark = state.mark().expect("a batch came");
    mark.position.epoch = Epoch(EPOCH);
    Resume::of(state, mark, state.complete())
}

/// Follows the engine up to its last batch, and is killed.
fn followed(engine: &Engine, spec: &SourceSpec) -> Resume {
    let bench = bench(quick());
    let state = bench.ingest.add(spec.clone()).expect("added");
    let last = engine.published() - 1;
    bench.seen.wait_batch(state.info.id, 0, last);
    until("the mark is set", || {
        state.mark().is_some_and(|m| m.position.sequence == last)
    });
    let hash = payload(hash(engine.life, last));
    let at = checkpoint(&state);
    assert_eq!(at.mark.digest, penstock_event::digest(&hash));
    at
}

fn resumed(at: Resume, spec: SourceSpec) -> (Bench, Arc<SourceState>) {
    let sources = Sources::new();
    sources.resume_from([at]);
    let bench = bench_of(
        IngestConfig {
            replay_wait: Duration::from_millis(500),
            ..quick()
        },
        sources,
    );
    let state = bench.ingest.add(spec).expect("added");
    (bench, state)
}

/// An engine and a spec that leads to it.
fn engine_in(dir: &Bench, life: u64, keep: usize) -> (Engine, SourceSpec) {
    let (live, replay) = (dir.ipc("live"), dir.ipc("replay"));
    let mut engine = engine_at(&live).replay(&replay, Framing::New);
    engine.keep = keep;
    let mut spec = spec("a", &live);
    spec.rank = Some(1);
    spec.replay = Some(replay);
    (engine.start(life), spec)
}

#[test]
fn the_same_engine_goes_on_behind_the_checkpoint() {
    let dir = bench(quick());
    let (mut engine, spec) = engine_in(&dir, 1, 100);
    engine.publish(10);
    let at = followed(&engine, &spec);
    assert_eq!(at.source.name, "a/dp1");
    engine.publish(5);
    let (bench, state) = resumed(at.clone(), spec);
    let beginning = Beginning {
        lineage: at.lineage,
        epoch: Epoch(EPOCH),
        resumed: Some(9),
    };
    assert_eq!(state.beginning(), beginning, "known at once");
    assert!(at.fits(&state));
    assert_eq!(state.mark(), Some(at.mark));
    let mut seen = bench.seen.wait_batch(state.info.id, EPOCH, 14);
    let mut all = vec![Seen::Joined, Seen::Proven];
    all.extend(batches(EPOCH, 1, 10..15));
    assert_eq!(seen, all, "what is missing, and nothing twice");
    engine.publish(3);
    seen = bench.seen.wait_batch(state.info.id, EPOCH, 17);
    assert_eq!(seen[7..], batches(EPOCH, 1, 15..18));
    assert!(state.complete() && state.incidents().is_empty());
}

#[test]
fn an_idle_engine_is_known_again_though_nothing_follows() {
    let dir = bench(quick());
    let (mut engine, spec) = engine_in(&dir, 1, 100);
    engine.publish(10);
    let mut at = followed(&engine, &spec);
    at.complete = false;
    let (bench, state) = resumed(at, spec);
    bench.seen.wait(state.info.id, "proven", |seen| {
        seen == [Seen::Joined, Seen::Proven]
    });
    assert!(!state.complete(), "its gaps are not forgotten");
}

#[test]
fn what_cannot_be_shown_is_a_restart() {
    struct Case {
        name: &'static str,
        /// The engine that is found, and what it publishes before and after.
        life: u64,
        keep: usize,
        publishes: u64,
        replay: bool,
        answers: bool,
        reason: &'static str,
        /// First batch of the new epoch; what is before it is a gap.
        first: u64,
    }
    let case = |name, reason| Case {
        name,
        reason,
        life: 2,
        keep: 100,
        publishes: 20,
        replay: true,
        answers: true,
        first: 0,
    };
    for case in [
        case("it restarted and is past the batch", "content_differs"),
        Case {
            publishes: 5,
            ..case("it restarted and is before the batch", "unproven")
        },
        Case {
            life: 1,
            keep: 8,
            first: 12,
            ..case("it no longer has the batch", "unproven")
        },
        Case {
            life: 1,
            replay: false,
            first: 20,
            ..case("no replay endpoint", "unproven")
        },
        Case {
            life: 1,
            answers: false,
            first: 20,
            ..case("replay does not answer", "unproven")
        },
    ] {
        let dir = bench(quick());
        let (mut engine, mut spec) = engine_in(&dir, 1, 100);
        engine.publish(10);
        let at = followed(&engine, &spec);
        drop(engine);
        let (mut engine, _) = engine_in(&dir, case.life, case.keep);
        engine.publish(case.publishes);
        engine.flush();
        if !case.replay {
            spec.replay = None;
        }
        if !case.answers {
            spec.replay = Some(dir.ipc("nobody"));
        }
        let (bench, state) = resumed(at, spec);
        engine.wait_subscribers(1);
        bench.seen.wait(state.info.id, "reset", |seen| {
            seen.contains(&Seen::Reset(EPOCH + 1))
        });
        if case.replay && case.answers {
            // What is published later may push out what is asked for now.
            let last = case.publishes - 1;
            bench.seen.wait_batch(state.info.id, EPOCH + 1, last);
        }
        engine.publish(2);
        let last = case.publishes + 1;
        let seen = bench.seen.wait_batch(state.info.id, EPOCH + 1, last);
        assert_eq!(state.incidents()[0].reason, case.reason, "{}", case.name);
        let mut all = vec![Seen::Joined, Seen::Reset(EPOCH + 1)];
        if let Some(missing) = case.first.checked_sub(1) {
            let why = match seen.get(2) {
                Some(Seen::Gap(.., why)) => *why,
                other => panic!("{}: {other:?}", case.name),
            };
            let expected = match (case.replay, case.answers) {
                (false, _) => GapReason::NoReplay,
                (_, false) => GapReason::ReplayTimeout,
                _ => GapReason::Truncated,
            };
            assert_eq!(why, expected, "{}", case.name);
            all.push(Seen::Gap(EPOCH + 1, 0, missing, why));
        }
        all.extend(batches(EPOCH + 1, case.life, case.first..last + 1));
        assert_eq!(seen, all, "{}", case.name);
        assert_eq!(state.beginning().resumed, Some(9), "it said where it began");
    }
}

#[test]
fn an_engine_that_comes_later_is_checked_then() {
    let dir = bench(quick());
    let (mut engine, spec) = engine_in(&dir, 1, 100);
    engine.publish(10);
    let at = followed(&engine, &spec);
    drop(engine);
    let (bench, state) = resumed(at, spec);
    until("it counts as disconnected", || state.link() == Link::Down);
    let (mut engine, _) = engine_in(&dir, 2, 100);
    engine.publish(11);
    let seen = bench.seen.wait_batch(state.info.id, EPOCH + 1, 10);
    assert_eq!(seen[1], Seen::Reset(EPOCH + 1));
    assert_eq!(seen[2..], batches(EPOCH + 1, 2, 0..11));
}

#[test]
fn an_engine_that_never_comes_is_left() {
    let dir = bench(quick());
    let (mut engine, spec) = engine_in(&dir, 1, 100);
    engine.publish(10);
    let at = followed(&engine, &spec);
    drop(engine);
    let sources = Sources::new();
    sources.resume_from([at]);
    let short = IngestConfig {
        stale_after: Duration::from_millis(50),
        leave_after: Duration::from_millis(100),
        ..quick()
    };
    let bench = bench_of(short, sources);
    let state = bench.ingest.add(spec).unwrap();
    bench.seen.wait(state.info.id, "left", |seen| {
        seen == [Seen::Joined, Seen::Left]
    });
    let (mut engine, _) = engine_in(&dir, 2, 100);
    engine.publish(3);
    let seen = bench.seen.wait_batch(state.info.id, EPOCH + 1, 2);
    assert_eq!(seen[2..], joined_and(batches(EPOCH + 1, 2, 0..3)));
    let beginning = state.beginning();
    assert_eq!(
        (beginning.epoch, beginning.resumed),
        (Epoch(EPOCH + 1), None)
    );
}

#[test]
fn a_point_is_one_stream_s_and_used_once() {
    let dir = bench(quick());
    let (mut engine, spec) = engine_in(&dir, 1, 100);
    engine.publish(10);
    let at = followed(&engine, &spec);
    let mut elsewhere = at.clone();
    elsewhere.source.endpoints = vec!["tcp://10.0.0.1:5557".into()];
    let (bench, state) = resumed(elsewhere, spec.clone());
    assert_eq!(state.beginning().resumed, None);
    assert!(!at.fits(&state), "its epochs are others");
    bench.seen.wait_batch(state.info.id, 0, 9);

    // Of several the newest counts; the next source of that name begins anew.
    let mut older = at.clone();
    older.mark.position.sequence = 3;
    let sources = Sources::new();
    sources.resume_from([at.clone(), older]);
    let bench = bench_of(quick(), sources);
    let state = bench.ingest.add(spec.clone()).unwrap();
    assert_eq!(state.mark(), Some(at.mark));
    bench.ingest.remove(state.info.id);
    assert!(at.fits(&state));
    let state = bench.ingest.add(spec).unwrap();
    assert!(!at.fits(&state));
    bench.seen.wait_batch(state.info.id, 0, 9);
}

#[test]
fn a_topic_of_a_bound_socket_is_no_exception() {
    let dir = bench(quick());
    let endpoint = dir.ipc("bound");
    let mut bound = spec("node", &endpoint);
    bound.mode = Mode::Bind;
    let publish = |life, n| {
        let mut engine = engine_at(&endpoint);
        engine.connects = true;
        engine.topic = "kv@pod@model".into();
        let mut engine = engine.start(life);
        engine.wait_subscribers(1);
        engine.publish(n);
        engine
    };
    let at = {
        let bench = bench(quick());
        bench.ingest.add(bound.clone()).unwrap();
        let _engine = publish(1, 4);
        let sources = bench.ingest.sources();
        until("a source", || sources.len() == 1);
        let state = sources.snapshot()[0].clone();
        bench.seen.wait_batch(state.info.id, 0, 3);
        until("its mark", || {
            state.mark().is_some_and(|m| m.position.sequence == 3)
        });
        checkpoint(&state)
    };
    let (bench, _) = resumed(at, bound);
    let _engine = publish(2, 3);
    let sources = bench.ingest.sources();
    until("a source", || sources.len() == 1);
    let id = sources.snapshot()[0].info.id;
    let seen = bench.seen.wait_batch(id, EPOCH + 1, 2);
    assert_eq!(seen[..2], [Seen::Joined, Seen::Reset(EPOCH + 1)]);
    assert_eq!(seen[2..], batches(EPOCH + 1, 2, 0..3));
}
