//! Sinks against real sockets and files.

mod file;
mod push;
mod status;
mod xpub;

use crate::{Sink, SinkConfig, SinkStatus};
use bytes::Bytes;
use penstock_event::{Epoch, Position, PublishError, SourceId, SourceInfo, SourceSpec};
use std::time::{Duration, Instant};

/// What a test may take at most before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(text: &str) -> SinkConfig {
    serde_json::from_str(text).unwrap()
}

fn open(ctx: &zmq::Context, text: &str) -> Sink {
    Sink::open("out", &config(text), ctx).unwrap()
}

fn soon(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

fn source(name: &str) -> SourceInfo {
    SourceInfo {
        id: SourceId(1),
        name: name.into(),
        spec: SourceSpec {
            instance: name.into(),
            ..SourceSpec::default()
        },
    }
}

fn at(sequence: u64) -> Position {
    Position {
        epoch: Epoch(3),
        sequence,
    }
}

/// Publishes `payload` on `topic` for the batch 3/`sequence` of `vllm-0`.
fn publish(sink: &Sink, topic: &str, payload: &str, sequence: u64) -> Result<(), PublishError> {
    sink.publisher().publish(
        Bytes::copy_from_slice(topic.as_bytes()),
        Bytes::copy_from_slice(payload.as_bytes()),
        Some(&source("vllm-0")),
        at(sequence),
    )
}

/// Waits until the status is as wanted.
fn wait_for(sink: &Sink, what: &str, wanted: impl Fn(&SinkStatus) -> bool) -> SinkStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = sink.status();
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < until, "never {what}: {status:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A client's socket with a bound on every wait.
fn client(ctx: &zmq::Context, kind: zmq::SocketType) -> zmq::Socket {
    let socket = ctx.socket(kind).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvtimeo(PATIENCE.as_millis() as i32).unwrap();
    socket
}

fn sub(ctx: &zmq::Context, endpoint: &str, topic: &str) -> zmq::Socket {
    let socket = client(ctx, zmq::SUB);
    socket.set_rcvhwm(100_000).unwrap();
    socket.set_subscribe(topic.as_bytes()).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

fn frames(socket: &zmq::Socket) -> Vec<Vec<u8>> {
    socket.recv_multipart(0).unwrap()
}

fn number(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame.try_into().unwrap())
}

/// Asks a replay and collects what comes, up to and without the end marker.
fn replay(ctx: &zmq::Context, endpoint: &str, start: u64) -> Vec<Vec<Vec<u8>>> {
    let dealer = client(ctx, zmq::DEALER);
    dealer.connect(endpoint).unwrap();
    dealer
        .send_multipart([&b""[..], &start.to_be_bytes()], 0)
        .unwrap();
    let mut all = Vec::new();
    loop {
        let message = frames(&dealer);
        if message[message.len() - 2] == [0xff; 8] {
            assert!(message.last().unwrap().is_empty());
            return all;
        }
        all.push(message);
    }
}
