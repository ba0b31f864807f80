//! What `new` makes builds, passes its tests, and is what it says.

use super::{Crate, plugin};
use penstock_testkit::target;
use serde_json::Value;
use std::path::{Path, PathBuf};

#[test]
fn a_new_index_passes_natively_and_as_a_component_by_both_cargos() {
    let made = Crate::new("kit-index", "index");
    let (built, component) = made.build();
    assert_eq!(built["name"], "kit-index");
    assert_eq!(built["features"]["lookup"], true);
    assert_eq!(built["imports"], serde_json::json!(["log", "metrics"]));
    let wasm = component.to_str().unwrap();
    passes(&made, wasm);
    is_measured_and_seen(&made, wasm);

    let native = made.command(Path::new("cargo"), &["test", "--release", "--lib"]);
    assert_eq!(native.code, Some(0), "{}{}", native.out, native.error);
    assert!(native.out.contains("1 passed"), "{}", native.out);

    let Some(cargo) = cargo_component() else {
        eprintln!("cargo component is not installed: left out");
        return;
    };
    let did = made.command(&cargo, &["component", "build", "--release"]);
    assert_eq!(did.code, Some(0), "{}", did.error);
    let other = target().join("kit/wasm32-wasip1/release/kit_index.wasm");
    passes(&made, other.to_str().unwrap());
}

#[test]
fn new_plugins_of_other_kinds_pass_as_well() {
    for (kind, imports) in [
        ("forward", serde_json::json!(["log", "metrics", "publish"])),
        ("operator", serde_json::json!(["emit", "log", "metrics"])),
    ] {
        let made = Crate::new(&format!("kit-{kind}"), kind);
        let (built, component) = made.build();
        let mut found = built["imports"].as_array().unwrap().clone();
        found.sort_by_key(ToString::to_string);
        assert_eq!(Value::from(found), imports, "{kind}");
        passes(&made, component.to_str().unwrap());
        let native = made.command(Path::new("cargo"), &["test", "--release", "--lib"]);
        assert_eq!(native.code, Some(0), "{}{}", native.out, native.error);
        assert!(native.out.contains("2 passed"), "{}", native.out);
    }
}

/// check and test; and test fails where something differs.
fn passes(made: &Crate, wasm: &str) {
    let check = made.plugin(&["check", wasm]);
    assert_eq!(check.code, Some(0), "{}", check.error);
    let test = made.plugin(&["test", wasm]);
    assert_eq!(test.code, Some(0), "{}{}", test.out, test.error);
    assert!(test.out.contains("sample ... ok"), "{}", test.out);

    let expected = made.read("tests/sample.expected");
    made.replace(
        "tests/sample.expected",
        "batch 0/2: 2 events",
        "batch 0/2: 9 events",
    );
    let test = made.plugin(&["test", wasm]);
    assert_eq!(test.code, Some(1), "{}", test.out);
    for line in [
        "-batch 0/2: 9 events",
        "+batch 0/2: 2 events",
        " batch 0/1: 1 event",
    ] {
        assert!(
            test.out.lines().any(|l| l == line),
            "{line:?}: {}",
            test.out
        );
    }
    let update = made.plugin(&["test", "--update", wasm]);
    assert_eq!(update.code, Some(0), "{}", update.error);
    assert_eq!(made.read("tests/sample.expected"), expected);
}

/// bench and inspect.
fn is_measured_and_seen(made: &Crate, wasm: &str) {
    let bench = made.plugin(&["bench", wasm, "--json"]);
    assert_eq!(bench.code, Some(0), "{}", bench.error);
    let figures: Value = serde_json::from_str(&bench.out).unwrap();
    assert_eq!(figures["batches"], 2_000);
    assert_eq!(figures["events"], 2_000 * 4 + 1_800);
    assert!(figures["ns_per_event"].as_f64().unwrap() > 1.0, "{figures}");
    let p50 = figures["call_p50_us"].as_f64().unwrap();
    assert!(figures["call_p99_us"].as_f64().unwrap() >= p50, "{figures}");
    let frames = ["bench", wasm, "--frames", "tests/sample.frames", "--json"];
    let figures: Value = serde_json::from_str(&made.plugin(&frames).out).unwrap();
    assert_eq!(figures["batches"], 5, "of the recording");

    let inspect = made.plugin(&["inspect", wasm, "--json"]);
    let found: Value = serde_json::from_str(&inspect.out).unwrap();
    let exports = &found["exports"]["penstock:plugin/guest@0.1.0"];
    assert!(
        exports.as_array().unwrap().contains(&"on-batch".into()),
        "{found}"
    );
    assert!(
        found["producers"]["language"].to_string().contains("Rust"),
        "{found}"
    );
    assert_eq!(found["sha256"].as_str().unwrap().len(), 64);
}

fn cargo_component() -> Option<PathBuf> {
    let ours = target().join("tools/bin/cargo-component");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).map(|dir| dir.join("cargo-component"));
    ours.exists()
        .then_some(ours)
        .or_else(|| all.find(|file| file.exists()))
}

#[test]
fn what_is_there_already_stays() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("taken");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("mine.txt"), "mine").unwrap();
    for (arguments, why) in [
        (&["new", "taken"][..], "exists and is not empty"),
        (
            &["new", "fine", "--path", "taken/mine.txt"],
            "exists and is not empty",
        ),
        (&["new", "../up"], "is no name for a plugin"),
        (&["new", "std"], "is the name of something else"),
    ] {
        let did = plugin(home.path(), arguments);
        assert_eq!(did.code, Some(1), "{arguments:?}: {}", did.out);
        assert!(did.error.contains(why), "{arguments:?}: {}", did.error);
    }
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    std::fs::remove_file(folder.join("mine.txt")).unwrap();
    let did = plugin(home.path(), &["new", "taken"]);
    assert_eq!(did.code, Some(0), "an empty folder will do: {}", did.error);
    assert!(folder.join("penstock-sdk/src/lib.rs").exists());
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let did = plugin(home.path(), &["build"]);
    assert_eq!(did.code, Some(1));
    assert!(did.error.contains("penstock plugin new"), "{}", did.error);
    let did = plugin(home.path(), &["test", "x.wasm"]);
    assert!(did.error.contains("`--path` names"), "{}", did.error);
    std::fs::create_dir(home.path().join("tests")).unwrap();
    let did = plugin(home.path(), &["test", "x.wasm"]);
    assert_eq!(did.code, Some(1));
    assert!(did.error.contains("penstock capture"), "{}", did.error);
}
