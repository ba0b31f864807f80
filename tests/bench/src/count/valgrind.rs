//! This program under callgrind.

use super::work::Part;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// The function within which is counted.
const TOGGLE: &str = "--toggle-collect=*count*work*collected*";

/// Instructions that a part takes. `cache` keeps what is compiled.
pub fn count(part: Part, cache: &Path) -> Result<u64> {
    let out = cache.join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", TOGGLE])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["counted", &part.name(), "--cache"])
        .arg(cache)
        .env_remove("RUST_BACKTRACE")
        .output()
        .context("cannot start valgrind; install it: apt-get install valgrind")?;
    super::check("valgrind", &output)?;
    let text = std::fs::read_to_string(&out).context("valgrind wrote no counts")?;
    match totals(&text) {
        Some(0) | None => bail!("valgrind counted nothing of {}", part.name()),
        Some(count) => Ok(count),
    }
}

/// The line `totals: N` at the end.
fn totals(text: &str) -> Option<u64> {
    let mut lines = text.lines().rev();
    let line = lines.find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn totals_are_at_the_end() {
        let text = "version: 1\nevents: Ir\nfn=(1) a\n+3 7\n\ntotals: 1234\n";
        assert_eq!(super::totals(text), Some(1234));
        assert_eq!(super::totals("events: Ir\n"), None);
    }
}
