//! A real engine's stream over real sockets, with frames lost on purpose: the index
//! equals the oracle, or the answers say that they are incomplete.

use penstock_peer::endpoint::Side;
use penstock_peer::engine::EngineConfig;
use penstock_peer::faults::Faults;
use penstock_peer::replay::Framing;
use penstock_query::SourceStatus;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::judge::{Verdict, judge, prefixes};
use penstock_testkit::oracle::Oracle;
use penstock_testkit::peers::{Peers, losing, recording, select};
use penstock_testkit::wait;

const NAME: &str = "engine";

/// The middle and the tail of the first 60 batches.
const LOST: &str = "10-14,40,55-59";

fn engine() -> EngineConfig {
    recording("vllm-0.32.0-engine")
}

fn daemon(peers: &Peers) -> Daemon {
    // Old engines answer every replay anew, so patience is what costs time here.
    let setup = Setup::new().config("[ingest]\ntail_after_ms = 300\nreplay_wait_ms = 500\n");
    let replay = peers.replay(0);
    setup
        .source(NAME, &peers.endpoint(0), replay.as_deref())
        .plugin("prefix-index", "prefix-index", "")
        .start()
}

fn check(daemon: &Daemon, peers: &Peers) -> Verdict {
    check_life(daemon, peers, 0)
}

/// As the source's life after so many others.
fn check_life(daemon: &Daemon, peers: &Peers, life: usize) -> Verdict {
    let mut oracle = Oracle::default();
    for (_, sequence, payload) in peers.oracle(&[NAME]).published(NAME) {
        oracle.publish(NAME, life, sequence, payload.to_vec());
    }
    let asked = prefixes(&oracle, NAME, usize::MAX);
    judge(daemon, &mut oracle, NAME, &asked)
}

fn source(daemon: &Daemon) -> SourceStatus {
    daemon.source(NAME).unwrap()
}

fn gaps(source: &SourceStatus) -> Vec<(u64, u64)> {
    let gaps = source.incidents.iter().filter(|i| i.kind == "gap");
    gaps.map(|gap| (gap.first, gap.last)).collect()
}

#[test]
fn what_is_lost_is_replayed_and_a_restart_begins_anew() {
    let mut config = engine();
    config.publisher.faults = losing(LOST);
    let peers = Peers::start(config);
    let daemon = daemon(&peers);
    peers.burst(0, 60);
    daemon.wait_for(NAME, 0, 59);
    check(&daemon, &peers).assert_equal(500);
    let before = source(&daemon);
    assert!(before.complete && before.verified, "{before:?}");
    assert!(before.totals["gaps"] >= 1, "{before:?}");
    assert_eq!(before.totals["gaps_filled"], before.totals["gaps"]);
    assert_eq!((before.totals["missing"], gaps(&before)), (0, vec![]));

    let (stream, replay) = (peers.endpoint(0), peers.replay(0));
    peers.kill(0);
    wait::until("the loss of the engine", PATIENCE, || {
        (source(&daemon).link == "down").then_some(())
    });
    // What it held before it went is still answered.
    check(&daemon, &peers).assert_equal(500);

    // It comes back as an older release: the same events, in other bytes.
    drop(peers);
    let mut config = recording("vllm-0.9.2");
    config.publisher.endpoint = stream;
    config.publisher.side = Side::Bind;
    config.publisher.replay = replay;
    config.publisher.faults = losing(LOST);
    let peers = Peers::start(config);
    peers.burst(0, 100);
    daemon.wait_for(NAME, 1, 99);
    let verdict = check_life(&daemon, &peers, 1);
    verdict.assert_equal(500);
    assert_eq!(verdict.position, Some((1, 99)));
    assert_eq!(source(&daemon).totals["restarts"], 1);

    // The last batch of the recording clears all and stores anew.
    let last = peers.burst(0, 7);
    daemon.wait_for(NAME, 1, last);
    let after = check_life(&daemon, &peers, 1);
    after.assert_equal(1);
    assert_eq!(after.position, Some((1, 106)));
    assert!(daemon.stop().success());
}

#[test]
fn older_engines_replay_without_a_topic() {
    let mut config = engine();
    config.publisher.framing = Framing::Old;
    config.publisher.faults = losing(LOST);
    let peers = Peers::start(config);
    let daemon = daemon(&peers);
    peers.burst(0, 60);
    daemon.wait_for(NAME, 0, 59);
    check(&daemon, &peers).assert_equal(500);
    assert_eq!(gaps(&source(&daemon)), []);
    assert!(daemon.stop().success());
}

#[test]
fn without_replay_gaps_are_reported_and_nothing_is_verified() {
    let mut config = engine();
    config.publisher.replay = None;
    config.publisher.faults = losing("50,70-72");
    let peers = Peers::start(config);
    let daemon = daemon(&peers);
    peers.burst(0, 50);
    daemon.wait_for(NAME, 0, 49);
    let verdict = check(&daemon, &peers);
    verdict.assert_equal(500);
    assert_eq!(verdict.unverified, verdict.checked);

    peers.burst(0, 40);
    daemon.wait_for(NAME, 0, 89);
    let after = source(&daemon);
    assert!(!after.verified && !after.complete, "{after:?}");
    assert_eq!(gaps(&after), [(50, 50), (70, 72)]);
    assert_eq!(after.totals["missing"], 4);
    let verdict = check(&daemon, &peers);
    assert!(verdict.incomplete > 0, "{verdict:?}");
    assert_eq!(verdict.checked, 0, "no answer claims to be complete");
    assert!(daemon.stop().success());
}

#[test]
fn what_replays_leave_out_too_is_reported_missing() {
    let mut config = engine();
    config.publisher.faults = Faults {
        drop_live: select("10-14,40,55-59"),
        hide_from_replay: select("12-13,40"),
        ..Faults::default()
    };
    let peers = Peers::start(config);
    let daemon = daemon(&peers);
    peers.burst(0, 60);
    daemon.wait_for(NAME, 0, 59);
    let after = source(&daemon);
    assert_eq!(gaps(&after), [(12, 13), (40, 40)]);
    assert_eq!(after.totals["missing"], 3);
    assert!(after.verified && !after.complete, "{after:?}");
    let verdict = check(&daemon, &peers);
    assert!(
        verdict.incomplete > 0 && verdict.checked == 0,
        "{verdict:?}"
    );

    // A clear ends what may be wrong.
    let last = peers.burst(0, 47);
    daemon.wait_for(NAME, 0, last);
    check(&daemon, &peers).assert_equal(0);
    assert!(daemon.stop().success());
}

#[test]
fn an_engine_heard_by_replay_alone_is_followed_nonetheless() {
    let peers = Peers::start(engine());
    let (endpoint, replay) = (peers.endpoint(0), peers.replay(0).unwrap());
    let file = format!(
        "[[sources]]\nname = \"{NAME}\"\nmodel = \"m\"\nendpoint = \"{endpoint}\"\n\
         replay = \"{replay}\"\ntopics = [\"of another engine\"]\n"
    );
    let daemon = Setup::new()
        .config(&file)
        .variable("PENSTOCK_INGEST__TAIL_AFTER_MS", "20")
        .plugin("prefix-index", "prefix-index", "")
        .start();
    for last in [19, 39, 59] {
        // Each time it looks silent, and longer than before.
        peers.burst(0, 20);
        daemon.wait_for(NAME, 0, last);
    }
    assert_eq!(source(&daemon).totals["messages"], 0, "none came live");
    check(&daemon, &peers).assert_equal(500);
    assert!(daemon.stop().success());
}
