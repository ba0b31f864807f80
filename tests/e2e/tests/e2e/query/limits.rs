//! Deadlines, and what happens when too many ask.

use crate::rig::{GRANTS, Hand, healthy};
use penstock_testkit::daemon::{Daemon, Setup};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A plugin that takes two seconds for a lookup, and then is ended for it.
const SLOW: &str = "[limits]
deadline_ms = 2000
[config]
fault = \"loop\"
in = \"find\"
";

fn start(queue: &str) -> (Hand, Daemon) {
    let engine = Hand::start();
    let setup = Setup::new()
        .variable("PENSTOCK_QUERY__QUEUE", queue)
        .plugin("slow", "faulty", &format!("{GRANTS}{SLOW}"));
    let daemon = engine.source(setup, "e").start();
    let last = engine.store(&[1, 2, 3, 4], &[1]);
    daemon.wait_for("e", 0, last);
    (engine, daemon)
}

#[test]
fn a_late_plugin_does_not_hold_whoever_asks() {
    let (_engine, daemon) = start("1024");
    let url = format!("{}/query", daemon.http);
    let body = json!({"token_ids": [1], "model_name": "m", "deadline_ms": 200});
    let since = Instant::now();
    let sent = ureq::post(url)
        .config()
        .http_status_as_error(false)
        .build()
        .send_json(&body);
    let mut reply = sent.unwrap();
    let took = since.elapsed();
    let error: Value = reply.body_mut().read_json().unwrap();
    assert_eq!(
        (reply.status().as_u16(), &error["code"]),
        (504, &json!("deadline"))
    );
    assert!(took < Duration::from_millis(1_500), "{took:?}");

    let dealer = zmq::Context::new().socket(zmq::DEALER).unwrap();
    dealer.set_rcvtimeo(10_000).unwrap();
    dealer.connect(&daemon.zmq).unwrap();
    let body = body.to_string();
    dealer.send_multipart([b"", body.as_bytes()], 0).unwrap();
    let reply = dealer.recv_multipart(0).unwrap();
    let error: Value = serde_json::from_slice(&reply[1]).unwrap();
    assert_eq!(error["code"], "deadline", "{error}");
    assert!(healthy(&daemon));
}

#[test]
fn above_the_bound_it_is_busy_and_nobody_is_forgotten() {
    let (_engine, daemon) = start("3");
    let dealer = zmq::Context::new().socket(zmq::DEALER).unwrap();
    dealer.set_rcvtimeo(20_000).unwrap();
    dealer.connect(&daemon.zmq).unwrap();
    let many = 20;
    for id in 0..many {
        let body = json!({"id": id, "token_ids": [1], "model_name": "m", "deadline_ms": 1_000});
        let body = body.to_string();
        dealer.send_multipart([b"", body.as_bytes()], 0).unwrap();
    }
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    let mut ids: Vec<u64> = Vec::new();
    for _ in 0..many {
        let reply = dealer.recv_multipart(0).unwrap();
        let reply: Value = serde_json::from_slice(&reply[1]).unwrap();
        ids.push(reply["id"].as_u64().unwrap());
        let code = reply["code"].as_str().unwrap_or("answered");
        *codes.entry(code.into()).or_default() += 1;
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..many).collect::<Vec<_>>(), "one reply each");
    assert_eq!(codes.get("busy"), Some(&17), "{codes:?}");
    assert_eq!(codes.get("deadline"), Some(&3), "{codes:?}");
    assert!(daemon.metric("penstock_query_requests_total") >= 20.0);
}
