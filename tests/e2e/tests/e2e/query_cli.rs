//! The commands as people and pipes use them.

use crate::rig::{CALM, Hand, ctl, run};
use penstock_testkit::binary;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a command whose output nobody reads; its exit code and what it said.
fn unread(home: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(home);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), told)
}

fn asked() -> (Hand, Daemon) {
    let engine = Hand::start();
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine.source(setup, "e").start();
    let last = engine.store(&[1, 2, 3, 4], &[1]);
    daemon.wait_for("e", 0, last);
    (engine, daemon)
}

#[test]
fn a_closed_output_ends_commands_quietly() {
    let (_engine, daemon) = asked();
    let home = daemon.home.path();
    let frames = penstock_testkit::capture("sglang-0.5.23");
    let commands: [&[&str]; 7] = [
        &["ctl", "status"],
        &["ctl", "plugins"],
        &["ctl", "sources", "--json"],
        &["ctl", "reload"],
        &["check"],
        &["decode", frames.to_str().unwrap()],
        &[
            "query",
            "--http",
            &daemon.http,
            "--model",
            "m",
            "--tokens",
            "1,2,3,4",
        ],
    ];
    for arguments in commands {
        let (code, told) = unread(home, arguments);
        assert_eq!((code, told.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let setup = Setup::new();
    let mut command = setup.command();
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("no sources yet") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
    }
    drop(log);
    let home = setup.home.path();
    // Refused, which is logged by the reconciler.
    std::fs::write(home.join("plugins.d/x.wasm"), "garbage").unwrap();
    for _ in 0..2 {
        let output = run(home, &["ctl", "reload"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("refused: x: "), "{output:?}");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    let ended = penstock_testkit::wait::until("its end", PATIENCE, || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn doors_without_a_scheme_and_models_unknown() {
    let (_engine, daemon) = asked();
    let home = daemon.home.path();
    for (flag, door) in [("--http", &daemon.http), ("--zmq", &daemon.zmq)] {
        let bare = door.split("://").last().unwrap();
        let ask = |model: &str| {
            let by = [
                "--model",
                model,
                "--tokens",
                "1,2,3,4",
                "--deadline",
                "600000",
            ];
            run(home, &[&["query", flag, bare], &by[..]].concat())
        };
        let output = ask("m");
        assert!(output.status.success(), "{output:?}");
        let output = ask("who");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("\"who\"; served: \"m\""), "{told}");
    }
    assert!(ctl(&daemon, &["sources"]).contains('e'));
}
