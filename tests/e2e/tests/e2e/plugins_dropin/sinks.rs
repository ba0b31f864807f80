use super::in_effect;
use crate::rig::{Hand, batch, refused, stored};
use penstock_testkit::daemon::{PATIENCE, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};
use std::time::Instant;

fn publishes_at(endpoint: &str, hwm: u32) -> String {
    format!(
        "grants = [\"log\", \"metrics\", \"publish\"]
[sink.out]
kind = \"zmq-pub\"
endpoint = \"{endpoint}\"
hwm = {hwm}
"
    )
}

/// A port that was free a moment ago.
fn port() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

/// Publishes batches until the subscriber has one of these: a connection needs a while.
fn heard(engine: &Hand, subscriber: &zmq::Socket, mark: u64) {
    let payload = batch(&[stored(&[1, 2, 3, 4], &[mark])]);
    wait::until("a forwarded batch", PATIENCE, || {
        engine.publish(payload.clone());
        while let Ok(frames) = subscriber.recv_multipart(0) {
            if frames[2] == payload {
                return Some(());
            }
        }
        None
    });
}

#[test]
fn a_sink_changes_its_settings_and_keeps_its_address() {
    let engine = Hand::start();
    let (held, first) = port();
    drop(held);
    let (taken, second) = port();
    let setup = Setup::new().plugin("forward", "forward", &publishes_at(&first, 1_000));
    let daemon = engine.source(setup, "e").start();
    let subscriber = zmq::Context::new().socket(zmq::SUB).unwrap();
    subscriber.set_subscribe(b"").unwrap();
    subscriber.set_rcvtimeo(100).unwrap();
    subscriber.connect(&first).unwrap();
    engine.wait_subscribers(1);
    heard(&engine, &subscriber, 1);

    // The same port is needed by the new sink: the old one makes room.
    let home = daemon.home.path();
    let forward = plugin_file("forward");
    let since = Instant::now();
    let toml = publishes_at(&first, 2_000);
    drop_plugin(home, "forward", &forward, Some(&toml));
    let two = in_effect(&daemon, "forward", 2, since);
    assert_eq!(two.load_error, None);
    heard(&engine, &subscriber, 2);

    // A port that somebody else has: what ran goes on, at its own address.
    let toml = publishes_at(&second, 2_000);
    drop_plugin(home, "forward", &forward, Some(&toml));
    let why = refused(&daemon, "forward", &second);
    assert_eq!((why.generation, &*why.state), (2, "running"), "{why:?}");
    heard(&engine, &subscriber, 3);

    // Free at last; the operator says so.
    drop(taken);
    subscriber.connect(&second).unwrap();
    let since = Instant::now();
    let toml = publishes_at(&second, 3_000);
    drop_plugin(home, "forward", &forward, Some(&toml));
    in_effect(&daemon, "forward", 3, since);
    subscriber.disconnect(&first).unwrap();
    heard(&engine, &subscriber, 4);
}
