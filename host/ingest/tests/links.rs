//! Connections: who binds, who leaves, who comes back.

mod support;

use penstock_event::{Link, Mode};
use penstock_ingest::{IngestConfig, IngestError};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use support::*;

#[test]
fn topics_of_a_bound_socket_are_sources() {
    let bench = bench(quick());
    let endpoint = bench.ipc("bound");
    let mut bound = spec("node", &endpoint);
    bound.mode = Mode::Bind;
    let listener = bench.ingest.add(bound).unwrap();
    let engine = |topic: &str, life| {
        let mut engine = engine_at(&endpoint);
        engine.connects = true;
        engine.topic = topic.into();
        let engine = engine.start(life);
        engine.wait_subscribers(1);
        engine
    };
    let mut a = engine("kv@pod-a@llama", 1);
    let mut b = engine("kv@pod-b@qwen", 2);
    a.publish(3);
    b.publish(5);
    let sources = bench.ingest.sources();
    until("two sources", || sources.len() == 2);
    let find = |name: &str| sources.by_name(name).unwrap();
    let (of_a, of_b) = (find("node/kv@pod-a@llama"), find("node/kv@pod-b@qwen"));
    let seen_a = bench.seen.wait_batch(of_a.info.id, 0, 2);
    let seen_b = bench.seen.wait_batch(of_b.info.id, 0, 4);
    assert_eq!(seen_a, joined_and(batches(0, 1, 0..3)));
    assert_eq!(seen_b, joined_and(batches(0, 2, 0..5)));
    assert_eq!(of_a.info.spec.model, "llama");
    assert_eq!(listener.link(), Link::Live);
    assert_eq!(bench.seen.of(listener.info.id), []);

    // The other's loss does not cost this one anything once it has spoken.
    drop(b);
    until("b is down", || of_b.link() == Link::Down);
    until("a is known to live", || {
        a.publish(1);
        of_a.link() == Link::Live
    });
    assert!(!bench.seen.of(of_a.info.id).contains(&Seen::Reset(1)));

    // A new engine on b's topic: nothing shows that it is the old one.
    let mut b = engine("kv@pod-b@qwen", 3);
    b.publish(2);
    let seen_b = bench.seen.wait_batch(of_b.info.id, 1, 1);
    assert_eq!(seen_b[6], Seen::Reset(1));
    assert_eq!(seen_b[7..], batches(1, 3, 0..2));

    bench.ingest.remove(listener.info.id);
    until("nobody is left", || sources.is_empty());
    let last = |id| bench.seen.of(id).pop();
    assert_eq!(
        (last(of_a.info.id), last(of_b.info.id)),
        (Some(Seen::Left), Some(Seen::Left))
    );
}

#[test]
fn learnt_topics_are_bounded() {
    let bench = bench(IngestConfig {
        topics_per_bind: 3,
        ..quick()
    });
    let endpoint = bench.ipc("bound");
    let mut bound = spec("node", &endpoint);
    bound.mode = Mode::Bind;
    bench.ingest.add(bound).unwrap();
    let mut engine = engine_at(&endpoint);
    engine.connects = true;
    let mut engine = engine.start(1);
    engine.wait_subscribers(1);
    for topic in 0..10u8 {
        engine.raw(&[&[b'a' + topic], &[0; 8], &payload(7)]);
    }
    engine.raw(&[b"a", &1u64.to_be_bytes(), &payload(8)]);
    let sources = bench.ingest.sources();
    until("the first topic", || sources.by_name("node/a").is_some());
    let first = sources.by_name("node/a").unwrap();
    bench.seen.wait_batch(first.info.id, 0, 1);
    assert_eq!(sources.len(), 3);
}

#[test]
fn one_endpoint_of_several_is_enough() {
    let bench = bench(quick());
    let (live, replay) = (bench.ipc("live"), bench.ipc("replay"));
    let mut engine = engine_at(&live).replay(&replay, Framing::New).start(1);
    let mut several = spec("e", &live);
    several.endpoints.insert(0, bench.ipc("nobody"));
    several.replay = Some(replay);
    let state = bench.ingest.add(several).unwrap();
    engine.wait_subscribers(1);
    engine.publish(4);
    let seen = bench.seen.wait_batch(state.info.id, 0, 3);
    assert_eq!(seen, joined_and(batches(0, 1, 0..4)));
    assert_eq!(state.link(), Link::Live);
}

#[test]
fn two_ways_to_one_engine_count_once() {
    let bench = bench(quick());
    let (live, other) = (bench.ipc("live"), bench.ipc("other"));
    let replay = bench.ipc("replay");
    let mut engine = engine_at(&live).replay(&replay, Framing::New);
    engine.endpoints.push(other.clone());
    let mut engine = engine.start(1);
    let mut twice = spec("e", &live);
    twice.endpoints.push(other);
    twice.replay = Some(replay);
    let state = bench.ingest.add(twice).unwrap();
    until("both connections", || {
        engine.publish(1);
        state.totals.duplicates.load(Relaxed) > 0
    });
    let n = engine.published();
    let seen = bench.seen.wait_batch(state.info.id, 0, n - 1);
    assert_eq!(seen, joined_and(batches(0, 1, 0..n)));
}

#[test]
fn publishers_in_this_process_are_heard() {
    let bench = bench(quick());
    let mut engine = engine_at("inproc://live").replay("inproc://replay", Framing::New);
    engine.context = bench.ingest.inproc_context();
    let mut engine = engine.start(1);
    engine.publish(2);
    let mut inproc = spec("e", "inproc://live");
    inproc.replay = Some("inproc://replay".into());
    let state = bench.ingest.add(inproc).unwrap();
    engine.wait_subscribers(1);
    engine.publish(2);
    let seen = bench.seen.wait_batch(state.info.id, 0, 3);
    assert_eq!(seen, joined_and(batches(0, 1, 0..4)));
}

#[test]
fn a_source_that_is_gone_for_long_leaves_and_joins_again() {
    let bench = bench(IngestConfig {
        stale_after: Duration::from_millis(100),
        leave_after: Duration::from_millis(800),
        ..quick()
    });
    let (live, replay) = (bench.ipc("live"), bench.ipc("replay"));
    let start = |life| engine_at(&live).replay(&replay, Framing::New).start(life);
    let mut engine = start(1);
    let mut with_replay = spec("e", &live);
    with_replay.replay = Some(replay.clone());
    let state = bench.ingest.add(with_replay).unwrap();
    engine.wait_subscribers(1);
    engine.publish(3);
    bench.seen.wait_batch(state.info.id, 0, 2);
    drop(engine);
    until("stale", || state.link() == Link::Stale);
    assert_eq!(
        bench.seen.of(state.info.id).last(),
        Some(&batches(0, 1, 2..3)[0])
    );
    bench
        .seen
        .wait(state.info.id, "left", |seen| seen.ends_with(&[Seen::Left]));
    assert_eq!(state.link(), Link::Left);

    let mut engine = start(2);
    engine.publish(2);
    let seen = bench.seen.wait_batch(state.info.id, 1, 1);
    let mut expected = joined_and(batches(0, 1, 0..3));
    expected.extend([Seen::Left, Seen::Joined]);
    expected.extend(batches(1, 2, 0..2));
    assert_eq!(seen, expected);
    assert_eq!(state.link(), Link::Live);
}

#[test]
fn a_removed_name_is_free_at_once() {
    let bench = bench(quick());
    let live = bench.ipc("live");
    let mut engine = engine_at(&live).start(1);
    let first = bench.ingest.add(spec("e", &live)).unwrap();
    let twice = bench.ingest.add(spec("e", &live));
    assert!(matches!(twice, Err(IngestError::Duplicate { .. })));
    bench.ingest.remove(first.info.id);
    let second = bench.ingest.add(spec("e", &live)).unwrap();
    assert_ne!(first.info.id, second.info.id);
    bench.seen.wait(first.info.id, "left", |seen| {
        seen == [Seen::Joined, Seen::Left]
    });
    until("the state is gone", || {
        bench.ingest.sources().get(first.info.id).is_none()
    });
    engine.wait_subscribers(1);
    until("the second one hears", || {
        engine.publish(1);
        second.position().is_some()
    });
    assert_eq!(bench.ingest.sources().len(), 1);
}

#[test]
fn a_bound_address_can_be_taken_over_and_a_foreign_one_is_an_error() {
    let bench = bench(quick());
    let bound = |name: &str| {
        let mut bound = spec(name, &format!("tcp://127.0.0.1:{}", free_port()));
        bound.mode = Mode::Bind;
        bound
    };
    let first = bound("a");
    let state = bench.ingest.add(first.clone()).unwrap();
    bench.ingest.remove(state.info.id);
    bench.ingest.add(first).unwrap();

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut second = bound("b");
    second.endpoints = vec![format!("tcp://{}", taken.local_addr().unwrap())];
    let error = bench.ingest.add(second).unwrap_err().to_string();
    assert!(error.contains("cannot bind tcp://127.0.0.1:"), "{error}");
    assert!(error.contains("another process holds it"), "{error}");
    assert!(bench.ingest.sources().by_name("b").is_none());
}

#[test]
fn wrong_endpoints_are_named_before_a_socket_opens() {
    let bench = bench(quick());
    let error = bench.ingest.add(spec("e", "tcp://*:5557")).unwrap_err();
    assert!(error.to_string().contains("\"e\""), "{error}");
    let mut wrong = spec("e", "tcp://h:5557");
    wrong.replay = Some("5558".into());
    assert!(matches!(
        bench.ingest.add(wrong),
        Err(IngestError::Endpoint { .. })
    ));
    let mut none = spec("e", "");
    none.endpoints.clear();
    assert!(matches!(
        bench.ingest.add(none),
        Err(IngestError::NoEndpoint { .. })
    ));
    assert!(bench.ingest.sources().is_empty());
}

#[test]
fn shutdown_ends_in_time_and_nobody_leaves() {
    let bench = bench(quick());
    let live = bench.ipc("live");
    let mut engine = engine_at(&live).start(1);
    let state = bench.ingest.add(spec("e", &live)).unwrap();
    engine.wait_subscribers(1);
    engine.publish(50);
    bench.seen.wait_batch(state.info.id, 0, 0);
    assert!(bench.ingest.healthy());
    bench.ingest.quiet();
    let delivered = bench.seen.all().len();
    engine.publish(50);
    assert!(matches!(
        bench.ingest.add(spec("late", &live)),
        Err(IngestError::Stopped)
    ));
    assert!(!bench.ingest.healthy(), "its threads have ended");
    let begin = Instant::now();
    bench.ingest.shutdown(begin + PATIENCE);
    assert!(begin.elapsed() < PATIENCE, "before the deadline");
    assert_eq!(bench.seen.all().len(), delivered);
    assert!(!bench.seen.of(state.info.id).contains(&Seen::Left));
}
