//! Components of another interface, told in the author's terms.

use super::{Crate, plugin};
use penstock_testkit::plugin_file;
use serde_json::Value;

#[test]
fn another_interface_is_told_by_function_and_version() {
    let made = Crate::new("kit-other", "operator");
    made.replace(
        "wit/guest.wit",
        "    skipped: u32,\n",
        "    skipped: u32,\n    extra: u32,\n",
    );
    let did = made.plugin(&["build"]);
    assert_eq!(did.code, Some(1), "{}", did.out);
    let said = "parameter `batch` of guest.on-batch differs: batch has a field `extra`, which \
                this host does not have";
    assert!(did.error.contains(said), "{}", did.error);

    made.replace("wit/package.wit", "@0.1.0", "@0.2.0");
    made.replace("penstock-sdk/src/generated.rs", "@0.1.0", "@0.2.0");
    let did = made.plugin(&["build"]);
    assert_eq!(did.code, Some(1), "{}", did.out);
    let said = "built for penstock:plugin@0.2.0, this host has 0.1.0";
    assert!(did.error.contains(said), "{}", did.error);

    // It can be looked at all the same.
    let built = did.error.lines().find_map(|l| l.strip_prefix("built "));
    let did = made.plugin(&["inspect", built.unwrap(), "--json"]);
    assert_eq!(did.code, Some(0), "{}", did.error);
    let found: Value = serde_json::from_str(&did.out).unwrap();
    assert!(
        found["exports"]["penstock:plugin/guest@0.2.0"].is_array(),
        "{found}"
    );
    assert!(
        found["refused"].as_str().unwrap().contains("0.2.0"),
        "{found}"
    );
    assert_eq!(found["said"], Value::Null);
}

#[test]
fn a_swap_that_loses_state_fails_the_check() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str| plugin_file(name).display().to_string();
    let against = |new: &str, old: &str| {
        plugin(
            home.path(),
            &["check", &file(new), "--against", &file(old), "--json"],
        )
    };
    for (new, old, code, state) in [
        (
            "prefix-index",
            "prefix-index.second",
            0,
            "schema 1 -> 2: the new build must read 1",
        ),
        ("prefix-index", "prefix-index", 0, "schema 2, as before"),
        (
            "forward",
            "prefix-index",
            1,
            "`state` is no longer exported",
        ),
        ("prefix-index", "forward", 0, "none to hand over"),
    ] {
        let did = against(new, old);
        assert_eq!(did.code, Some(code), "{new} {old}: {}", did.error);
        let found: Value = serde_json::from_str(&did.out).unwrap();
        let found = &found["against"];
        assert!(found["state"].as_str().unwrap().contains(state), "{found}");
        assert_eq!(found["loses_state"], code == 1);
    }
    let did = against("forward", "prefix-index");
    for part in [
        "no longer exports penstock:plugin/lookup@0.1.0",
        "imports penstock:plugin/publish",
    ] {
        assert!(did.out.contains(part), "{part}: {}", did.out);
    }
}
