//! `penstock plugin`: what authors use.

use crate::rig::run;
use penstock_testkit::plugin_file;
use serde_json::Value;
use std::path::Path;

fn check(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(home, &[&["plugin", "check"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), out, error)
}

#[test]
fn a_component_is_checked_without_a_daemon() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str| plugin_file(name).display().to_string();
    let (code, text, _) = check(home.path(), &[&file("prefix-index")]);
    assert_eq!(code, Some(0), "{text}");
    for part in ["guest, lookup, tick, state", "metrics", "TOKEN_HASHES", "2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, json, _) = check(home.path(), &[&file("prefix-index.second"), "--json"]);
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["name"], "prefix-index");
    assert_eq!(found["state_schema"], 1, "the older schema");
    assert_eq!(found["features"]["lookup"], true);

    let toml = home.path().join("forward.toml");
    std::fs::write(&toml, "grants = [\"log\", \"metrics\"]\n").unwrap();
    let toml = toml.display().to_string();
    let (code, _, error) = check(home.path(), &[&file("forward"), "--toml", &toml]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("add \"publish\" to `grants`"), "{error}");
    std::fs::write(&toml, "grant = []\n").unwrap();
    let (code, _, error) = check(home.path(), &[&file("forward"), "--toml", &toml]);
    assert_eq!(code, Some(64), "{error}");
    assert!(
        error.contains("forward.toml:1") && error.contains("`grants`"),
        "{error}"
    );

    for (bytes, why) in [
        (&b"no wasm"[..], "garbage.wasm"),
        (b"\0asm\x01\0\0\0", "module"),
    ] {
        let garbage = home.path().join("garbage.wasm");
        std::fs::write(&garbage, bytes).unwrap();
        let (code, _, error) = check(home.path(), &["garbage.wasm"]);
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains(why), "{error}");
    }
    let (code, _, error) = check(home.path(), &["missing.wasm"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("missing.wasm: cannot be read"), "{error}");
}
