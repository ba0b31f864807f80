//! State that outlives a build of a plugin.

use super::in_effect;
use crate::rig::{CALM, GRANTS, Traced, handled, plugin_when, refused, request};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};
use std::time::Instant;

#[test]
fn it_moves_when_nobody_holds_the_past_any_more() {
    let engine = Traced::forgetful(50);
    let setup = Setup::new()
        .variable("PENSTOCK_ROUTE__RING_BYTES", "65536")
        .plugin("index", "prefix-index", CALM);
    let daemon = engine.source(setup, "e").start();
    engine.burst(2_000);
    plugin_when(&daemon, "index", "all batches", |p| p.batches >= 2_000);
    let mut oracle = engine.settle(&daemon, "e");
    engine.compare(&daemon, "index", "e", &mut oracle);

    // Another build, with another schema; then the first one again.
    for (generation, file) in [(2, "prefix-index.second"), (3, "prefix-index")] {
        let since = Instant::now();
        drop_plugin(daemon.home.path(), "index", &plugin_file(file), Some(CALM));
        in_effect(&daemon, "index", generation, since);
        let takes = daemon.process.output();
        let takes = takes.matches("state taken over").count() as u64;
        assert_eq!(takes, generation - 1, "by its state, not by replay");
        engine.burst(20);
        let mut oracle = engine.settle(&daemon, "e");
        engine.compare(&daemon, "index", "e", &mut oracle);
        let index = daemon.plugin("index").unwrap();
        assert_eq!((index.missed, index.restarts), (0, 0), "{index:?}");
    }
    assert!(daemon.stop().success());
}

/// Drops `faulty` in again, with a fault of its state's interface.
fn drop_faulty(daemon: &Daemon, fault: &str, place: &str) {
    let toml = format!(
        "{GRANTS}[swap]\nprobation_s = 0\n[config]\nfault = \"{fault}\"\nin = \"{place}\"\n"
    );
    let home = daemon.home.path();
    drop_plugin(home, "faulty", &plugin_file("faulty"), Some(&toml));
}

#[test]
fn what_cannot_be_handed_over_is_fed_anew_or_refused() {
    const BATCHES: u64 = 30;
    let engine = Traced::idle();
    let setup = Setup::new().plugin("faulty", "faulty", GRANTS);
    let daemon = engine.source(setup, "e").start();
    engine.burst(BATCHES);
    let all = || {
        wait::until("every batch, once", PATIENCE, || {
            (handled(&daemon, "faulty") == BATCHES).then_some(())
        });
    };
    all();
    let said = |what: &str, times: usize| {
        wait::until(what, PATIENCE, || {
            (daemon.process.output().matches(what).count() == times).then_some(())
        });
    };

    // An error is an answer: the state is of a schema that it does not know.
    let since = Instant::now();
    drop_faulty(&daemon, "error", "restore");
    in_effect(&daemon, "faulty", 2, since);
    said("fed anew", 1);
    all();

    // Whoever fails on it does not replace what runs.
    for fault in ["trap", "loop", "grow"] {
        drop_faulty(&daemon, fault, "restore");
        let status = refused(&daemon, "faulty", "restore: ");
        assert_eq!((&*status.state, status.generation), ("running", 2));
        assert_eq!(status.restarts, 0, "{fault}: {status:?}");
        all();
    }

    // The running one fails on its own state: it is made anew, and its successor too.
    let order = "{\"fault\": \"trap\", \"in\": \"snapshot\"}";
    request(&daemon, "faulty", order).unwrap();
    let since = Instant::now();
    drop_faulty(&daemon, "none", "on-batch");
    in_effect(&daemon, "faulty", 3, since);
    said("fed anew", 2);
    all();
    // And an error there costs nobody anything.
    let order = order.replace("trap", "error");
    request(&daemon, "faulty", &order).unwrap();
    let since = Instant::now();
    drop_faulty(&daemon, "none", "tick");
    let status = in_effect(&daemon, "faulty", 4, since);
    assert_eq!(status.restarts, 0, "{status:?}");
    all();
}
