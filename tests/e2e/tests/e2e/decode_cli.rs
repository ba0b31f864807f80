//! `penstock decode`: recordings of real engines as JSON lines.

use penstock_peer::frames::FramesReader;
use penstock_testkit::{binary, capture};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn decode(file: &Path) -> Output {
    let mut command = Command::new(binary());
    command.arg("decode").arg(file).output().unwrap()
}

fn lines(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// The keys of `expected` with what `got` has under them.
fn same_keys(expected: &Value, got: &Value) -> Value {
    let keys = expected.as_object().unwrap().keys();
    keys.filter_map(|key| Some((key.clone(), got.get(key)?.clone())))
        .collect()
}

fn message(frames: &[&[u8]]) -> Vec<u8> {
    let mut out = (frames.len() as u32).to_le_bytes().to_vec();
    for frame in frames {
        out.extend((frame.len() as u32).to_le_bytes());
        out.extend(*frame);
    }
    out
}

#[test]
fn recordings_of_engines_decode_as_expected() {
    for (name, events) in [
        ("vllm-0.32.0-engine", 545),
        ("vllm-0.9.2", 545),
        ("sglang-0.5.23", 545),
    ] {
        let file = capture(name);
        let output = decode(&file);
        assert!(output.status.success(), "{name}: {output:?}");
        let expected = std::fs::read(file.with_extension("expected.jsonl")).unwrap();
        let (expected, got) = (lines(&expected), lines(&output.stdout));
        assert_eq!((expected.len(), got.len()), (events, events), "{name}");
        for (number, (expected, got)) in expected.iter().zip(&got).enumerate() {
            assert_eq!(same_keys(expected, got), *expected, "{name}:{}", number + 1);
        }
    }
}

#[test]
fn a_bad_batch_is_told_and_the_rest_follows() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("some.frames");
    let number = |n: u64| n.to_be_bytes();
    // [ts, [["AllBlocksCleared"], ["NoSuchEvent"], ["BlockStored", 1], ["AllBlocksCleared"]]]
    let mut mixed = vec![0x92, 0x01, 0x94];
    for tag in ["AllBlocksCleared", "NoSuchEvent"] {
        mixed.extend([0x91, 0xa0 | tag.len() as u8]);
        mixed.extend(tag.bytes());
    }
    mixed.extend([0x92, 0xab]);
    mixed.extend(b"BlockStored");
    mixed.push(0x01);
    mixed.extend([0x91, 0xb0]);
    mixed.extend(b"AllBlocksCleared");
    let bytes = [
        message(&[b"t", &number(0), b"\xc1 no msgpack"]),
        message(&[b"t", b"short", b"\x92\x00\x90"]),
        message(&[b"only one frame"]),
        // An array that ends before what it announces.
        message(&[b"t", &number(1), b"\xdd\xff\xff\xff\xff"]),
        message(&[b"t", &number(2), &mixed]),
    ];
    std::fs::write(&file, bytes.concat()).unwrap();
    let output = decode(&file);
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output.stdout);
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["seq"].clone(), line["kind"].as_str().unwrap()))
        .filter(|(_, kind)| *kind != "unknown")
        .collect();
    let errors = |seq: Value| {
        told.iter()
            .filter(|t| **t == (seq.clone(), "error"))
            .count()
    };
    assert_eq!(errors(0.into()), 1, "{lines:?}");
    assert_eq!(errors(Value::Null), 2, "{lines:?}");
    assert_eq!(errors(1.into()), 1, "{lines:?}");
    let cleared = told.iter().filter(|t| **t == (2.into(), "cleared"));
    assert_eq!(cleared.count(), 2, "the events around a bad one: {lines:?}");
    assert!(errors(2.into()) >= 1, "{lines:?}");
    let reasons = lines.iter().filter(|l| l["kind"] == "error");
    for line in reasons {
        assert!(!line["error"].as_str().unwrap().is_empty(), "{line}");
    }
}

#[test]
fn a_recording_cut_short_decodes_up_to_the_cut() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("cut.frames");
    let whole = std::fs::read(capture("sglang-0.5.23")).unwrap();
    let mut reader = FramesReader::open(&capture("sglang-0.5.23")).unwrap();
    for _ in 0..10 {
        reader.next().unwrap().unwrap();
    }
    let end = reader.offset() as usize;
    std::fs::write(&file, &whole[..end + 7]).unwrap();
    let output = decode(&file);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("message 10") && said.contains("cut short"),
        "{said}"
    );
    let got = lines(&output.stdout);
    let expected = capture("sglang-0.5.23").with_extension("expected.jsonl");
    let expected = lines(&std::fs::read(expected).unwrap());
    let expected: Vec<_> = expected
        .iter()
        .filter(|e| e["seq"].as_u64() < Some(10))
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(got.len(), expected.len());

    let output = decode(&home.path().join("none.frames"));
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("none.frames"), "{told}");
    assert_eq!(told.matches("No such file").count(), 1, "{told}");
    let output = decode(&penstock_testkit::root().join("README.md"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("not a .frames file"), "{told}");
}
