//! Faults before anything runs: the file is refused, and the others do not notice.

use crate::rig::{GRANTS, Traced, handled, plugin_when, refused};
use penstock_testkit::daemon::{PATIENCE, Setup};
use penstock_testkit::wait;

/// Build, fault, place, and what the operator is told.
const FAULTS: &[(&str, &str, &str, &str)] = &[
    (
        "faulty.describe-trap",
        "none",
        "on-batch",
        "`describe` failed: trap",
    ),
    (
        "faulty.describe-loop",
        "none",
        "on-batch",
        "`describe` failed: missed its deadline",
    ),
    ("faulty", "trap", "init", "`init` failed: trap"),
    (
        "faulty",
        "loop",
        "init",
        "`init` failed: missed its deadline",
    ),
    ("faulty", "grow", "init", "`init` failed: out of memory"),
    ("faulty", "error", "init", "told to"),
    ("faulty", "trap", "interval", "`interval` failed: trap"),
    (
        "faulty",
        "sleep",
        "interval",
        "`interval` failed: missed its deadline",
    ),
];

#[test]
fn who_fails_before_it_runs_is_refused_with_the_reason() {
    let engine = Traced::idle();
    let toml = |fault: &str, place: &str| {
        format!(
            "{GRANTS}[limits]\ninit_deadline_ms = 500\nmemory_bytes = 33554432\n\
             [config]\nfault = \"{fault}\"\nin = \"{place}\"\n"
        )
    };
    let name = |i: usize| format!("x{i}");
    let mut setup = Setup::new()
        .plugin("fine", "faulty", &toml("none", "on-batch"))
        .variable("PENSTOCK_QUERY__LOOKUP", "fine")
        .plugin("liar", "faulty.describe-lie", &toml("none", "on-batch"));
    for (i, (build, fault, place, _)) in FAULTS.iter().enumerate() {
        setup = setup.plugin(&name(i), build, &toml(fault, place));
    }
    let daemon = engine.source(setup, "e").start();
    for (i, (build, fault, place, why)) in FAULTS.iter().enumerate() {
        let status = refused(&daemon, &name(i), why);
        assert_eq!(status.state, "refused", "{build} {fault} {place}");
    }
    engine.burst(20);
    // Columns that there are not, a schema at its end, a name of a megabyte: it runs.
    for name in ["fine", "liar"] {
        wait::until(name, PATIENCE, || {
            (handled(&daemon, name) == 20).then_some(())
        });
    }
    let liar = plugin_when(&daemon, "liar", "at work", |p| p.batches >= 20);
    assert_eq!((liar.restarts, liar.last_error), (0, None));
    assert_eq!(daemon.stop().code(), Some(0));
}
