//! Instructions instead of seconds: the same on every run, so that CI can compare them.
//!
//! ```text
//! penstock-bench count ── for each part ──> valgrind ── penstock-bench counted PART
//!   instructions.toml <── a block, batch or lookup ── what it counted in `collected`
//! ```
//! Callgrind counts what runs within [`collected`], compiled Wasm included. Input and order are
//! fixed, and so are seeds, but for those of the native index, which move its counts by less than
//! 1 %. The baseline is for x86-64 with AVX2 and the C library of Debian 12: on another
//! architecture counts are shown and not compared.

mod valgrind;
mod work;

pub use work::{Args as WorkArgs, Part, run as counted};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use comfy_table::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Counts instructions and compares them with `tests/bench/instructions.toml`.
///
/// Ends with an error when a count is more than 5 % away from what is written there, in
/// either direction: who makes something cheaper writes that down.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench count\n  cargo xtask bench count --update")]
pub struct Args {
    /// Write down what was counted instead.
    #[arg(long)]
    update: bool,
    /// One JSON object a part instead of a table.
    #[arg(long)]
    json: bool,
}

/// `instructions.toml`: instructions by part.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Baseline(BTreeMap<String, f64>);

/// One part, counted.
#[derive(Debug, Serialize)]
struct Count {
    part: String,
    each: &'static str,
    instructions: f64,
    baseline: Option<f64>,
    /// Of the baseline.
    change_percent: Option<f64>,
    ok: bool,
}

/// Of the baseline, either way.
const BOUND_PERCENT: f64 = 5.0;

/// Other machines have other instructions.
const COMPARED: bool = cfg!(target_arch = "x86_64");

const HEAD: &str = "\
# Instructions of one block, batch or lookup: `cargo xtask bench count` compares them with what it
# counts, `cargo xtask bench count --update` writes them anew. Release build, valgrind's callgrind.
";

/// All parts.
pub fn run(args: &Args) -> Result<()> {
    let file = file();
    let baseline: Baseline = match std::fs::read_to_string(&file) {
        Ok(text) => toml::from_str(&text).context("instructions.toml")?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Baseline::default(),
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    };
    let cache = tempfile::tempdir()?;
    let mut counts = Vec::new();
    for part in Part::value_variants() {
        let name = part.name();
        eprintln!("counting {name}");
        let instructions = valgrind::count(*part, cache.path())? as f64 / part.many() as f64;
        // What is written down has one digit.
        let instructions = (instructions * 10.0).round() / 10.0;
        counts.push(Count::new(*part, instructions, baseline.0.get(&name)));
    }
    if args.json {
        for count in &counts {
            println!("{}", serde_json::to_string(count)?);
        }
    } else {
        table(&counts);
    }
    if args.update {
        let all = counts.iter().map(|c| (c.part.clone(), c.instructions));
        let text = toml::to_string(&Baseline(all.collect()))?;
        std::fs::write(&file, format!("{HEAD}{text}"))
            .with_context(|| format!("cannot write {}", file.display()))?;
        return Ok(());
    }
    let off: Vec<&str> = counts.iter().filter(|c| !c.ok).map(|c| &*c.part).collect();
    ensure!(
        off.is_empty(),
        "more than {BOUND_PERCENT} % away from tests/bench/instructions.toml: {}. If that is meant, \
         write it down: cargo xtask bench count --update",
        off.join(", ")
    );
    Ok(())
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

fn table(counts: &[Count]) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["part", "instructions", "each", "baseline", "change"]);
    for count in counts {
        table.add_row([
            count.part.clone(),
            format!("{:.1}", count.instructions),
            count.each.to_owned(),
            count
                .baseline
                .map_or_else(String::new, |b| format!("{b:.1}")),
            count
                .change_percent
                .map_or_else(String::new, |c| format!("{c:+.1} %")),
        ]);
    }
    println!("{table}");
}

// === impl Count ===

impl Count {
    fn new(part: Part, instructions: f64, baseline: Option<&f64>) -> Self {
        let change = baseline.map(|baseline| (instructions / baseline - 1.0) * 100.0);
        Self {
            part: part.name(),
            each: part.each(),
            instructions,
            baseline: baseline.copied(),
            change_percent: change,
            ok: !COMPARED || change.is_some_and(|change| change.abs() <= BOUND_PERCENT),
        }
    }
}

/// The text that a tool wrote, if it failed.
fn check(what: &str, output: &std::process::Output) -> Result<()> {
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let end: Vec<&str> = text.lines().rev().take(20).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        bail!("{what} ended with {}:\n{}", output.status, end.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_by_more_than_the_bound_is_told() {
        let ok = |now, before: f64| Count::new(Part::Find, now, Some(&before)).ok;
        assert!(ok(104.9, 100.0) && ok(95.1, 100.0));
        assert!(!ok(105.1, 100.0) && !ok(94.9, 100.0));
        assert!(
            !Count::new(Part::Find, 1.0, None).ok,
            "a part without a baseline"
        );
    }

    #[test]
    fn the_baseline_names_every_part_and_no_other() {
        let text = std::fs::read_to_string(file()).unwrap();
        let baseline: Baseline = toml::from_str(&text).unwrap();
        let mut parts: Vec<String> = Part::value_variants().iter().map(|p| p.name()).collect();
        parts.sort();
        assert_eq!(baseline.0.into_keys().collect::<Vec<_>>(), parts);
    }
}
