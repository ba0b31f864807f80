//! Lanes: one that is full concerns nobody but its own plugin.

use crate::rig::{CALM, GRANTS, Traced, handled, plugin_when, query, request, series};
use penstock_event::By;
use penstock_query::client::HttpClient;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::wait;
use std::sync::Arc;

/// A plugin with a small lane that may take its time: a call is ended after 20 s.
fn slow(when_full: &str) -> String {
    format!(
        "{GRANTS}when_full = \"{when_full}\"
lane_bytes = 65536
[limits]
deadline_ms = 20000
hostcall_bytes = 1073741824
"
    )
}

/// Each batch takes it a long while from now on; or no longer.
fn dawdle(daemon: &Daemon, plugin: &str, yes: bool) {
    let fault = if yes { "flood-log" } else { "none" };
    let order = format!("{{\"fault\": \"{fault}\"}}");
    // It is slow to hear, too.
    wait::until("an order to be heard", PATIENCE, || {
        request(daemon, plugin, &order).ok()
    });
}

fn counter(daemon: &Daemon, name: &str, plugin: &str) -> u64 {
    let label = format!("plugin=\"{plugin}\"");
    series(daemon, name, &[&label]) as u64
}

fn setup() -> Setup {
    Setup::new()
        .variable("PENSTOCK_QUERY__LOOKUP", "index")
        // An order waits until the batch before it is done.
        .variable("PENSTOCK_QUERY__DEADLINE_MS", "25000")
        .plugin("index", "prefix-index", CALM)
}

#[test]
fn one_that_hangs_holds_nobody() {
    let engine = Traced::start(300.0);
    // Its sixth batch lasts for five seconds, and then once more.
    let hangs = "lane_bytes = 65536
[limits]
deadline_ms = 5000
[config]
fault = \"loop\"
after = 5
";
    let setup = setup().plugin("hangs", "faulty", &format!("{GRANTS}{hangs}"));
    let daemon = engine.source(setup, "e").start();
    engine.wait_more(300);
    let last = engine.pause();
    plugin_when(&daemon, "index", "all batches", |p| p.batches > last);
    let mut oracle = engine.oracle("e");
    engine.compare(&daemon, "index", "e", &mut oracle);
    let hanging = daemon.plugin("hangs").unwrap();
    assert!(hanging.batches <= 20, "{hanging:?}");
    let index = daemon.plugin("index").unwrap();
    assert_eq!((index.restarts, index.queue_items), (0, 0));
}

#[test]
fn catching_up_ends_with_everything() {
    let engine = Traced::idle();
    let setup = setup().plugin("slow", "faulty", &slow("catch-up"));
    let daemon = engine.source(setup, "e").start();
    engine.burst(100);
    dawdle(&daemon, "slow", true);
    // More than its lane and the source's ring hold.
    engine.burst(2_000);
    wait::until("its lane to be full", PATIENCE, || {
        (counter(&daemon, "penstock_lane_detaches_total", "slow") > 0).then_some(())
    });
    plugin_when(&daemon, "index", "all batches", |p| p.batches >= 2_100);
    let behind = daemon.plugin("slow").unwrap();
    assert!(behind.queue_bytes <= 65_536 + 4_096, "{behind:?}");
    dawdle(&daemon, "slow", false);
    let published = engine.published();
    wait::until("the rest", PATIENCE, || {
        (handled(&daemon, "slow") >= published).then_some(())
    });
    assert_eq!(handled(&daemon, "slow"), published, "each of them once");
    assert_eq!(
        counter(&daemon, "penstock_lane_missed_batches_total", "slow"),
        0
    );
    assert_eq!(daemon.plugin("slow").unwrap().restarts, 0);
    let mut oracle = engine.settle(&daemon, "e");
    engine.compare(&daemon, "index", "e", &mut oracle);
}

#[test]
fn what_nobody_holds_any_more_is_told_as_missed() {
    let engine = Traced::forgetful(50);
    let setup = setup()
        .variable("PENSTOCK_ROUTE__RING_BYTES", "65536")
        .plugin("slow", "faulty", &slow("catch-up"));
    let daemon = engine.source(setup, "e").start();
    engine.burst(20);
    plugin_when(&daemon, "slow", "the first batches", |p| p.batches >= 20);
    dawdle(&daemon, "slow", true);
    engine.burst(2_000);
    plugin_when(&daemon, "index", "all batches", |p| p.batches >= 2_020);
    dawdle(&daemon, "slow", false);
    let missed = || counter(&daemon, "penstock_lane_missed_batches_total", "slow");
    wait::until("a count that closes", PATIENCE, || {
        (handled(&daemon, "slow") + missed() == 2_020).then_some(())
    });
    assert!(missed() > 100, "{}", missed());
    assert_eq!(daemon.plugin("slow").unwrap().missed, missed());
    let client = HttpClient::new(&daemon.http);
    let question = query(By::Tokens(Arc::new([])));
    let answer = client.query(Some("slow"), &question).unwrap();
    assert!(!answer.positions["e"].complete, "its answers say so");
    // The others have it all.
    let mut oracle = engine.settle(&daemon, "e");
    engine.compare(&daemon, "index", "e", &mut oracle);
}

#[test]
fn dropping_tells_of_gaps_at_once() {
    let engine = Traced::idle();
    let setup = setup().plugin("slow", "faulty", &slow("drop"));
    let daemon = engine.source(setup, "e").start();
    engine.burst(20);
    plugin_when(&daemon, "slow", "the first batches", |p| {
        p.batches + p.missed >= 20
    });
    dawdle(&daemon, "slow", true);
    engine.burst(1_000);
    plugin_when(&daemon, "index", "all batches", |p| p.batches >= 1_020);
    dawdle(&daemon, "slow", false);
    plugin_when(&daemon, "slow", "nothing left", |p| p.queue_items == 0);
    // A batch more: it comes after the news of the gap.
    engine.burst(1);
    let published = 1_021;
    let dropped = || counter(&daemon, "penstock_lane_dropped_batches_total", "slow");
    wait::until("a count that closes", PATIENCE, || {
        (handled(&daemon, "slow") + dropped() == published).then_some(())
    });
    assert!(dropped() > 100, "{}", dropped());
    let client = HttpClient::new(&daemon.http);
    let question = query(By::Tokens(Arc::new([])));
    let answer = client.query(Some("slow"), &question).unwrap();
    let at = &answer.positions["e"];
    assert!(!at.complete, "its answers say that something is missing");
    assert_eq!(at.sequence, Some(published - 1));
    let mut oracle = engine.settle(&daemon, "e");
    engine.compare(&daemon, "index", "e", &mut oracle);
}

#[test]
fn all_lanes_together_are_bounded() {
    const BOUND: u64 = 1 << 20;
    let engine = Traced::idle();
    let mut setup = setup().variable("PENSTOCK_ROUTE__LANES_TOTAL_BYTES", &BOUND.to_string());
    let lazy = slow("catch-up").replace("65536", "67108864");
    for name in ["a", "b", "c"] {
        setup = setup.plugin(name, "faulty", &lazy);
    }
    let daemon = engine.source(setup, "e").start();
    for name in ["a", "b", "c"] {
        dawdle(&daemon, name, true);
    }
    let mut most = 0;
    for _ in 0..20 {
        engine.burst(150);
        let queued = daemon.status().queued_bytes;
        // Changes are let in above the bound: they are small and few.
        assert!(queued <= BOUND + 65_536, "{queued}");
        most = queued.max(most);
    }
    let published = wait::until("all to be published", PATIENCE, || {
        let published = engine.published();
        (published == 3_000).then_some(published)
    });
    plugin_when(&daemon, "index", "all batches", |p| p.batches >= published);
    most = daemon.status().queued_bytes.max(most);
    assert!(most > BOUND / 2, "the bound was never near: {most}");
    for name in ["a", "b", "c"] {
        dawdle(&daemon, name, false);
    }
    for name in ["a", "b", "c"] {
        wait::until("the rest", PATIENCE, || {
            (handled(&daemon, name) == published).then_some(())
        });
    }
    let mut oracle = engine.settle(&daemon, "e");
    engine.compare(&daemon, "index", "e", &mut oracle);
}
