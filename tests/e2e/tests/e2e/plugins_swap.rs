//! One build after another: effects once, probation, the way back, shadows.

use crate::rig::{GRANTS, Traced, delivered, forward_to, lines, plugin_when, refused, request};
use penstock_query::PluginStatus;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};

/// A plugin that answers lookups, keeps state and forwards every batch. `mark` makes
/// one file differ from another.
fn echo(mark: u64, swap: &str) -> String {
    format!(
        "{GRANTS}[swap]\n{swap}\n[limits]\ndeadline_ms = 5000\n[config]\necho = \"out\"\n\
         after = {mark}\n[sink.out]\nkind = \"file\"\npath = \"out.jsonl\"\n"
    )
}

fn begin(engine: &Traced, swap: &str) -> Daemon {
    let setup = Setup::new().plugin("faulty", "faulty", &echo(0, swap));
    engine.source(setup, "e").start()
}

fn swap(daemon: &Daemon, mark: u64, rules: &str) {
    let toml = echo(mark, rules);
    drop_plugin(
        daemon.home.path(),
        "faulty",
        &plugin_file("faulty"),
        Some(&toml),
    );
}

fn generation(daemon: &Daemon, generation: u64) -> PluginStatus {
    let what = format!("generation {generation}");
    plugin_when(daemon, "faulty", &what, |p| p.generation == generation)
}

/// Ends the engine's work and judges what came out: every batch once, in order.
fn judge(engine: &Traced, daemon: &Daemon) {
    let oracle = engine.settle(daemon, "e");
    let file = daemon.path("out.jsonl");
    wait::until("the rest to be forwarded", PATIENCE, || {
        (lines(&file).len() as u64 >= engine.published()).then_some(())
    });
    delivered(&lines(&file), &oracle, "e");
}

const FAULT: &str = "{\"fault\": \"trap\", \"in\": \"on-batch\"}";

#[test]
fn what_is_published_comes_once_across_swaps() {
    let engine = Traced::start(400.0);
    let daemon = begin(&engine, "probation_batches = 60");
    for mark in 1..=6 {
        engine.wait_more(30 * (mark % 3));
        swap(&daemon, mark, "probation_batches = 60");
        let status = generation(&daemon, mark + 1);
        assert_eq!((status.restarts, status.load_error), (0, None));
    }
    plugin_when(&daemon, "faulty", "the end of probation", |p| !p.probation);
    judge(&engine, &daemon);
}

#[test]
fn a_build_that_fails_on_probation_is_rolled_back_and_not_tried_again() {
    let engine = Traced::start(200.0);
    let daemon = begin(&engine, "");
    engine.wait_more(100);
    for (fault, why) in [
        ("trap", "failed on probation: on-batch: trap: "),
        ("error", "refuses "),
    ] {
        let before = daemon.plugin("faulty").unwrap().generation;
        let mark = if fault == "trap" { 1 } else { 2 };
        swap(&daemon, mark, "");
        let next = plugin_when(&daemon, "faulty", "the next build", |p| {
            p.generation > before
        });
        assert!(next.probation && next.load_error.is_none(), "{next:?}");
        request(&daemon, "faulty", &FAULT.replace("trap", fault)).unwrap();
        let back = refused(&daemon, "faulty", why);
        assert_eq!((back.generation, back.restarts), (1, 0), "{back:?}");
        let text = back.load_error.unwrap();
        assert!(text.starts_with("rolled back to generation 1: "), "{text}");
        assert_eq!(
            back.quarantine.len(),
            mark as usize,
            "{:?}",
            back.quarantine
        );

        // The same files again are not tried again.
        swap(&daemon, mark, "");
        let still = refused(&daemon, "faulty", "in quarantine");
        assert_eq!(still.generation, 1);
    }
    // Others are.
    swap(&daemon, 3, "");
    let status = generation(&daemon, 4);
    assert_eq!(status.load_error, None);
    judge(&engine, &daemon);
}

#[test]
fn an_operator_goes_back_on_probation_and_after_it() {
    let engine = Traced::start(200.0);
    let daemon = begin(&engine, "");
    engine.wait_more(50);
    let told = daemon.control().roll_back("faulty").unwrap_err();
    assert!(told.to_string().contains("no build before"), "{told}");
    let told = daemon.control().roll_back("falty").unwrap_err();
    assert!(told.to_string().contains("there are: faulty"), "{told}");

    swap(&daemon, 1, "");
    generation(&daemon, 2);
    let done = daemon.control().roll_back("faulty").unwrap();
    assert_eq!((&*done.plugin, done.generation), ("faulty", 1));
    let back = generation(&daemon, 1);
    assert!(back.load_error.unwrap().ends_with("by hand"));

    // After probation the build before is made again, with the state of the other.
    swap(&daemon, 2, "probation_batches = 1");
    generation(&daemon, 3);
    plugin_when(&daemon, "faulty", "the end of probation", |p| !p.probation);
    let done = daemon.control().roll_back("faulty").unwrap();
    assert_eq!(done.generation, 4);
    generation(&daemon, 4);
    plugin_when(&daemon, "faulty", "quarantine", |p| p.quarantine.len() == 2);
    judge(&engine, &daemon);
}

#[test]
fn a_shadow_says_what_it_would_publish_otherwise() {
    let engine = Traced::start(200.0);
    let forward = forward_to("out.jsonl");
    let setup = Setup::new().plugin("forward", "forward", &forward);
    let daemon = engine.source(setup, "e").start();
    engine.wait_more(50);
    let home = daemon.home.path();
    let wasm = plugin_file("forward");
    let shadow = |text: &str| text.replacen("[limits]", "[swap]\nshadow_s = 1\n[limits]", 1);
    let told = |generation: u64| -> Option<String> {
        plugin_when(&daemon, "forward", "the shadow's turn", |p| {
            p.generation == generation
        });
        let output = daemon.process.output();
        let mut ends = output.lines().filter(|l| l.contains("shadow ended"));
        ends.nth(generation as usize - 2).map(str::to_owned)
    };
    drop_plugin(home, "forward", &wasm, Some(&shadow(&forward)));
    let same = wait::until("its end", PATIENCE, || told(2));
    assert!(
        same.contains("different=0") && !same.contains("same=0"),
        "{same}"
    );

    let other = shadow(&forward).replace("kv@", "other@");
    drop_plugin(home, "forward", &wasm, Some(&other));
    let different = wait::until("its end", PATIENCE, || told(3));
    assert!(
        different.contains("same=0") && !different.contains("different=0"),
        "{different}"
    );
    assert!(daemon.process.line("publishes something else").is_some());
    judge(&engine, &daemon);
}
