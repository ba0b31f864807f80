//! From starting the process to ready, with two plugins that were compiled before.

use crate::report::Row;
use anyhow::{Result, ensure};
use penstock_testkit::daemon::Setup;
use std::time::Instant;

/// Starts it again and again; the first start may compile.
pub fn run(rounds: usize) -> Result<Vec<Row>> {
    let mut samples = Vec::new();
    for round in 0..=rounds {
        let setup = Setup::new()
            .plugin("prefix-index", "prefix-index", "")
            .plugin("hot-prefixes", "hot-prefixes", "");
        let begun = Instant::now();
        let daemon = setup.start();
        if round > 0 {
            samples.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        let plugins = daemon.control().plugins()?;
        ensure!(plugins.len() == 2, "{} plugins run, not 2", plugins.len());
        let status = daemon.stop();
        ensure!(status.success(), "the daemon ended with {status}");
    }
    Ok(vec![Row {
        name: "start",
        what: "from the start to ready, prefix-index and hot-prefixes in the cache".into(),
        unit: "ms",
        ours: samples,
        ..Row::default()
    }])
}
