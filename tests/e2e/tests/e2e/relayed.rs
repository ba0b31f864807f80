//! What a second daemon learns of an engine behind the first one, beside batches:
//! that the engine lost its cache, and that batches never came.

use penstock_peer::engine::Command;
use penstock_peer::faults::Faults;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::judge::{judge, prefixes};
use penstock_testkit::oracle::Oracle;
use penstock_testkit::peers::{Peers, select, tracing};
use penstock_testkit::wait;

const NAME: &str = "engine";

const FORWARD: &str = "grants = [\"log\", \"metrics\", \"publish\"]
[sink.out]
kind = \"zmq-pub\"
endpoint = \"tcp://127.0.0.1:*\"
replay = \"tcp://127.0.0.1:*\"
";

/// A daemon that forwards the engine, and one behind it that indexes what comes.
fn chain(peers: &Peers) -> (Daemon, Daemon) {
    let first = Setup::new()
        .source(NAME, &peers.endpoint(0), peers.replay(0).as_deref())
        .plugin("forward", "forward", FORWARD)
        .start();
    let at = first.plugin("forward").unwrap().sinks["out"].clone();
    let field = |key: &str| at[key].as_str().unwrap().to_string();
    let second = Setup::new()
        .source(NAME, &field("endpoint"), Some(&field("replay_endpoint")))
        .plugin("prefix-index", "prefix-index", "")
        .start();
    wait::until("the way from one to the other", PATIENCE, || {
        let sink = first.plugin("forward")?.sinks["out"].clone();
        (sink["subscriptions"].as_u64() > Some(0)).then_some(())
    });
    (first, second)
}

#[test]
fn an_engine_that_restarts_is_empty_there_too() {
    let peers = Peers::start(tracing(1, 1_000));
    let (first, second) = chain(&peers);
    peers.burst(0, 60);
    first.wait_for(NAME, 0, 59);
    second.wait_for(NAME, 0, 59);
    peers.command(
        0,
        Command::Restart {
            first_sequence: 0,
            wait_subscribers: 1,
        },
    );
    peers.burst(0, 40);
    first.wait_for(NAME, 1, 39);
    // For the second it is one stream: 60 batches, a clear, 40 batches.
    second.wait_for(NAME, 0, 100);
    let engine = peers.oracle(&[NAME]);
    let mut now = Oracle::default();
    let mut at = 61;
    for (_, _, payload) in engine.published(NAME).filter(|(life, ..)| *life == 1) {
        now.publish(NAME, 0, at, payload.to_vec());
        at += 1;
    }
    assert_eq!(at, 101);
    // Prefixes of its first life are asked for as well.
    let asked = prefixes(&engine, NAME, 300);
    judge(&second, &mut now, NAME, &asked).assert_equal(50);
    assert!(second.stop().success() && first.stop().success());
}

#[test]
fn batches_that_never_came_are_missing_there_too() {
    let mut config = tracing(1, 1_000);
    config.publisher.faults = Faults {
        drop_live: select("20-22"),
        hide_from_replay: select("20-22"),
        ..Faults::default()
    };
    let peers = Peers::start(config);
    let (first, second) = chain(&peers);
    peers.burst(0, 60);
    first.wait_for(NAME, 0, 59);
    // 57 batches, and a number that stands for those three.
    second.wait_for(NAME, 0, 57);
    let (here, there) = (first.source(NAME).unwrap(), second.source(NAME).unwrap());
    assert_eq!((here.complete, here.totals["missing"]), (false, 3));
    assert_eq!((there.complete, there.totals["missing"]), (false, 1));
    assert_eq!(there.totals["batches"], 57);
    assert!(second.stop().success() && first.stop().success());
}
