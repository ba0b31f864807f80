//! `penstock capture`: what it records decodes as what was published.

use penstock_testkit::daemon::PATIENCE;
use penstock_testkit::process::Process;
use penstock_testkit::publish::Publish;
use penstock_testkit::{binary, capture};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn start(endpoint: &str, to: &Path, more: &[&str]) -> Process {
    let mut command = Command::new(binary());
    command.args(["capture", endpoint, "--json", "-o"]).arg(to);
    Process::start(command.args(more))
}

fn summary(process: &Process) -> Value {
    let line = process.line("\"messages\"").expect("a summary");
    serde_json::from_str(&line).unwrap()
}

fn decoded(file: &Path) -> String {
    let mut command = Command::new(binary());
    let output = command.arg("decode").arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_recorded_stream_decodes_as_the_original() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("copy.frames");
    let original = capture("vllm-0.32.0-engine");
    let frames = original.display().to_string();
    let engine = Publish::start(1, &["--frames", &frames, "--wait-subscribers", "1"]);
    let mut capturing = start(&engine.endpoints[0].0, &file, &["--count", "107"]);
    let status = capturing.wait(PATIENCE);
    assert!(status.success(), "{}", capturing.output());
    let summary = summary(&capturing);
    assert_eq!(
        (&summary["messages"], &summary["gaps"]),
        (&107.into(), &0.into())
    );
    assert_eq!(summary["ended"], "messages");
    assert_eq!(decoded(&file), decoded(&original));
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    assert!(bytes(&file) == bytes(&original), "it is the same file");
}

#[test]
fn a_signal_ends_a_recording_and_gaps_are_counted() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("copy.frames");
    let frames = capture("sglang-0.5.23").display().to_string();
    let engine = Publish::start(
        1,
        &[
            "--frames",
            &frames,
            "--wait-subscribers",
            "1",
            "--drop",
            "5-7,50",
        ],
    );
    let capturing = start(&engine.endpoints[0].0, &file, &[]);
    // All is in the file as soon as the stream pauses.
    penstock_testkit::wait::until("the last batch in the file", PATIENCE, || {
        let copy = std::fs::read(&file).ok()?;
        let original = std::fs::read(&frames).ok()?;
        copy.ends_with(&original[original.len() - 20..])
            .then_some(())
    });
    let mut capturing = capturing;
    capturing.signal("TERM");
    let status = capturing.wait(PATIENCE);
    assert!(status.success(), "{}", capturing.output());
    let summary = summary(&capturing);
    assert_eq!(summary["ended"], "stopped", "{summary}");
    assert_eq!(
        (&summary["gaps"], &summary["missing"]),
        (&2.into(), &4.into())
    );
    assert_eq!(summary["messages"], 103);
}

#[test]
fn nothing_received_is_told_with_the_likely_reason() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("none.frames");
    let frames = capture("sglang-0.5.23").display().to_string();
    let engine = Publish::start(1, &["--frames", &frames]);
    let (live, replay) = engine.endpoints[0].clone();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("tcp://{}", free.local_addr().unwrap());
    drop(free);
    for (endpoint, told) in [
        (nobody, "nothing answers at"),
        (replay.unwrap(), "is it the engine's replay port"),
        (live, "but no message came"),
    ] {
        let more = ["--idle", "2", "--topic", "no such topic"];
        let mut capturing = start(&endpoint, &file, &more);
        let status = capturing.wait(PATIENCE);
        let output = capturing.output();
        assert_eq!(status.code(), Some(3), "{output}");
        assert!(output.contains(told), "{endpoint}: {output}");
        let connected = output.contains("connected: ");
        assert_eq!(connected, told.contains("no message"), "{output}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_told_once() {
    let mut capturing = start("tcp://127.0.0.1:9", Path::new("/none/x.frames"), &[]);
    assert_eq!(capturing.wait(PATIENCE).code(), Some(1));
    let output = capturing.output();
    assert_eq!(output.matches("No such file").count(), 1, "{output}");
}
