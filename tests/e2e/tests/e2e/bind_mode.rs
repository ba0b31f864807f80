//! A source that binds: engines connect to it, and each topic is a source.

use penstock_peer::endpoint::Side;
use penstock_peer::engine::EngineConfig;
use penstock_query::SourceStatus;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::judge::{judge, prefixes};
use penstock_testkit::peers::{Peers, tracing};
use penstock_testkit::wait;

/// A daemon with a source that binds, and an address where it does.
fn daemon() -> (Daemon, String) {
    let setup = Setup::new().plugin("prefix-index", "prefix-index", "");
    let socket = setup.home.path().join("engines.ipc");
    let endpoint = format!("ipc://{}", socket.display());
    let node = format!(
        "[[sources]]\nname = \"node\"\nmode = \"bind\"\nendpoint = \"{endpoint}\"\nmodel = \"m\"\n"
    );
    (setup.config(&node).start(), endpoint)
}

fn engine(endpoint: &str, topic: &str, seed: u64) -> Peers {
    let mut config: EngineConfig = tracing(1, 1_000);
    if let penstock_peer::engine::Source::Trace { workload, .. } = &mut config.source {
        workload.seed = seed;
    }
    config.publisher.endpoint = endpoint.into();
    config.publisher.side = Side::Connect;
    config.publisher.replay = None;
    config.publisher.topic = topic.into();
    Peers::start(config)
}

fn source(daemon: &Daemon, name: &str) -> Option<SourceStatus> {
    daemon.source(name)
}

#[test]
fn topics_of_engines_that_connect_are_sources() {
    let (daemon, endpoint) = daemon();
    let topics = ["kv@one@m", "kv@two@m"];
    let engines = [
        engine(&endpoint, topics[0], 1),
        engine(&endpoint, topics[1], 2),
    ];
    let last = [engines[0].burst(0, 60), engines[1].burst(0, 90)];
    for ((topic, peers), last) in topics.iter().zip(&engines).zip(last) {
        let name = format!("node/{topic}");
        wait::until("the topic's source", PATIENCE, || source(&daemon, &name));
        daemon.wait_for(&name, 0, last);
        let mut oracle = peers.oracle(&[&name]);
        let asked = prefixes(&oracle, &name, 150);
        let verdict = judge(&daemon, &mut oracle, &name, &asked);
        verdict.assert_equal(50);
        assert_eq!(verdict.unverified, verdict.checked, "nobody replays there");
        let status = source(&daemon, &name).unwrap();
        assert_eq!(status.totals["batches"], last + 1, "{status:?}");
        let odd = status.totals["two_publishers"] + status.totals["restarts"];
        assert_eq!(odd, 0, "{status:?}");
    }
    let learnt = daemon.control().sources().unwrap();
    let learnt: Vec<_> = learnt.iter().filter(|s| s.name.contains('/')).collect();
    assert_eq!(learnt.len(), 2, "{learnt:?}");
    assert!(daemon.stop().success());
}

#[test]
fn two_publishers_on_one_topic_are_told_and_are_no_restart() {
    let (daemon, endpoint) = daemon();
    let name = "node/kv@one@m";
    let first = engine(&endpoint, "kv@one@m", 1);
    first.burst(0, 100);
    daemon.wait_for(name, 0, 99);
    let second = engine(&endpoint, "kv@one@m", 2);
    for round in 1..=10 {
        second.burst(0, 5);
        // In turns: a long silence of the first would look like its restart.
        first.burst(0, 5);
        daemon.wait_for(name, 0, 99 + 5 * round);
    }
    let status = wait::until("word of the second publisher", PATIENCE, || {
        let status = source(&daemon, name)?;
        (status.totals["two_publishers"] > 0).then_some(status)
    });
    assert_eq!(status.totals["restarts"], 0, "{status:?}");
    assert_eq!(status.totals["batches"], 150, "{status:?}");
    wait::until("a line in the log", PATIENCE, || {
        daemon.process.line("two publishers")
    });
    assert!(!status.complete, "half of what is published is left out");
    let mut oracle = first.oracle(&[name]);
    let asked = prefixes(&oracle, name, 150);
    let verdict = judge(&daemon, &mut oracle, name, &asked);
    assert!(
        verdict.incomplete >= 150 && verdict.checked == 0,
        "{verdict:?}"
    );
    assert!(daemon.stop().success());
}
