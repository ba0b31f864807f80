use super::*;
use crate::faults::Selector;
use crate::frames::batch;
use crate::subscriber::{Subscriber, fetch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;

const LONG: Duration = Duration::from_secs(10);

fn config() -> PublisherConfig {
    PublisherConfig {
        replay: Some("tcp://127.0.0.1:*".into()),
        topic: "kv@pod@model".into(),
        linger: Duration::ZERO,
        ..PublisherConfig::new("tcp://127.0.0.1:*")
    }
}

fn subscribe(context: &zmq::Context, endpoint: &str) -> Subscriber {
    Subscriber::open(context, endpoint, &[], Side::Auto, 10_000).unwrap()
}

fn sequences(subscriber: &Subscriber, count: usize) -> Vec<u64> {
    let next = || subscriber.receive(LONG).unwrap().unwrap();
    (0..count)
        .map(|_| batch(&next()).unwrap().sequence)
        .collect()
}

/// Serves replays in a thread until told to stop.
fn serve(mut publisher: Publisher) -> (Arc<AtomicBool>, JoinHandle<PublisherStats>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        while !stopped.load(Relaxed) {
            publisher.wait(Duration::from_millis(5)).unwrap();
        }
        publisher.stats()
    });
    (stop, thread)
}

#[test]
fn messages_have_topic_sequence_and_payload() {
    let context = zmq::Context::new();
    let mut publisher = Publisher::open(
        &context,
        PublisherConfig {
            first_sequence: 255,
            ..config()
        },
    )
    .unwrap();
    let subscriber = subscribe(&context, publisher.endpoint());
    assert!(publisher.wait_subscribers(1, LONG).unwrap());
    assert_eq!(publisher.publish("a").unwrap().sequence, 255);
    assert_eq!(publisher.publish("b").unwrap().sequence, 256);
    subscriber.receive(LONG).unwrap().unwrap();
    let second = subscriber.receive(LONG).unwrap().unwrap();
    assert_eq!(second[0], "kv@pod@model");
    assert_eq!(second[1], &[0, 0, 0, 0, 0, 0, 1, 0][..]);
    assert_eq!(second[2], "b");
}

#[test]
fn subscribers_are_counted_as_they_come_and_go() {
    let context = zmq::Context::new();
    let mut publisher = Publisher::open(&context, config()).unwrap();
    assert_eq!(publisher.subscribers().unwrap(), 0);
    // Two topics make one subscriber; a connection without any makes none.
    let topics = ["kv".to_owned(), "other".to_owned()];
    let endpoint = publisher.endpoint().to_owned();
    let two = Subscriber::open(&context, &endpoint, &topics, Side::Auto, 10).unwrap();
    let silent = context.socket(zmq::SUB).unwrap();
    silent.connect(&endpoint).unwrap();
    assert!(publisher.wait_subscribers(1, LONG).unwrap());
    let one = subscribe(&context, &endpoint);
    assert!(publisher.wait_subscribers(2, LONG).unwrap());
    assert!(
        !publisher
            .wait_subscribers(3, Duration::from_millis(50))
            .unwrap()
    );
    drop(one);
    drop(two);
    let deadline = Instant::now() + LONG;
    while publisher.subscribers().unwrap() > 0 {
        assert!(Instant::now() < deadline);
        publisher.wait(Duration::from_millis(10)).unwrap();
    }
    // One leaves and another comes between two looks: it counts.
    let _again = subscribe(&context, &endpoint);
    assert!(publisher.wait_subscribers(1, LONG).unwrap());
}

#[test]
fn a_publisher_connects_where_the_subscriber_binds() {
    let context = zmq::Context::new();
    let subscriber = Subscriber::open(&context, "tcp://127.0.0.1:*", &[], Side::Bind, 10).unwrap();
    let endpoint = subscriber.endpoint().to_owned();
    let mut publisher = Publisher::open(&context, PublisherConfig::new(endpoint)).unwrap();
    // A bound SUB sends its subscriptions when its own thread next looks at it.
    let deadline = Instant::now() + LONG;
    let step = Duration::from_millis(10);
    while !publisher.wait_subscribers(1, step).unwrap() {
        assert!(Instant::now() < deadline);
        assert_eq!(subscriber.receive(Duration::ZERO).unwrap(), None);
    }
    publisher.publish("a").unwrap();
    assert_eq!(sequences(&subscriber, 1), [0]);
}

#[test]
fn inproc_and_ipc_work_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let ipc = format!("ipc://{}/pub", dir.path().display());
    for endpoint in ["inproc://publisher-test", &ipc] {
        let context = zmq::Context::new();
        let mut publisher = Publisher::open(&context, PublisherConfig::new(endpoint)).unwrap();
        let subscriber = subscribe(&context, publisher.endpoint());
        assert!(publisher.wait_subscribers(1, LONG).unwrap(), "{endpoint}");
        publisher.publish("a").unwrap();
        assert_eq!(sequences(&subscriber, 1), [0]);
    }
}

#[test]
fn what_is_dropped_live_is_in_the_replay_unless_hidden() {
    let context = zmq::Context::new();
    let mut publisher = Publisher::open(
        &context,
        PublisherConfig {
            faults: Faults {
                drop_live: "2,5".parse().unwrap(),
                hide_from_replay: Selector::these([5]),
                duplicate_live: Selector::these([3]),
                corrupt: Selector::these([4]),
                ..Faults::default()
            },
            ..config()
        },
    )
    .unwrap();
    let subscriber = subscribe(&context, publisher.endpoint());
    assert!(publisher.wait_subscribers(1, LONG).unwrap());
    let fates: Vec<Published> = (0..7).map(|_| publisher.publish("x").unwrap()).collect();
    let dropped: Vec<u64> = fates
        .iter()
        .filter(|f| !f.sent)
        .map(|f| f.sequence)
        .collect();
    assert_eq!(dropped, [2, 5]);
    assert_eq!(sequences(&subscriber, 6), [0, 1, 3, 3, 4, 6]);
    let replay = publisher.replay_endpoint().unwrap().to_owned();
    let (stop, thread) = serve(publisher);
    let fetched = fetch(&context, &replay, 1, LONG).unwrap();
    stop.store(true, Relaxed);
    let stats = thread.join().unwrap();
    let replayed: Vec<u64> = fetched.batches.iter().map(|(s, _)| *s).collect();
    assert_eq!(replayed, [1, 2, 3, 4, 6]);
    assert_eq!(fetched.batches[3].1, CORRUPT);
    assert_eq!(fetched.batches[2].1, "x");
    assert_eq!(
        (
            stats.dropped,
            stats.hidden,
            stats.duplicated,
            stats.corrupted
        ),
        (2, 1, 1, 1)
    );
}

#[test]
fn a_replay_can_be_silent_or_without_an_end() {
    for (faults, framing) in [
        (
            Faults {
                silent_replay: true,
                ..Faults::default()
            },
            None,
        ),
        (
            Faults {
                drop_end_marker: true,
                ..Faults::default()
            },
            Some(Framing::New),
        ),
    ] {
        let context = zmq::Context::new();
        let faulty = PublisherConfig { faults, ..config() };
        let mut publisher = Publisher::open(&context, faulty).unwrap();
        publisher.publish("x").unwrap();
        let replay = publisher.replay_endpoint().unwrap().to_owned();
        let (stop, thread) = serve(publisher);
        let fetched = fetch(&context, &replay, 0, Duration::from_millis(300)).unwrap();
        stop.store(true, Relaxed);
        assert!(!fetched.complete);
        assert_eq!(fetched.framing, framing);
        assert_eq!(thread.join().unwrap().replay.faults, 1);
    }
}

#[test]
fn a_killed_publisher_gives_its_port_back() {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let first = Publisher::open(&zmq::Context::new(), config()).unwrap();
        let endpoint = first.endpoint().to_owned();
        let replay = first.replay_endpoint().map(str::to_owned);
        first.kill().unwrap();
        let again = PublisherConfig {
            side: Side::Bind,
            replay: replay.clone(),
            ..PublisherConfig::new(endpoint.clone())
        };
        let second = Publisher::open(&zmq::Context::new(), again).unwrap();
        assert_eq!(second.endpoint(), endpoint);
        assert_eq!(second.replay_endpoint(), replay.as_deref());
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(LONG).unwrap();
    thread.join().unwrap();
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let context = zmq::Context::new();
    let first = Publisher::open(&context, config()).unwrap();
    let taken = PublisherConfig {
        side: Side::Bind,
        patience: Duration::ZERO,
        ..PublisherConfig::new(first.endpoint())
    };
    let error = Publisher::open(&context, taken).unwrap_err().to_string();
    assert!(error.contains(first.endpoint()), "{error}");
}
