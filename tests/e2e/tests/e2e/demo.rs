//! The demo, short: a clean run ends well, and each sabotage is noticed.

use penstock_testkit::target;
use serde_json::Value;
use std::process::{Command, Output};

/// Engines publish for ten seconds, the least the demo takes.
fn demo(more: &[&str]) -> (Output, Value) {
    let program = target().join("release/penstock-demo");
    assert!(
        program.exists(),
        "{} is missing; build it: cargo build --release --workspace --bins",
        program.display()
    );
    let output = Command::new(program)
        .args(["--json", "--seconds", "10", "--rate", "150"])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let told = serde_json::from_str(last);
    let told = told.unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output, told)
}

fn number(told: &Value, key: &str) -> u64 {
    let number = told[key].as_u64();
    number.unwrap_or_else(|| panic!("no {key}: {told}"))
}

#[test]
fn a_clean_run_loses_nothing_and_answers_right() {
    let (output, told) = demo(&["--lookups", "250"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((number(&told, "lost"), number(&told, "wrong")), (0, 0));
    for key in ["events", "blocks", "lookups", "hits"] {
        assert!(number(&told, key) > 100, "{key}: {told}");
    }
    for key in ["swaps", "restarts_seen", "gaps", "gaps_filled"] {
        assert!(number(&told, key) >= 1, "{key}: {told}");
    }
}

fn sabotaged(fault: &str) {
    let (output, told) = demo(&["--sabotage", fault]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let found = number(&told, "lost") + number(&told, "wrong");
    assert!(found > 0, "{fault}: {told}");
}

#[test]
fn batches_dropped_in_the_daemon_are_noticed() {
    sabotaged("drop-batch");
}

#[test]
fn removes_left_out_are_noticed() {
    sabotaged("skip-remove");
}

#[test]
fn a_restart_not_told_is_noticed() {
    sabotaged("stale-restart");
}
