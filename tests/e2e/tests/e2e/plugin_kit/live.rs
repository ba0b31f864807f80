//! A new plugin under a daemon, and on the terminal.

use super::Crate;
use crate::rig::{CALM, Hand, batch, plugin_when, query, stored};
use penstock_event::By;
use penstock_query::client::HttpClient;
use penstock_testkit::daemon::{PATIENCE, Setup, drop_plugin};
use penstock_testkit::process::Process;
use penstock_testkit::{binary, plugin_file, wait};
use std::process::Command;
use std::sync::Arc;

#[test]
fn a_new_plugin_handles_batches_of_a_daemon() {
    let made = Crate::new("kit-live", "index");
    let (_, component) = made.build();
    let engine = Hand::start();
    let setup = Setup::new();
    let toml = made.toml().replace("[limits]\n", CALM);
    drop_plugin(setup.home.path(), "kit-live", &component, Some(&toml));
    let daemon = engine.source(setup, "e").start();
    let tokens: Vec<u32> = (0..8).collect();
    let last = engine.store(&tokens, &[1, 2]);
    daemon.wait_for("e", 0, last);
    plugin_when(&daemon, "kit-live", "a batch handled", |p| {
        p.batches == last + 1
    });
    let ask = query(By::Tokens(Arc::from(tokens)));
    let answer = HttpClient::new(&daemon.http)
        .query(Some("kit-live"), &ask)
        .unwrap();
    assert_eq!(answer.instances["e"].longest_matched, 8, "{answer:?}");
    assert_eq!(daemon.metric("penstock_plugin_custom_blocks"), 2.0);
    assert!(daemon.stop().success());
}

#[test]
fn a_plugin_runs_on_the_terminal_until_it_is_told_to_stop() {
    let home = tempfile::tempdir().unwrap();
    // Sinks of the file are not opened: this address is nobody's.
    let toml = format!(
        "grants = [\"log\", \"metrics\", \"publish\"]\n{CALM}[sink.out]\nkind = \"zmq-pub\"\n\
         endpoint = \"tcp://203.0.113.1:1\"\n"
    );
    std::fs::write(home.path().join("forward.toml"), toml).unwrap();
    let engine = Hand::start();
    let mut command = Command::new(binary());
    command
        .args(["plugin", "run"])
        .arg(plugin_file("forward"))
        .args(["--toml", "forward.toml", "--endpoint", &engine.endpoint])
        .args(["--replay", &engine.replay, "--model", "m"])
        .current_dir(home.path());
    let mut process = Process::start(&mut command);
    engine.wait_subscribers(1);
    engine.publish(batch(&[stored(&[1, 2, 3, 4], &[7])]));
    engine.publish(batch(&[stored(&[5, 6, 7, 8], &[8])]));
    for sequence in [0, 1] {
        let what = format!("message {sequence}");
        let line = wait::until(&what, PATIENCE, || {
            process.line(&format!("\"epoch\":0,\"sequence\":{sequence},"))
        });
        let message: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["sink"], "out");
        assert_eq!(message["topic"], "kv@engine@m");
        assert!(message["payload"].is_string(), "{line}");
    }
    process.signal("INT");
    assert!(process.wait(PATIENCE).success(), "{}", process.output());
    let summary = process.line("2 batches, 2 events, 0 refused");
    assert!(summary.is_some(), "{}", process.output());
}
