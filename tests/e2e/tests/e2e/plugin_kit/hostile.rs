//! Files that are none, or damaged: every command says so, and none panics.

use super::{Did, plugin};
use penstock_testkit::{capture, plugin_file};
use std::path::Path;

fn refused(home: &Path, arguments: &[&str]) -> Did {
    let did = plugin(home, arguments);
    assert!(
        !did.error.contains("panicked"),
        "{arguments:?}: {}",
        did.error
    );
    assert_eq!(did.code, Some(1), "{arguments:?}: {}", did.out);
    assert!(
        did.error.starts_with("penstock: "),
        "{arguments:?}: {}",
        did.error
    );
    did
}

#[test]
fn damaged_components_are_refused_by_every_command() {
    let home = tempfile::tempdir().unwrap();
    let good = std::fs::read(plugin_file("forward")).unwrap();
    let tests = home.path().join("tests");
    std::fs::create_dir(&tests).unwrap();
    std::fs::copy(capture("vllm-0.9.2"), tests.join("a.frames")).unwrap();
    let path = home.path().join("bad.wasm");
    let endpoint = ["run", "bad.wasm", "--endpoint", "tcp://127.0.0.1:1"];
    for cut in [0, 3, 9, 200, 2_000, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..cut]).unwrap();
        for command in [
            &["check", "bad.wasm"][..],
            &["inspect", "bad.wasm"],
            &["bench", "bad.wasm"],
            &["test", "bad.wasm"],
            &endpoint,
        ] {
            refused(home.path(), command);
        }
    }
    std::fs::write(&path, b"\0asm\x01\0\0\0").unwrap();
    let did = refused(home.path(), &["inspect", "bad.wasm"]);
    assert!(
        did.error.contains("--target wasm32-wasip2"),
        "{}",
        did.error
    );
}

#[test]
fn a_byte_that_flipped_is_no_reason_to_panic() {
    let home = tempfile::tempdir().unwrap();
    let good = std::fs::read(plugin_file("forward")).unwrap();
    // Types and names stand at both ends, code between them.
    let (near, step) = (4_000.min(good.len() / 2), 661);
    let ends = (0..near).chain(good.len() - near..good.len()).step_by(step);
    for at in ends {
        let mut bad = good.clone();
        bad[at] ^= 0x15;
        std::fs::write(home.path().join("bad.wasm"), bad).unwrap();
        let did = plugin(home.path(), &["inspect", "bad.wasm"]);
        assert!(!did.error.contains("panicked"), "byte {at}: {}", did.error);
        assert!(matches!(did.code, Some(0 | 1)), "byte {at}: {}", did.error);
    }
}

#[test]
fn bad_recordings_and_questions_are_named() {
    let home = tempfile::tempdir().unwrap();
    let tests = home.path().join("tests");
    std::fs::create_dir(&tests).unwrap();
    let file = plugin_file("prefix-index").display().to_string();
    let frames = tests.join("a.frames");
    let test = || plugin(home.path(), &["test", &file]);

    std::fs::write(&frames, b"no frames at all").unwrap();
    let did = test();
    assert_eq!(did.code, Some(1));
    assert!(
        did.out.contains("a ... FAILED") && did.out.contains("a.frames"),
        "{}",
        did.out
    );

    std::fs::copy(capture("vllm-0.9.2"), &frames).unwrap();
    let did = test();
    assert!(did.out.contains("a.expected is missing"), "{}", did.out);
    for (toml, why) in [
        ("[[ask]]\ntokens = [1]\ntick = true", "one of `tokens`"),
        ("[[asks]]", "unknown field"),
        ("[[ask]]\nengine_hashes = [\"x\"]", "is no hash"),
    ] {
        std::fs::write(tests.join("a.toml"), toml).unwrap();
        let did = test();
        assert_eq!(did.code, Some(1), "{toml}: {}", did.out);
        assert!(
            did.out.contains(why) && did.out.contains("a.toml"),
            "{toml}: {}",
            did.out
        );
    }
    std::fs::write(tests.join("a.toml"), "[[ask]]\ntick = true\n").unwrap();
    let update = plugin(home.path(), &["test", "--update", &file]);
    assert_eq!(update.code, Some(0), "{}{}", update.out, update.error);
    assert_eq!(test().code, Some(0));
    let expected = std::fs::read_to_string(tests.join("a.expected")).unwrap();
    assert!(
        expected.contains("tick: done") && expected.contains("blocks "),
        "{expected}"
    );
}
