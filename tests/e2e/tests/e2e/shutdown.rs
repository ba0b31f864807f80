//! The end of the daemon, and of engines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use penstock_peer::engine::Command;
use penstock_testkit::binary;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::judge::prefixes;
use penstock_testkit::peers::{Peers, recording, tracing};
use penstock_testkit::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the end may take.
const END: Duration = Duration::from_secs(5);

const FORWARD: &str = "grants = [\"log\", \"metrics\", \"publish\"]\n";

#[test]
fn under_load_it_drains_and_ends_in_time() {
    let names = ["engine-0", "engine-1"];
    let mut config = tracing(2, 2_000);
    config.rate = 1_000.0;
    let peers = Peers::start(config);
    let file = format!("{FORWARD}[sink.out]\nkind = \"file\"\npath = \"out.jsonl\"\n");
    let mut setup = Setup::new()
        .plugin("prefix-index", "prefix-index", "")
        .plugin("forward", "forward", &file);
    for (engine, name) in names.iter().enumerate() {
        let replay = peers.replay(engine);
        setup = setup.source(name, &peers.endpoint(engine), replay.as_deref());
    }
    let mut daemon = setup.start();
    (0..2).for_each(|engine| peers.command(engine, Command::Resume));
    for name in names {
        daemon.wait_for(name, 0, 1_000);
    }
    let plugin = daemon.plugin("forward").unwrap();
    let begun = Instant::now();
    daemon.process.signal("TERM");
    let status = daemon.process.wait(END);
    let took = begun.elapsed();
    assert!(status.success(), "{status} after {took:?}");
    let output = daemon.process.output();
    assert!(output.contains("drained in"), "{output}");
    assert!(!output.contains("not sent"), "{output}");
    (0..2).for_each(|engine| peers.command(engine, Command::Pause));

    // Whatever the plugin had applied is there, once, in order and as published.
    let text = std::fs::read_to_string(daemon.path("out.jsonl")).unwrap();
    assert!(text.ends_with('\n'), "the last line is whole");
    let mut next = BTreeMap::from(names.map(|name| (name.to_string(), 0)));
    let oracle = peers.oracle(&names);
    let log: BTreeMap<_, Vec<_>> = names
        .iter()
        .map(|name| (*name, oracle.published(name).map(|(.., p)| p).collect()))
        .collect();
    let mut all = 0;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let name = line["source"].as_str().unwrap();
        let next = next.get_mut(name).unwrap();
        assert_eq!(line["sequence"], *next, "{name}");
        let payload = STANDARD.decode(line["payload"].as_str().unwrap()).unwrap();
        assert!(payload == log[name][*next], "{name} {next}");
        *next += 1;
        all += 1;
    }
    assert!(
        all >= plugin.batches,
        "{all} lines, {} applied",
        plugin.batches
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let peers = Peers::start(recording("vllm-0.32.0-engine"));
    // Nobody listens there, so that the drain takes as long as it may.
    let stuck = "[sink.out]\nkind = \"zmq-push\"\nendpoint = \"tcp://127.0.0.1:9\"\n\
                 hwm = 1\nfull_wait_ms = 600000\n";
    let mut daemon = Setup::new()
        .config("drain_ms = 60000\n")
        .source("engine", &peers.endpoint(0), peers.replay(0).as_deref())
        .plugin("forward", "forward", &format!("{FORWARD}{stuck}"))
        .start();
    peers.burst(0, 50);
    wait::until("batches at the sink", PATIENCE, || {
        (daemon.plugin("forward")?.batches == 50).then_some(())
    });
    daemon.process.signal("TERM");
    wait::until("the drain", PATIENCE, || daemon.process.line("draining"));
    assert_eq!(daemon.process.ended(), None);
    daemon.process.signal("TERM");
    let status = daemon.process.wait(END);
    assert_eq!(status.code(), Some(130), "{status}");
}

/// The CLI's answer for a prompt.
fn ask(daemon: &Daemon, tokens: &[u32], more: &[&str]) -> Value {
    let tokens: Vec<_> = tokens.iter().map(u32::to_string).collect();
    let output = std::process::Command::new(binary())
        .args(["query", "--json", "--model", "m", "--http", &daemon.http])
        .args(["--tokens", &tokens.join(",")])
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn dead_engines_grow_stale_then_leave_and_come_back() {
    let peers = [recording("vllm-0.32.0-engine"), recording("vllm-0.9.2")].map(Peers::start);
    let names = ["living", "dead"];
    let mut setup = Setup::new()
        .config("[ingest]\nstale_after_ms = 300\nleave_after_ms = 4000\n")
        .plugin("prefix-index", "prefix-index", "");
    for (name, peers) in names.iter().zip(&peers) {
        setup = setup.source(name, &peers.endpoint(0), peers.replay(0).as_deref());
    }
    let daemon = setup.start();
    for (name, peers) in names.iter().zip(&peers) {
        peers.burst(0, 30);
        daemon.wait_for(name, 0, 29);
    }
    let prompt = &prefixes(&peers[0].oracle(&["living"]), "living", 100)[20].tokens;
    let holders = |more: &[&str]| -> Vec<String> {
        let answer = ask(&daemon, prompt, more);
        let scores = answer["scores"].as_object().unwrap();
        scores.keys().cloned().collect()
    };
    assert_eq!(holders(&[]), ["dead", "living"]);

    peers[1].kill(0);
    let link = |wanted: &str| {
        wait::until(wanted, PATIENCE, || {
            (daemon.source("dead")?.link == wanted).then_some(())
        });
    };
    link("stale");
    // In this order: what is stale when the second is answered was so at the first.
    let (without, with) = (holders(&[]), holders(&["--stale"]));
    assert_eq!(daemon.source("dead").unwrap().link, "stale");
    assert_eq!(without, ["living"]);
    assert_eq!(with, ["dead", "living"]);
    let answer = ask(&daemon, prompt, &["--stale"]);
    assert_eq!(answer["positions"]["dead"]["link"], "stale");

    link("left");
    assert_eq!(holders(&["--stale"]), ["living"]);
    // An engine's death says nothing of the daemon.
    assert!(daemon.ready());
    let status = daemon.status();
    assert!(status.ready.ready && status.health.ok, "{status:?}");

    peers[1].restart(0);
    peers[1].burst(0, 30);
    wait::until("the engine in the answers again", PATIENCE, || {
        (holders(&[]) == ["dead", "living"]).then_some(())
    });
    assert_eq!(daemon.source("dead").unwrap().link, "live");
    assert!(daemon.stop().success());
}

#[test]
fn health_and_readiness_need_no_engine() {
    let daemon = Setup::new()
        .source("nobody", "tcp://127.0.0.1:9", None)
        .start();
    for path in ["health", "ready"] {
        let answer = ureq::get(format!("{}/{path}", daemon.http)).call().unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    assert_eq!(daemon.source("nobody").unwrap().link, "connecting");
    assert!(daemon.stop().success());

    let daemon = Setup::new().start();
    assert!(daemon.process.line("no sources yet").is_some());
    assert!(daemon.stop().success());
}

#[test]
fn a_plugin_that_hangs_does_not_hold_the_end() {
    let peers = Peers::start(recording("vllm-0.32.0-engine"));
    let hangs = "grants = [\"log\", \"metrics\", \"publish\", \"clock\", \"emit\"]
[limits]
deadline_ms = 600000
[config]
fault = \"loop\"
after = 5
";
    let mut daemon = Setup::new()
        .source("engine", &peers.endpoint(0), peers.replay(0).as_deref())
        .plugin("hangs", "faulty", hangs)
        .start();
    peers.burst(0, 20);
    wait::until("a call that hangs", PATIENCE, || {
        let plugin = daemon.plugin("hangs")?;
        (plugin.queue_items > 0).then_some(())
    });
    daemon.process.signal("TERM");
    let status = daemon.process.wait(END);
    assert!(status.success(), "{status}");
}
