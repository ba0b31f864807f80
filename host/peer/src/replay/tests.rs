use super::*;
use crate::subscriber::{Fetched, fetch};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(10);

/// A replay server in a thread of its own, with its buffer.
struct Server {
    endpoint: String,
    stop: Arc<AtomicBool>,
    stats: Arc<Mutex<ReplayStats>>,
    thread: JoinHandle<()>,
}

impl Server {
    fn start(config: ReplayConfig, buffer: ReplayBuffer) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (opened, endpoint) = mpsc::channel();
        let stopped = stop.clone();
        let stats = Arc::new(Mutex::new(ReplayStats::default()));
        let noted = stats.clone();
        let thread = std::thread::spawn(move || {
            let context = zmq::Context::new();
            let mut server = ReplayServer::open(&context, config).unwrap();
            opened.send(server.endpoint().to_owned()).unwrap();
            while !stopped.load(Relaxed) {
                let served = server.serve_ready(&buffer).unwrap();
                *noted.lock().unwrap() = server.stats();
                let wait = served.again.unwrap_or(Duration::from_millis(5));
                let millis = wait.as_millis() as i64;
                server.socket().poll(zmq::POLLIN, millis).unwrap();
            }
        });
        Self {
            endpoint: endpoint.recv().unwrap(),
            stop,
            stats,
            thread,
        }
    }

    fn fetch(&self, from: u64) -> Fetched {
        fetch(&zmq::Context::new(), &self.endpoint, from, LONG).unwrap()
    }

    fn stop(self) -> ReplayStats {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap();
        *self.stats.lock().unwrap()
    }
}

fn config(framing: Framing) -> ReplayConfig {
    ReplayConfig {
        framing,
        linger: Duration::ZERO,
        ..ReplayConfig::new("tcp://127.0.0.1:*")
    }
}

fn buffer(sequences: std::ops::Range<u64>) -> ReplayBuffer {
    let mut buffer = ReplayBuffer::new(1_000, 1 << 20);
    for sequence in sequences {
        let payload = Bytes::from(format!("payload {sequence}"));
        buffer.push(Bytes::from_static(b"topic"), sequence, payload);
    }
    buffer
}

fn dealer(context: &zmq::Context, endpoint: &str) -> zmq::Socket {
    let socket = context.socket(zmq::DEALER).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvtimeo(10_000).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

#[test]
fn both_framings_replay_from_the_start_asked_for() {
    for framing in [Framing::Old, Framing::New] {
        let server = Server::start(config(framing), buffer(0..20));
        let fetched = server.fetch(15);
        assert_eq!(fetched.framing, Some(framing));
        assert!(fetched.complete);
        let expected: Vec<_> = (15..20)
            .map(|s| (s, Bytes::from(format!("payload {s}"))))
            .collect();
        assert_eq!(fetched.batches, expected);
        let topic: &[u8] = match framing {
            Framing::Old => b"",
            Framing::New => b"topic",
        };
        assert!(fetched.topics.iter().all(|t| t == topic));
        assert_eq!(server.stop().completed, 1);
    }
}

#[test]
fn frames_on_the_wire_are_those_of_engines() {
    for (framing, batch, end) in [
        (
            Framing::Old,
            vec![&b""[..], &[0, 0, 0, 0, 0, 0, 0, 7], b"payload 7"],
            vec![&b""[..], &[0xff; 8], b""],
        ),
        (
            Framing::New,
            vec![&b""[..], b"topic", &[0, 0, 0, 0, 0, 0, 0, 7], b"payload 7"],
            vec![&b""[..], b"", &[0xff; 8], b""],
        ),
    ] {
        let server = Server::start(config(framing), buffer(7..8));
        let context = zmq::Context::new();
        let client = dealer(&context, &server.endpoint);
        client
            .send_multipart([&b""[..], &7u64.to_be_bytes()], 0)
            .unwrap();
        assert_eq!(client.recv_multipart(0).unwrap(), batch);
        assert_eq!(client.recv_multipart(0).unwrap(), end);
        server.stop();
    }
}

#[test]
fn a_start_out_of_range_is_no_error() {
    let server = Server::start(config(Framing::New), buffer(100..110));
    let old = server.fetch(3);
    assert!(old.complete);
    assert_eq!(old.batches.first().unwrap().0, 100);
    assert_eq!(old.batches.len(), 10);
    let future = server.fetch(110);
    assert!(future.complete);
    assert!(future.batches.is_empty());
    server.stop();
}

#[test]
fn other_shapes_get_no_answer_and_are_counted() {
    let server = Server::start(config(Framing::New), buffer(0..1));
    let context = zmq::Context::new();
    let client = dealer(&context, &server.endpoint);
    let start = 0u64.to_be_bytes();
    let shapes: [&[&[u8]]; 5] = [
        &[&start],
        &[b"", b"short"],
        &[b"delimiter", &start],
        &[b"", &start, b"more"],
        &[b"", b""],
    ];
    for shape in shapes {
        client.send_multipart(shape.iter().copied(), 0).unwrap();
    }
    // Answers keep the order of requests: what comes first answers the good one.
    client.send_multipart([&b""[..], &start], 0).unwrap();
    assert_eq!(client.recv_multipart(0).unwrap()[3], b"payload 0");
    assert_eq!(client.recv_multipart(0).unwrap()[2], END);
    let stats = server.stop();
    assert_eq!((stats.malformed, stats.requests), (5, 1));
}

#[test]
fn hidden_batches_are_left_out() {
    let mut held = buffer(0..3);
    held.push_hidden(Bytes::new(), 3, Bytes::from_static(b"hidden"));
    let server = Server::start(config(Framing::New), held);
    let fetched = server.fetch(0);
    let sequences: Vec<u64> = fetched.batches.iter().map(|(s, _)| *s).collect();
    assert_eq!(sequences, [0, 1, 2]);
    server.stop();
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_and_is_given_up() {
    let mut held = ReplayBuffer::new(10_000, 1 << 30);
    for sequence in 0..2_000 {
        held.push(Bytes::new(), sequence, Bytes::from(vec![7; 64 << 10]));
    }
    let server = Server::start(
        ReplayConfig {
            hwm: 8,
            stall: Duration::from_millis(300),
            ..config(Framing::New)
        },
        held,
    );
    let context = zmq::Context::new();
    let lazy = context.socket(zmq::DEALER).unwrap();
    lazy.set_linger(0).unwrap();
    lazy.set_rcvhwm(1).unwrap();
    lazy.set_rcvbuf(64 << 10).unwrap();
    lazy.connect(&server.endpoint).unwrap();
    lazy.send_multipart([&b""[..], &[0; 8]], 0).unwrap();
    // The other client's answer is whole, meanwhile.
    let fetched = server.fetch(1_990);
    assert!(fetched.complete);
    assert_eq!(fetched.batches.len(), 10);
    let deadline = Instant::now() + LONG;
    while server.stats.lock().unwrap().stalled == 0 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let stats = server.stop();
    assert_eq!((stats.stalled, stats.undeliverable), (1, 0));
    assert!(stats.batches < 2_010);
}

#[test]
fn requests_above_the_bound_are_refused() {
    let context = zmq::Context::new();
    let mut server = ReplayServer::open(
        &context,
        ReplayConfig {
            max_jobs: 1,
            turn: 1,
            ..config(Framing::New)
        },
    )
    .unwrap();
    let held = buffer(0..100);
    let client = dealer(&context, server.endpoint());
    let deadline = Instant::now() + LONG;
    for _ in 0..3 {
        client.send_multipart([&b""[..], &[0; 8]], 0).unwrap();
    }
    while server.stats().requests < 3 {
        assert!(Instant::now() < deadline, "{:?}", server.stats());
        server.socket().poll(zmq::POLLIN, 10).unwrap();
        server.serve_ready(&held).unwrap();
    }
    while server.serve_ready(&held).unwrap().again.is_some() {}
    let stats = server.stats();
    assert!(stats.refused >= 1, "{stats:?}");
    assert_eq!(stats.completed + stats.refused, 3);
    assert_eq!(stats.batches, stats.completed * 100);
}

#[test]
fn batches_that_leave_before_their_turn_are_counted() {
    let context = zmq::Context::new();
    let turn = ReplayConfig {
        turn: 1,
        ..config(Framing::New)
    };
    let mut server = ReplayServer::open(&context, turn).unwrap();
    let mut held = ReplayBuffer::new(100, 1 << 20);
    for sequence in 0..100 {
        held.push(Bytes::new(), sequence, Bytes::from_static(b"x"));
    }
    let client = dealer(&context, server.endpoint());
    client.send_multipart([&b""[..], &[0; 8]], 0).unwrap();
    let deadline = Instant::now() + LONG;
    while server.stats().batches == 0 {
        assert!(Instant::now() < deadline);
        server.socket().poll(zmq::POLLIN, 10).unwrap();
        server.serve_ready(&held).unwrap();
    }
    let sent = server.stats().batches;
    held.clear();
    held.push(Bytes::new(), 100, Bytes::from_static(b"new"));
    while server.serve_ready(&held).unwrap().again.is_some() {}
    let stats = server.stats();
    assert_eq!(
        stats.batches, sent,
        "what came later is not part of the answer"
    );
    assert_eq!(stats.overtaken, 100 - sent);
    assert_eq!(stats.completed, 1);
}
