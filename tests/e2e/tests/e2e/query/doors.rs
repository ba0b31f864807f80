//! The ZeroMQ door as its clients are.

use crate::rig::{CALM, Hand};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::wait;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn start() -> (Hand, Daemon) {
    let engine = Hand::start();
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine.source(setup, "e").start();
    let last = engine.store(&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2]);
    daemon.wait_for("e", 0, last);
    (engine, daemon)
}

fn socket(kind: zmq::SocketType, endpoint: &str) -> zmq::Socket {
    let socket = zmq::Context::new().socket(kind).unwrap();
    socket.set_rcvtimeo(30_000).unwrap();
    socket.set_linger(0).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

fn question(id: Value, tokens: usize) -> Vec<u8> {
    let tokens: Vec<u32> = (1..=tokens as u32).collect();
    let body = json!({"id": id, "token_ids": tokens, "model_name": "m", "deadline_ms": 20_000});
    body.to_string().into_bytes()
}

fn ask_req(socket: &zmq::Socket, id: Value, tokens: usize) -> Value {
    socket.send(question(id.clone(), tokens), 0).unwrap();
    let reply: Value = serde_json::from_slice(&socket.recv_bytes(0).unwrap()).unwrap();
    assert_eq!(reply["id"], id, "{reply}");
    reply
}

/// Waits until the door answers with the block that is there.
fn warm(daemon: &Daemon) {
    let req = socket(zmq::REQ, &daemon.zmq);
    wait::until("the first hit", PATIENCE, || {
        let reply = ask_req(&req, json!("warm"), 8);
        (reply["scores"]["e"]["0"] == 8).then_some(())
    });
}

/// Several in flight on one DEALER; replies are matched by their ids.
fn many_in_flight(dealer: &zmq::Socket, prefix: &str) {
    const MANY: usize = 50;
    let mut open: BTreeSet<usize> = (0..MANY).collect();
    for n in 0..MANY {
        let body = question(json!([prefix, n]), n % 9);
        dealer.send_multipart([b"".as_slice(), &body], 0).unwrap();
    }
    while !open.is_empty() {
        let frames = dealer.recv_multipart(0).unwrap();
        assert_eq!((frames.len(), frames[0].len()), (2, 0));
        let reply: Value = serde_json::from_slice(&frames[1]).unwrap();
        assert_eq!(reply["id"][0], prefix, "somebody else's: {reply}");
        let n = reply["id"][1].as_u64().unwrap() as usize;
        assert!(open.remove(&n), "{n} came twice");
        let held = n % 9 / 4 * 4;
        let tokens = reply["scores"]["e"]["0"].as_u64().unwrap_or(0);
        assert_eq!(tokens as usize, held, "{reply}");
    }
}

#[test]
fn req_and_dealer_clients_side_by_side() {
    let (_engine, daemon) = start();
    warm(&daemon);
    std::thread::scope(|scope| {
        for client in ["a", "b"] {
            let zmq = &daemon.zmq;
            scope.spawn(move || many_in_flight(&socket(zmq::DEALER, zmq), client));
        }
        let req = socket(zmq::REQ, &daemon.zmq);
        for n in 0..20 {
            let reply = ask_req(&req, json!(n), 8);
            assert_eq!(reply["scores"]["e"]["0"], 8, "{reply}");
        }
        let health = br#"{"id": {"any": "value"}, "op": "health"}"#;
        req.send(&health[..], 0).unwrap();
        let reply: Value = serde_json::from_slice(&req.recv_bytes(0).unwrap()).unwrap();
        assert_eq!(reply["id"], json!({"any": "value"}), "{reply}");
        assert_eq!(reply["ok"], true, "{reply}");
    });
}

#[test]
fn clients_behind_a_proxy_are_found_again() {
    let (_engine, daemon) = start();
    warm(&daemon);
    let context = zmq::Context::new();
    let front = context.socket(zmq::ROUTER).unwrap();
    front.bind("tcp://127.0.0.1:*").unwrap();
    let at = front.get_last_endpoint().unwrap().unwrap();
    let back = context.socket(zmq::DEALER).unwrap();
    back.connect(&daemon.zmq).unwrap();
    for socket in [&front, &back] {
        socket.set_linger(0).unwrap();
    }
    let control = context.socket(zmq::PAIR).unwrap();
    control.bind("inproc://proxy-end").unwrap();
    let proxy = std::thread::spawn({
        let end = context.socket(zmq::PAIR).unwrap();
        move || {
            let mut end = end;
            end.connect("inproc://proxy-end").unwrap();
            let (mut front, mut back) = (front, back);
            zmq::proxy_steerable(&mut front, &mut back, &mut end)
        }
    });
    std::thread::scope(|scope| {
        let at = &at;
        scope.spawn(move || many_in_flight(&socket(zmq::DEALER, at), "behind"));
        scope.spawn(move || {
            let req = socket(zmq::REQ, at);
            for n in 0..20 {
                let reply = ask_req(&req, json!(n), 4);
                assert_eq!(reply["scores"]["e"]["0"], 4, "{reply}");
            }
        });
    });
    control.send("TERMINATE", 0).unwrap();
    proxy.join().unwrap().unwrap();
}
