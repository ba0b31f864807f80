//! Faults while state moves from one build to the next.

use crate::rig::{GRANTS, Traced, handled, plugin_when, refused, series};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};

/// The state that a build with this fault holds cannot be had, and whether the instance
/// ends of it.
const SNAPSHOT: &[(&str, bool)] = &[
    ("trap", true),
    ("loop", true),
    ("sleep", true),
    ("error", false),
    ("error-huge", false),
    ("lie-piece-huge", true),
    ("lie-piece-endless", false),
    ("lie-piece-wrong", false),
];

fn toml(fault: &str, place: &str) -> String {
    format!(
        "{GRANTS}[checkpoint]\nevery_s = 0\n[restarts]\nfirst_ms = 50\nlongest_ms = 100\n\
         [limits]\ndeadline_ms = 300\n[config]\nfault = \"{fault}\"\nin = \"{place}\"\n"
    )
}

fn swap(daemon: &Daemon, name: &str, fault: &str, place: &str) {
    let toml = toml(fault, place);
    drop_plugin(
        daemon.home.path(),
        name,
        &plugin_file("faulty"),
        Some(&toml),
    );
}

/// It has seen every batch, once.
fn whole(daemon: &Daemon, name: &str, batches: u64) {
    wait::until(&format!("{name} has every batch"), PATIENCE, || {
        (handled(daemon, name) == batches).then_some(())
    });
}

fn fed_anew(daemon: &Daemon, name: &str) -> f64 {
    let label = format!("plugin=\"{name}\"");
    series(daemon, "penstock_plugin_fed_anew_total", &[&label])
}

#[test]
fn state_that_cannot_be_had_is_made_again_from_the_stream() {
    let engine = Traced::idle();
    let mut setup = Setup::new()
        .variable("PENSTOCK_QUERY__LOOKUP", "fine")
        .plugin("fine", "faulty", &toml("none", "snapshot"));
    for (fault, _) in SNAPSHOT {
        setup = setup.plugin(&format!("x-{fault}"), "faulty", &toml(fault, "snapshot"));
    }
    let daemon = engine.source(setup, "e").start();
    engine.burst(30);
    let names: Vec<_> = SNAPSHOT
        .iter()
        .map(|(fault, ends)| (format!("x-{fault}"), Some(*ends)))
        .chain([("fine".to_owned(), None)])
        .collect();
    for (name, _) in &names {
        whole(&daemon, name, 30);
    }
    for (name, _) in &names {
        swap(&daemon, name, "none", "on-batch");
    }
    for (name, ends) in &names {
        plugin_when(&daemon, name, "the next build", |p| p.generation == 2);
        whole(&daemon, name, 30);
        let anew = fed_anew(&daemon, name);
        assert_eq!(anew, f64::from(u8::from(ends.is_some())), "{name}");
        let label = format!("plugin=\"{name}\"");
        let failures = series(&daemon, "penstock_plugin_failures_total", &[&label]);
        assert_eq!(failures > 0.0, *ends == Some(true), "{name}: {failures}");
    }
    engine.burst(10);
    for (name, _) in &names {
        whole(&daemon, name, 40);
    }
    assert_eq!(daemon.process.line("host panicked"), None);
}

#[test]
fn who_does_not_understand_state_is_fed_anew_and_who_dies_of_it_is_refused() {
    let engine = Traced::idle();
    let setup = Setup::new().plugin("x", "faulty", &toml("none", "on-batch"));
    let daemon = engine.source(setup, "e").start();
    engine.burst(20);
    whole(&daemon, "x", 20);
    for fault in ["trap", "loop", "grow"] {
        swap(&daemon, "x", fault, "restore");
        let status = refused(&daemon, "x", "restore: ");
        assert_eq!((status.generation, status.restarts), (1, 0), "{fault}");
        swap(&daemon, "x", "none", "on-batch");
        plugin_when(&daemon, "x", "the repair", |p| p.load_error.is_none());
    }
    assert_eq!(fed_anew(&daemon, "x"), 0.0);
    engine.burst(5);
    whole(&daemon, "x", 25);
    swap(&daemon, "x", "error", "restore");
    plugin_when(&daemon, "x", "the next build", |p| p.generation == 2);
    whole(&daemon, "x", 25);
    assert_eq!(fed_anew(&daemon, "x"), 1.0);
}
