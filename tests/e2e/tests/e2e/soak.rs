//! Swaps under load, short: builds of different state schemas take turns, and what
//! comes out behind them is what was published. How long the pauses are is measured
//! by `cargo xtask soak-reload`, on a machine that does nothing else.

use penstock_testkit::target;
use serde_json::Value;
use std::process::Command;

#[test]
fn swaps_under_load_lose_and_double_nothing() {
    let program = target().join("release/penstock-soak");
    assert!(
        program.exists(),
        "{} is missing; build it: cargo build --release --workspace --bins",
        program.display()
    );
    let output = Command::new(program)
        .args(["--swaps", "5", "--blocks", "50000", "--engines", "4"])
        .args(["--measure-seconds", "1", "--seconds-max", "20"])
        .args(["--pause-limit-ms", "30000", "--json"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let told: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert!(output.status.success(), "{output:?}");
    let number = |key: &str| {
        told[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key}: {told}"))
    };
    for key in [
        "lost",
        "doubled",
        "wrong",
        "failed_swaps",
        "rebuilt_by_replay",
    ] {
        assert_eq!(number(key), 0, "{key}: {told}");
    }
    let swaps = number("swaps");
    assert!((1..=5).contains(&swaps), "{told}");
    assert_eq!(number("distinct_generations"), swaps + 1, "{told}");
    assert!(number("batches") > 1_000 && number("hits") > 0, "{told}");
    assert!(number("blocks_held") >= 50_000, "{told}");
}
