//! The daemon stands still for thirty seconds under load and goes on: libzmq does
//! not abort, and what its queues could not hold is had from the engines' replay,
//! or reported.

use penstock_peer::engine::{Command, EngineConfig};
use penstock_testkit::daemon::{PATIENCE, Setup};
use penstock_testkit::judge::{judge, prefixes};
use penstock_testkit::peers::{Peers, tracing};
use penstock_testkit::wait;
use std::time::{Duration, Instant};

const STALL: Duration = Duration::from_secs(30);

/// Batches a second and engine.
const RATE: u64 = 200;

/// An engine whose queues are soon full, with so many batches for replay.
fn engine(kept: usize) -> EngineConfig {
    let mut config = tracing(1, 2_000);
    config.rate = RATE as f64;
    config.publisher.hwm = 200;
    config.publisher.buffer_batches = kept;
    config
}

#[test]
fn thirty_seconds_of_standstill_cost_nothing_unreported() {
    let mut forgetful = engine(200);
    // What the system's socket buffers hold must not save it.
    forgetful.publisher.hwm = 10;
    let mut mute = engine(0);
    mute.publisher.replay = None;
    let all = [
        ("patient", Peers::start(engine(20_000))),
        ("forgetful", Peers::start(forgetful)),
        ("mute", Peers::start(mute)),
    ];
    let mut setup = Setup::new().config("[ingest]\nreceive_hwm = 100\n").plugin(
        "prefix-index",
        "prefix-index",
        "",
    );
    for (name, peers) in &all {
        setup = setup.source(name, &peers.endpoint(0), peers.replay(0).as_deref());
    }
    let mut daemon = setup.start();
    for (name, peers) in &all {
        peers.burst(0, 50);
        daemon.wait_for(name, 0, 49);
        peers.command(0, Command::Resume);
    }

    daemon.process.signal("STOP");
    let begun = Instant::now();
    let goal = 50 + RATE * STALL.as_secs() * 8 / 10;
    wait::until("thirty seconds of load", 3 * STALL, || {
        let busy = all.iter().all(|(_, peers)| peers.last(0) >= goal);
        (busy && begun.elapsed() >= STALL).then_some(())
    });
    daemon.process.signal("CONT");
    for (_, peers) in &all {
        peers.command(0, Command::Pause);
    }
    for (name, peers) in &all {
        // Queues that are still full lose the next batch as well, and nobody can ask
        // an engine without replay what its last one was: it goes on until one arrives.
        let last = wait::until("the last batch", PATIENCE, || {
            let last = peers.burst(0, 1);
            let there = || {
                let at = daemon.source(name)?.position?;
                (at.sequence == last).then_some(last)
            };
            wait::within(Duration::from_secs(3), there)
        });
        daemon.wait_for(name, 0, last);
        let source = daemon.source(name).unwrap();
        let gaps = source.incidents.iter().filter(|i| i.kind == "gap");
        let missing: u64 = gaps.map(|gap| gap.last - gap.first + 1).sum();
        let (totals, delivered) = (&source.totals, source.totals["batches"]);
        // Nothing is lost without being reported, and nothing comes twice.
        assert_eq!(delivered + missing, last + 1, "{source:?}");
        assert_eq!(missing, totals["missing"], "{source:?}");
        assert_eq!(totals["restarts"], 0, "{source:?}");
        assert_eq!(source.complete, missing == 0, "{source:?}");

        let mut oracle = peers.oracle(&[name]);
        let asked = prefixes(&oracle, name, 200);
        let verdict = judge(&daemon, &mut oracle, name, &asked);
        match *name {
            "patient" => {
                assert!(totals["replayed"] > 0, "the stall lost nothing: {source:?}");
                verdict.assert_equal(50);
            }
            _ => {
                assert!(missing > 0, "the stall lost nothing: {source:?}");
                assert!(
                    verdict.incomplete > 0 && verdict.checked == 0,
                    "{verdict:?}"
                );
            }
        }
    }
    assert_eq!(daemon.process.ended(), None, "it was stopped, and goes on");
    assert!(daemon.stop().success());
}
