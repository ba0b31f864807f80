//! A plugin in another language: the JavaScript one under a real daemon.

use crate::rig::{CALM, Hand, Traced, batch, plugin_when, request, series, stored};
use penstock_peer::event::{Event, Removed};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};
use serde_json::{Value, json};

fn counts(daemon: &Daemon) -> Value {
    serde_json::from_str(&request(daemon, "counter", "").unwrap()).unwrap()
}

#[test]
fn it_counts_what_it_is_fed_and_its_errors_are_told() {
    let engine = Hand::start();
    let setup = Setup::new().plugin("counter", "counter-js", CALM);
    let daemon = engine.source(setup, "e").start();
    engine.publish(batch(&[
        stored(&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2]),
        stored(&[9; 4], &[3]),
    ]));
    let removed = Removed {
        hashes: vec![2],
        medium: Some("GPU".into()),
        ..Removed::default()
    };
    let last = engine.publish(batch(&[Event::Removed(removed), Event::Cleared]));
    daemon.wait_for("e", 0, last);
    let right = json!({"batches": 2, "stored": 3, "removed": 1, "cleared": 1, "missing": 0});
    assert_eq!(counts(&daemon), json!({"e": right}));
    let labels = ["plugin=\"counter\""];
    assert_eq!(
        series(&daemon, "penstock_plugin_custom_blocks", &labels),
        4.0
    );
    daemon
        .process
        .line("counting e")
        .expect("its own line in the log");

    // What it throws is an answer, and it goes on.
    let error = request(&daemon, "counter", "x").unwrap_err();
    assert!(error.contains("the body is empty"), "{error}");
    let home = daemon.home.path();
    let config = |config: &str| {
        let toml = format!("{CALM}[config]\n{config}\n");
        drop_plugin(home, "counter", &plugin_file("counter-js"), Some(&toml));
    };
    config("modells = []");
    let why = "unknown key modells, expected models";
    let status = plugin_when(&daemon, "counter", why, |p| {
        p.load_error.as_ref().is_some_and(|e| e.contains(why))
    });
    assert_eq!((status.generation, status.restarts), (1, 0), "{status:?}");
    config("models = [\"another\"]");
    plugin_when(&daemon, "counter", "its new config", |p| p.generation == 2);
    assert_eq!(counts(&daemon), json!({}), "the source serves model m");
}

#[test]
fn it_keeps_up_with_an_engine() {
    const BATCHES: u64 = 2_000;
    let engine = Traced::idle();
    let setup = Setup::new().plugin("counter", "counter-js", CALM);
    let daemon = engine.source(setup, "e").start();
    engine.burst(BATCHES);
    wait::until("all batches", PATIENCE, || {
        (counts(&daemon)["e"]["batches"] == BATCHES).then_some(())
    });
    let status = daemon.plugin("counter").unwrap();
    eprintln!(
        "{} ns an event, p99 {} µs",
        status.ns_per_event, status.call_p99_us
    );
    assert_eq!((status.missed, status.restarts), (0, 0), "{status:?}");
    let at_all = counts(&daemon);
    assert!(at_all["e"]["stored"].as_u64() > at_all["e"]["removed"].as_u64());
    let blocks = series(&daemon, "penstock_plugin_custom_blocks", &[]);
    let sum = ["stored", "removed"].map(|kind| at_all["e"][kind].as_f64().unwrap());
    assert!(
        sum[0] > 0.0 && sum[0] + sum[1] == blocks,
        "{at_all}: {blocks}"
    );
}
