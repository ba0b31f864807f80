//! One source's stream over real sockets: whole, in order, or reported.

mod support;

use penstock_event::GapReason;
use penstock_ingest::{IngestConfig, Sabotage};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use support::*;

#[test]
fn a_late_joiner_gets_the_past_and_goes_on_live() {
    for framing in [Framing::Old, Framing::New] {
        let bench = bench(quick());
        let (live, replay) = (bench.ipc("live"), bench.ipc("replay"));
        let mut engine = engine_at(&live).replay(&replay, framing).start(1);
        engine.publish(20);
        engine.flush();
        let mut spec = spec("e", &live);
        spec.replay = Some(replay);
        let state = bench.ingest.add(spec).unwrap();
        engine.wait_subscribers(1);
        engine.publish(10);
        let seen = bench.seen.wait_batch(state.info.id, 0, 29);
        assert_eq!(seen, joined_and(batches(0, 1, 0..30)));
        until("complete and verified", || {
            state.complete() && state.verified()
        });
        until("the position follows", || {
            state.position().is_some_and(|at| at.sequence == 29)
        });
        assert!(state.totals.replayed.load(Relaxed) >= 20);
        assert_eq!(state.totals.events.load(Relaxed), 30);
        assert_eq!(state.totals.blocks.load(Relaxed), 30);
    }
}

#[test]
fn either_side_may_start_first() {
    let bench = bench(quick());
    let port = free_port();
    let endpoint = format!("tcp://127.0.0.1:{port}");
    let state = bench.ingest.add(spec("e", &endpoint)).unwrap();
    let mut engine = engine_at(&endpoint).start(1);
    engine.wait_subscribers(1);
    engine.publish(3);
    let seen = bench.seen.wait_batch(state.info.id, 0, 2);
    assert_eq!(seen, joined_and(batches(0, 1, 0..3)));
    assert!(
        !state.verified(),
        "without replay, nothing shows that this is all"
    );
}

#[test]
fn a_gap_is_filled_by_replay() {
    let bench = bench(quick());
    let (live, replay) = (bench.ipc("live"), bench.ipc("replay"));
    let mut engine = engine_at(&live).replay(&replay, Framing::New).start(1);
    let mut spec = spec("e", &live);
    spec.replay = Some(replay);
    let state = bench.ingest.add(spec).unwrap();
    engine.wait_subscribers(1);
    engine.publish(5);
    bench.seen.wait_batch(state.info.id, 0, 4);
    // The first loss may still fall into the join, and be no gap.
    let mut published = 5;
    until("a gap counts as filled", || {
        engine.lose(3);
        engine.publish(5);
        published += 8;
        bench.seen.wait_batch(state.info.id, 0, published - 1);
        state.totals.gaps_filled.load(Relaxed) >= 1
    });
    let seen = bench.seen.of(state.info.id);
    assert_eq!(seen, joined_and(batches(0, 1, 0..published)));
    assert!(state.totals.gaps.load(Relaxed) >= 1);
    assert!(state.complete());
}

#[test]
fn what_cannot_be_had_is_a_gap_and_the_source_lives() {
    let bench = bench(quick());
    let live = bench.ipc("live");
    let mut engine = engine_at(&live).start(1);
    let state = bench.ingest.add(spec("e", &live)).unwrap();
    engine.wait_subscribers(1);
    engine.publish(3);
    bench.seen.wait_batch(state.info.id, 0, 2);
    engine.lose(4);
    engine.publish(2);
    let seen = bench.seen.wait_batch(state.info.id, 0, 8);
    let mut expected = joined_and(batches(0, 1, 0..3));
    expected.push(Seen::Gap(0, 3, 6, GapReason::NoReplay));
    expected.extend(batches(0, 1, 7..9));
    assert_eq!(seen, expected);
    until("incomplete", || !state.complete());
    assert_eq!(state.totals.missing.load(Relaxed), 4);
}

#[test]
fn truncated_history_is_a_gap() {
    let bench = bench(quick());
    let (live, replay) = (bench.ipc("live"), bench.ipc("replay"));
    let mut engine = engine_at(&live).replay(&replay, Framing::Old);
    engine.keep = 4;
    let mut engine = engine.start(1);
    engine.publish(10);
    let mut spec = spec("e", &live);
    spec.replay = Some(replay);
    let state = bench.ingest.add(spec).unwrap();
    let seen = bench.seen.wait_batch(state.info.id, 0, 9);
    let mut expected = joined_and(vec![Seen::Gap(0, 0, 5, GapReason::Truncated)]);
    expected.extend(batches(0, 1, 6..10));
    assert_eq!(seen, expected);
    until("incomplete", || !state.complete());
}

#[test]
fn the_lost_end_of_a_burst_is_found() {
    let bench = bench(quick());
    let (live, replay) = (bench.ipc("live"), bench.ipc("replay"));
    let mut engine = engine_at(&live).replay(&replay, Framing::New).start(1);
    let mut spec = spec("e", &live);
    spec.replay = Some(replay);
    let state = bench.ingest.add(spec).unwrap();
    engine.wait_subscribers(1);
    engine.publish(6);
    engine.lose(4);
    let seen = bench.seen.wait_batch(state.info.id, 0, 9);
    assert_eq!(seen, joined_and(batches(0, 1, 0..10)));
}

#[test]
fn a_killed_engine_starts_a_new_epoch() {
    for (before, after) in [(10, 4), (3, 12)] {
        // The second time, the new engine has passed the old one's numbers.
        let bench = bench(quick());
        let (live, replay) = (bench.ipc("live"), bench.ipc("replay"));
        let start = |life| engine_at(&live).replay(&replay, Framing::New).start(life);
        let mut engine = start(1);
        let mut spec = spec("e", &live);
        spec.replay = Some(replay.clone());
        let state = bench.ingest.add(spec).unwrap();
        engine.wait_subscribers(1);
        engine.publish(before);
        bench.seen.wait_batch(state.info.id, 0, before - 1);
        drop(engine);
        let mut engine = start(2);
        engine.publish(after - 1);
        engine.wait_subscribers(1);
        engine.publish(1);
        let seen = bench.seen.wait_batch(state.info.id, 1, after - 1);
        let mut expected = joined_and(batches(0, 1, 0..before));
        expected.push(Seen::Reset(1));
        expected.extend(batches(1, 2, 0..after));
        assert_eq!(seen, expected);
        assert_eq!(state.totals.restarts.load(Relaxed), 1);
        assert!(state.totals.disconnects.load(Relaxed) >= 1);
    }
}

#[test]
fn a_lost_connection_to_the_same_engine_is_no_restart() {
    let bench = bench(quick());
    let (port, replay) = (free_port(), bench.ipc("replay"));
    let relay = Relay::to(port);
    let mut engine = engine_at(&format!("tcp://127.0.0.1:{port}"))
        .replay(&replay, Framing::New)
        .start(1);
    let mut spec = spec("e", &format!("tcp://127.0.0.1:{}", relay.port));
    spec.replay = Some(replay);
    let state = bench.ingest.add(spec).unwrap();
    engine.wait_subscribers(1);
    engine.publish(5);
    bench.seen.wait_batch(state.info.id, 0, 4);
    relay.cut();
    until("disconnected", || {
        state.totals.disconnects.load(Relaxed) == 1
    });
    engine.publish(3);
    engine.wait_subscribers(2);
    engine.publish(2);
    let seen = bench.seen.wait_batch(state.info.id, 0, 9);
    assert_eq!(seen, joined_and(batches(0, 1, 0..10)));
    assert_eq!(state.totals.restarts.load(Relaxed), 0);
}

#[test]
fn bad_messages_cost_themselves_alone() {
    let bench = bench(quick());
    let live = bench.ipc("live");
    let mut engine = engine_at(&live).start(1);
    let state = bench.ingest.add(spec("e", &live)).unwrap();
    engine.wait_subscribers(1);
    engine.publish(1);
    engine.raw(&[b"kv"]);
    engine.raw(&[b"kv", b"short", b"x"]);
    engine.raw(&[b"kv", &[0; 8], b"x", b"y", b"z"]);
    engine.publish_payload(b"\xc1 is no msgpack".to_vec());
    engine.publish(2);
    let seen = bench.seen.wait_batch(state.info.id, 0, 3);
    let mut expected = joined_and(batches(0, 1, 0..1));
    expected.push(Seen::Gap(0, 1, 1, GapReason::Undecodable));
    expected.extend(batches(0, 1, 2..4));
    assert_eq!(seen, expected);
    assert_eq!(state.totals.malformed.load(Relaxed), 3);
    assert_eq!(state.totals.undecodable.load(Relaxed), 1);
    assert!(!state.complete());
}

#[test]
fn a_frame_above_the_limit_costs_the_connection_but_not_the_source() {
    let bench = bench(IngestConfig {
        max_message_bytes: 10_000,
        ..quick()
    });
    let port = free_port();
    let endpoint = format!("tcp://127.0.0.1:{port}");
    let mut engine = engine_at(&endpoint).start(1);
    let state = bench.ingest.add(spec("e", &endpoint)).unwrap();
    engine.wait_subscribers(1);
    engine.publish(2);
    bench.seen.wait_batch(state.info.id, 0, 1);
    engine.publish_payload(vec![0; 20_000]);
    engine.wait_subscribers(2);
    engine.publish(3);
    let epoch_1 = bench
        .seen
        .wait(state.info.id, "batch 5 of any epoch", |seen| {
            matches!(seen.last(), Some(Seen::Batch(_, 5, _)))
        });
    let lost = epoch_1
        .iter()
        .any(|s| matches!(s, Seen::Reset(_) | Seen::Gap(..)));
    assert!(lost, "the lost batch is not hidden: {epoch_1:?}");
}

#[test]
fn a_plugin_that_fell_behind_can_fetch() {
    let bench = bench(quick());
    let (live, replay) = (bench.ipc("live"), bench.ipc("replay"));
    let mut engine = engine_at(&live).replay(&replay, Framing::Old).start(1);
    engine.publish(10);
    let mut with_replay = spec("e", &live);
    with_replay.replay = Some(replay);
    let state = bench.ingest.add(with_replay).unwrap();
    bench.seen.wait_batch(state.info.id, 0, 9);

    let (sender, got) = std::sync::mpsc::channel();
    let fetch = |id, from, to| {
        let sender = sender.clone();
        let take = move |item: Option<penstock_ingest::FetchItem>| {
            sender.send(item.map(|i| (i.sequence, i.payload))).is_ok()
        };
        bench.ingest.fetch(id, from, to, Box::new(take));
    };
    fetch(state.info.id, 3, 5);
    let mut items = Vec::new();
    while let Some(item) = got.recv_timeout(PATIENCE).unwrap() {
        items.push(item);
    }
    let expected: Vec<_> = (3..6).map(|n| (n, payload(hash(1, n)).into())).collect();
    assert_eq!(items, expected);

    // Beyond the end, and without a replay endpoint: it ends.
    fetch(state.info.id, 50, 60);
    assert_eq!(got.recv_timeout(PATIENCE).unwrap(), None);
    let other = bench.ingest.add(spec("f", &bench.ipc("nobody"))).unwrap();
    fetch(other.info.id, 0, 1);
    assert_eq!(got.recv_timeout(PATIENCE).unwrap(), None);
    assert_eq!(
        bench.seen.of(state.info.id).len(),
        11,
        "the stream is untouched"
    );
}

#[test]
fn faults_made_on_purpose_lose_in_silence() {
    let bench = bench(IngestConfig {
        sabotage: Some(Sabotage::DropBatch),
        tail_after: Duration::from_secs(60),
        ..quick()
    });
    let live = bench.ipc("live");
    let mut engine = engine_at(&live).start(1);
    let state = bench.ingest.add(spec("e", &live)).unwrap();
    engine.wait_subscribers(1);
    engine.publish(100);
    let seen = bench.seen.wait_batch(state.info.id, 0, 99);
    assert_eq!(seen.len(), 1 + 98, "one of fifty is gone");
    assert!(!seen.iter().any(|s| matches!(s, Seen::Gap(..))));
}
