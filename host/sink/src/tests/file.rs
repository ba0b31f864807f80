use super::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn file(path: &Path, more: &str) -> String {
    let path = path.display();
    format!(r#"{{"kind":"file","path":"{path}"{more}}}"#)
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn sequences(path: &Path) -> Vec<u64> {
    let sequence = |line: &Value| line["sequence"].as_u64().unwrap();
    lines(path).iter().map(sequence).collect()
}

#[test]
fn lines_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let ctx = zmq::Context::new();
    let sink = open(&ctx, &file(&path, ""));
    publish(&sink, "t", r#"{"hits": [1, 2]}"#, 0).unwrap();
    wait_for(&sink, "written while it runs", |s| s.sent == 1);
    assert_eq!(
        lines(&path),
        [serde_json::json!({
            "source": "vllm-0", "epoch": 3, "sequence": 0, "topic": "t", "json": {"hits": [1, 2]},
        })]
    );
    for i in 1..1_000 {
        publish(&sink, "t", "not json", i).unwrap();
    }
    let status = sink.shutdown(soon(10_000));
    assert_eq!((status.sent, status.unsent_at_exit), (1_000, 0));

    let sink = open(&ctx, &file(&path, ""));
    for i in 1_000..1_010 {
        publish(&sink, "t", "not json", i).unwrap();
    }
    assert_eq!(sink.shutdown(soon(10_000)).sent, 10);
    assert_eq!(sequences(&path), (0..1_010).collect::<Vec<_>>());
    assert_eq!(lines(&path)[5]["payload"], "bm90IGpzb24=");
}

#[test]
fn a_fragment_left_by_a_crash_spoils_one_line_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    fs::write(&path, "{\"sequence\":0}\n{\"sequ").unwrap();
    let ctx = zmq::Context::new();
    let sink = open(&ctx, &file(&path, ""));
    publish(&sink, "t", "p", 1).unwrap();
    assert_eq!(sink.shutdown(soon(10_000)).sent, 1);
    let text = fs::read_to_string(&path).unwrap();
    let all: Vec<_> = text.lines().collect();
    assert_eq!(all[..2], ["{\"sequence\":0}", "{\"sequ"]);
    assert!(all[2].starts_with("{\"source\":\"vllm-0\""));
    assert_eq!(all.len(), 3);
}

#[test]
fn files_rotate_between_lines_and_old_ones_leave() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let ctx = zmq::Context::new();
    let sink = open(&ctx, &file(&path, r#","max_bytes":1000,"keep":2"#));
    for i in 0..100 {
        publish(&sink, "t", &"x".repeat(100), i).unwrap();
    }
    // Alone above the limit: it gets a file of its own.
    publish(&sink, "t", &"x".repeat(2_000), 100).unwrap();
    publish(&sink, "t", "last", 101).unwrap();
    let status = sink.shutdown(soon(10_000));
    assert_eq!((status.sent, status.errors), (102, 0), "{status:?}");

    let nth = |n| dir.path().join(format!("events.jsonl.{n}"));
    assert_eq!(sequences(&path), [101]);
    assert_eq!(sequences(&nth(1)), [100]);
    let before = sequences(&nth(2));
    assert_eq!(before.last(), Some(&99));
    assert!(fs::metadata(nth(2)).unwrap().len() <= 1_000);
    assert!(!nth(3).exists());
}

#[test]
fn a_full_disk_is_outlived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let ctx = zmq::Context::new();
    let sink = open(&ctx, &file(&path, r#","queue_messages":20"#));
    for i in 0..20 {
        publish(&sink, "t", "p", i).unwrap();
    }
    let status = wait_for(&sink, "failing again", |s| s.errors >= 2);
    assert_eq!((status.sent, status.queued), (0, 20));
    let error = status.last_error.unwrap();
    assert!(error.contains("events.jsonl"), "{error}");
    assert_eq!(publish(&sink, "t", "p", 20), Err(PublishError::Full));

    fs::remove_file(&path).unwrap();
    wait_for(&sink, "written", |s| s.sent == 20);
    assert_eq!(sequences(&path), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_stays_full_does_not_hold_up_the_exit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let ctx = zmq::Context::new();
    let sink = open(&ctx, &file(&path, ""));
    for i in 0..20 {
        publish(&sink, "t", "p", i).unwrap();
    }
    let begun = Instant::now();
    let status = sink.shutdown(soon(300));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!((status.sent, status.unsent_at_exit), (0, 20));
    assert!(status.errors > 0);
}

#[test]
fn a_file_moved_by_others_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("events.jsonl"), dir.path().join("moved"));
    let ctx = zmq::Context::new();
    let sink = open(&ctx, &file(&path, ""));
    publish(&sink, "t", "p", 0).unwrap();
    wait_for(&sink, "written", |s| s.sent == 1);
    fs::rename(&path, &moved).unwrap();
    let until = soon(20_000);
    let mut next = 1;
    while !path.exists() {
        assert!(Instant::now() < until, "never noticed");
        publish(&sink, "t", "p", next).unwrap();
        next += 1;
        wait_for(&sink, "written", |s| s.sent == next);
    }
    drop(sink);
    let all: Vec<u64> = [sequences(&moved), sequences(&path)].concat();
    assert_eq!(
        all,
        (0..next).collect::<Vec<_>>(),
        "nothing lost on the way"
    );
}
