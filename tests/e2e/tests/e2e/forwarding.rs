//! What leaves through sinks: a second daemon behind the first one, a PULL socket,
//! files; filtered, renamed and encoded anew.

use crate::lossy::Proxy;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::judge::{judge, prefixes};
use penstock_testkit::oracle::{Event, Oracle, events};
use penstock_testkit::peers::{Peers, losing, recording, tracing};
use penstock_testkit::wait;
use serde_json::Value;
use std::time::Duration;

const NAME: &str = "engine";

/// The forward plugin's file.
fn forward(config: &str, sink: &str) -> String {
    format!(
        "grants = [\"log\", \"metrics\", \"publish\"]\n[config]\n{config}\n[sink.out]\n{sink}\n"
    )
}

fn daemon(peers: &Peers, plugins: &[(&str, String)]) -> Daemon {
    let replay = peers.replay(0);
    let mut setup = Setup::new().source(NAME, &peers.endpoint(0), replay.as_deref());
    for (name, toml) in plugins {
        setup = setup.plugin(name, "forward", toml);
    }
    setup.start()
}

fn sink(daemon: &Daemon, plugin: &str) -> Value {
    daemon.plugin(plugin).unwrap().sinks["out"].clone()
}

/// The lines of a file sink once there are `count`.
fn lines(daemon: &Daemon, file: &str, count: usize) -> Vec<Value> {
    let lines = || {
        let text = std::fs::read_to_string(daemon.path(file)).ok()?;
        let lines: Vec<_> = text.lines().map(str::to_string).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    };
    let lines = wait::until("the lines of a file", PATIENCE, lines);
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn payload(line: &Value) -> Vec<u8> {
    STANDARD.decode(line["payload"].as_str().unwrap()).unwrap()
}

/// The source's log: sequence and payload.
fn published(oracle: &Oracle) -> Vec<(u64, Vec<u8>)> {
    let all = oracle.published(NAME);
    all.map(|(_, sequence, payload)| (sequence, payload.to_vec()))
        .collect()
}

#[test]
fn a_second_daemon_behind_a_lossy_way_ends_with_an_equal_index() {
    let mut config = tracing(1, 1_000);
    config.publisher.faults = losing("every:37");
    let peers = Peers::start(config);
    let to = "kind = \"zmq-pub\"\nendpoint = \"tcp://127.0.0.1:*\"\nreplay = \"tcp://127.0.0.1:*\"";
    let first = daemon(&peers, &[("forward", forward("mode = \"raw\"", to))]);
    let at = sink(&first, "forward");
    let field = |key: &str| at[key].as_str().unwrap().to_string();
    // In the middle and, while nothing follows, at the end.
    let proxy = Proxy::start(&field("endpoint"), "50-60,100,150-153,297-299");
    let second = Setup::new()
        .source(NAME, &proxy.endpoint, Some(&field("replay_endpoint")))
        .plugin("prefix-index", "prefix-index", "")
        .start();
    wait::until("the way from one to the other", PATIENCE, || {
        let there = sink(&first, "forward")["subscriptions"].as_u64() > Some(0);
        (there && proxy.subscribed()).then_some(())
    });
    for _ in 0..3 {
        let last = peers.burst(0, 100);
        first.wait_for(NAME, 0, last);
        second.wait_for(NAME, 0, last);
        let mut oracle = peers.oracle(&[NAME]);
        let asked = prefixes(&oracle, NAME, 200);
        judge(&second, &mut oracle, NAME, &asked).assert_equal(50);
    }
    assert_eq!(proxy.dropped(), 11 + 1 + 4 + 3);
    let source = second.source(NAME).unwrap();
    assert!(source.totals["gaps_filled"] >= 3, "{source:?}");
    assert_eq!(source.totals["missing"], 0, "{source:?}");
    assert_eq!(source.totals["batches"], 300, "{source:?}");
    assert!(second.stop().success() && first.stop().success());
}

#[test]
fn a_collector_pulls_every_batch_with_its_position() {
    let peers = Peers::start(recording("vllm-0.32.0-engine"));
    let pull = zmq::Context::new().socket(zmq::PULL).unwrap();
    pull.set_rcvtimeo(PATIENCE.as_millis() as i32).unwrap();
    pull.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = pull.get_last_endpoint().unwrap().unwrap();
    let to = format!("kind = \"zmq-push\"\nendpoint = \"{endpoint}\"");
    let topic = "topic = \"{instance}/{epoch}/{sequence}\"";
    let daemon = daemon(&peers, &[("forward", forward(topic, &to))]);
    peers.burst(0, 107);
    let published = published(&peers.oracle(&[NAME]));
    for (sequence, payload) in &published {
        let frames = pull.recv_multipart(0).unwrap();
        assert_eq!(frames.len(), 4);
        let topic = format!("{NAME}/0/{sequence}");
        assert_eq!(String::from_utf8_lossy(&frames[0]), topic);
        assert_eq!(frames[1], sequence.to_be_bytes());
        assert_eq!(frames[2], *payload);
        let mut position = frames[3].as_slice();
        assert_eq!(rmp::decode::read_array_len(&mut position).unwrap(), 3);
        let mut name = [0; 32];
        let name = rmp::decode::read_str(&mut position, &mut name).unwrap();
        assert_eq!(name, NAME);
        let number = |from: &mut &[u8]| rmp::decode::read_int::<u64, _>(from).unwrap();
        assert_eq!(number(&mut position), 0);
        assert_eq!(number(&mut position), *sequence);
    }
    wait::until("the count of what was sent", PATIENCE, || {
        (sink(&daemon, "forward")["sent"] == 107).then_some(())
    });
    let more = pull.poll(zmq::POLLIN, 0).unwrap();
    assert_eq!((published.len(), more), (107, 0));
    assert!(daemon.stop().success());
}

#[test]
fn files_hold_what_passes_each_filter() {
    let peers = Peers::start(recording("vllm-0.32.0-engine"));
    let file = |name: &str| format!("kind = \"file\"\npath = \"{name}.jsonl\"");
    let daemon = daemon(
        &peers,
        &[
            ("raw", forward("", &file("raw"))),
            ("anew", forward("mode = \"encode\"", &file("anew"))),
            ("stored", forward("kinds = [\"stored\"]", &file("stored"))),
            ("ours", forward("models = [\"m\"]", &file("ours"))),
            ("others", forward("models = [\"other\"]", &file("others"))),
        ],
    );
    peers.burst(0, 107);
    let published = published(&peers.oracle(&[NAME]));

    for file in ["raw.jsonl", "ours.jsonl"] {
        let lines = lines(&daemon, file, 107);
        let got: Vec<_> = lines
            .iter()
            .map(|line| (line["sequence"].as_u64().unwrap(), payload(line)))
            .collect();
        assert_eq!(got, published, "{file}");
        let topic = format!("kv@{NAME}@m");
        let fine = |l: &Value| l["source"] == NAME && l["epoch"] == 0 && l["topic"] == *topic;
        assert!(lines.iter().all(fine), "{file}");
    }

    let anew = lines(&daemon, "anew.jsonl", 107);
    assert_eq!(anew.len(), 107);
    for (line, (sequence, original)) in anew.iter().zip(&published) {
        assert_eq!(line["sequence"], *sequence);
        assert_eq!(events(&payload(line)), events(original), "{sequence}");
    }

    let stores = |payload: &[u8]| {
        let mut events = events(payload);
        events.retain(|event| matches!(event, Event::Stored(_)));
        events
    };
    let mut wanted: Vec<_> = published
        .iter()
        .map(|(sequence, payload)| (*sequence, stores(payload)))
        .collect();
    wanted.retain(|(_, stores)| !stores.is_empty());
    let stored = lines(&daemon, "stored.jsonl", wanted.len());
    let got: Vec<_> = stored
        .iter()
        .map(|line| (line["sequence"].as_u64().unwrap(), events(&payload(line))))
        .collect();
    assert_eq!(got, wanted);

    wait::until("all plugins", PATIENCE, || {
        let plugins = daemon.control().plugins().unwrap();
        plugins.iter().all(|p| p.batches == 107).then_some(())
    });
    let others = std::fs::read(daemon.path("others.jsonl")).unwrap();
    assert!(others.is_empty(), "no source serves that model");
    assert!(daemon.stop().success());
}

#[test]
fn a_sink_that_nobody_reads_counts_and_does_not_hold_the_end() {
    let peers = Peers::start(recording("vllm-0.32.0-engine"));
    // Nobody listens there, and one message fills the way.
    let to = "kind = \"zmq-push\"\nendpoint = \"tcp://127.0.0.1:9\"\nhwm = 1\n\
              full_wait_ms = 600000";
    let mut daemon = daemon(&peers, &[("forward", forward("", to))]);
    peers.burst(0, 107);
    let taken = wait::until("a full sink", PATIENCE, || {
        let sink = sink(&daemon, "forward");
        let (sent, queued) = (sink["sent"].as_u64()?, sink["queued"].as_u64()?);
        (sent >= 1 && queued >= 100 && sent + queued == 107).then_some(sent)
    });
    daemon.process.signal("TERM");
    let status = daemon.process.wait(Duration::from_secs(5));
    assert!(status.success(), "{status}");
    let output = daemon.process.output();
    let lost = format!("{} message(s) not sent", 107 - taken);
    assert!(output.contains(&lost), "{lost}: {output}");
}
