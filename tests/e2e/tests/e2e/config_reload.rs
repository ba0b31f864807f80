//! `penstock ctl reload`, as it is told to people.

use crate::rig::{ctl, run};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::process::Process;
use penstock_testkit::{binary, wait};
use std::process::Command;

fn edit(daemon: &Daemon, from: &str, to: &str) {
    let path = daemon.path("penstock.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn what_changed_and_what_waits_for_a_start() {
    let daemon = Setup::new().source("a", "tcp://127.0.0.1:9", None).start();
    assert_eq!(ctl(&daemon, &["reload"]), "nothing changed\n");
    edit(&daemon, "[query]", "[query]\ndeadline_ms = 7");
    let told = ctl(&daemon, &["reload"]);
    assert_eq!(told, "at the next start: query.deadline_ms\n");
    edit(&daemon, "name = \"a\"", "name = \"b\"");
    let told = ctl(&daemon, &["reload"]);
    let wanted = "changed: a, b\nat the next start: query.deadline_ms\n";
    assert_eq!(told, wanted);
    let log = daemon.process.output();
    assert!(!log.contains("twice"), "a name only: {log}");
}

#[test]
fn a_typo_is_told_as_such() {
    let daemon = Setup::new().start();
    edit(&daemon, "[query]", "[query]\nlokup = \"x\"");
    let output = run(daemon.home.path(), &["ctl", "reload"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("penstock.toml:2: lokup: "), "{told}");
    assert!(!told.contains("running"), "it runs: {told}");
    let output = run(
        daemon.home.path(),
        &["ctl", "reload", "--socket", "none.sock"],
    );
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("is the daemon running"), "{told}");
}

#[test]
fn without_a_file_there_is_none_to_read_again() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.arg("run").current_dir(home.path());
    for (name, value) in [("HTTP", "off"), ("ZMQ", "off"), ("CONTROL", "p.sock")] {
        command.env(format!("PENSTOCK_QUERY__{name}"), value);
    }
    let process = Process::start(&mut command);
    wait::until("its doors", PATIENCE, || process.line("doors open"));
    let output = run(home.path(), &["ctl", "reload", "--socket", "p.sock"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("started without a config file"), "{told}");
}
