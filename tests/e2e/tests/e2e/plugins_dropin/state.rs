//! State that outlives a build of a plugin.

use super::in_effect;
use crate::rig::{CALM, Traced, plugin_when};
use penstock_testkit::daemon::{Setup, drop_plugin};
use penstock_testkit::plugin_file;
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
