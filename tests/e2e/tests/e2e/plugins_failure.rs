//! What a failure means: restarts, an end, a hold; batches set aside.

use crate::rig::{GRANTS, Traced, handled, lines, plugin_when, request};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::wait;

const TRAP: &str = "{\"fault\": \"trap\", \"in\": \"on-batch\"}";

fn faulty(more: &str, config: &str) -> String {
    format!("{more}\n{GRANTS}[restarts]\nfirst_ms = 50\nlongest_ms = 100\ngive_up = 4\n{config}")
}

fn start(engine: &Traced, toml: &str) -> Daemon {
    let setup = Setup::new().plugin("faulty", "faulty", toml);
    engine.source(setup, "e").start()
}

/// Every batch is forwarded.
const ECHO: &str = "[config]\necho = \"out\"\n[sink.out]\nkind = \"file\"\npath = \"out.jsonl\"\n";

/// Waits until so many batches were forwarded: each once, in order.
fn published(daemon: &Daemon, batches: u64) {
    let sent = wait::until("what is published", PATIENCE, || {
        let lines = lines(&daemon.path("out.jsonl"));
        (lines.len() as u64 >= batches).then_some(lines)
    });
    let sequences: Vec<_> = sent.iter().map(|l| l.sequence).collect();
    let expected: Vec<_> = (0..batches).collect();
    assert_eq!(sequences, expected);
}

fn all(daemon: &Daemon, batches: u64) {
    wait::until("every batch, once", PATIENCE, || {
        (handled(daemon, "faulty") == batches).then_some(())
    });
}

#[test]
fn who_fails_too_often_is_disabled_until_somebody_starts_it() {
    let engine = Traced::idle();
    // It dies of every source that joins: no batch can be set aside for that.
    let config = "[config]\nfault = \"trap\"\nin = \"on-source\"\n";
    let daemon = start(&engine, &faulty("", config));
    engine.burst(3);
    let status = plugin_when(&daemon, "faulty", "failed", |p| p.state == "failed");
    assert_eq!(status.restarts, 3);
    wait::until("the reason", PATIENCE, || {
        daemon
            .process
            .line("failed too often in a row and is disabled")
    });
    let done = daemon.control().restart("faulty").unwrap();
    assert_eq!((&*done.plugin, done.generation), ("faulty", 2));
    plugin_when(&daemon, "faulty", "failed again", |p| {
        p.state == "failed" && p.generation == 2
    });
}

#[test]
fn who_is_to_be_disabled_is_at_the_first_failure() {
    let engine = Traced::idle();
    let daemon = start(&engine, &faulty("on_failure = \"disable\"", ECHO));
    engine.burst(10);
    all(&daemon, 10);
    let told = daemon.control().restart("faulty").unwrap_err().to_string();
    assert!(told.contains(" runs: "), "{told}");
    request(&daemon, "faulty", TRAP).unwrap();
    engine.burst(1);
    let status = plugin_when(&daemon, "faulty", "failed", |p| p.state == "failed");
    assert_eq!(status.restarts, 0);
    engine.burst(20);
    daemon.control().restart("faulty").unwrap();
    // It knows nothing any more, and is fed what host and engine hold; what it had
    // published is not published again.
    all(&daemon, 31);
    published(&daemon, 31);
}

#[test]
fn who_is_held_goes_on_where_it_stood() {
    let engine = Traced::idle();
    let daemon = start(&engine, &faulty("on_failure = \"hold\"", ECHO));
    engine.burst(10);
    all(&daemon, 10);
    request(&daemon, "faulty", TRAP).unwrap();
    engine.burst(5);
    let status = plugin_when(&daemon, "faulty", "held", |p| p.state == "held");
    assert!(status.last_error.unwrap().contains("trap"));
    engine.burst(5);
    assert_eq!(lines(&daemon.path("out.jsonl")).len(), 10);
    let done = daemon.control().restart("faulty").unwrap();
    assert_eq!(done.generation, 1);
    all(&daemon, 20);
    published(&daemon, 20);
}

#[test]
fn a_batch_that_kills_twice_is_set_aside_with_all_that_is_needed() {
    let engine = Traced::idle();
    let config = "[config]\nfault = \"trap\"\nafter = 5\n";
    let daemon = start(
        &engine,
        &faulty("", config).replace("give_up = 4", "give_up = 0"),
    );
    engine.burst(6);
    let status = plugin_when(&daemon, "faulty", "a batch set aside", |p| p.set_aside == 1);
    assert!(status.restarts >= 1, "{status:?}");
    let directory = daemon.path("state/set-aside");
    let bundle = directory.join("faulty@e-0-5.bundle");
    let bundle = std::fs::read(&bundle).unwrap();
    let bundle = rmpv::decode::read_value(&mut &bundle[..]).unwrap();
    let of = |key: &str| bundle[key].as_str().unwrap_or_default().to_owned();
    let batches = bundle["batches"].as_array().unwrap();
    let at = |i: usize| batches[i]["position"]["sequence"].as_u64();
    assert_eq!((batches.len(), at(0), at(5)), (6, Some(0), Some(5)));
    assert_eq!((&*of("source"), &*of("plugin")), ("e", "faulty"));
    assert!(of("error").contains("trap"), "{bundle}");
    assert!(of("config").contains("\"after\":5"), "{bundle}");
    let wasm = std::fs::read(penstock_testkit::plugin_file("faulty")).unwrap();
    assert_eq!(bundle["wasm"].as_slice(), Some(&*wasm));
    // The author sees it again, and that another build handles it.
    let path = directory.join("faulty@e-0-5.bundle");
    let again = |more: &[&str]| {
        let mut command = std::process::Command::new(penstock_testkit::binary());
        command.args(["plugin", "test", "--bundle"]).arg(&path);
        let output = command.args(more).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = again(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("batch 0/4: ") && text.contains("batch 0/5: "),
        "{text}"
    );
    assert!(text.ends_with("it is not handled\n"), "{text}");
    let other = penstock_testkit::plugin_file("forward");
    let (code, text) = again(&["--json", other.to_str().unwrap()]);
    assert_eq!(code, Some(1), "its config is another plugin's: {text}");
    let (code, text) = again(&["--json"]);
    assert!(
        code == Some(1) && text.contains("\"passed\": false"),
        "{text}"
    );
    // The next good batch works: its death comes later, since a gap is no batch.
    let source = daemon.source("e").unwrap();
    assert!(source.complete, "the source itself misses nothing");
}
