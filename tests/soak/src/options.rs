//! What the soak test is asked to do.

use clap::{Args, Parser, Subcommand};
use std::time::Duration;

/// Swaps the index many times while engines publish and clients ask.
///
/// Ends with 0 only if no batch was lost or doubled, no swap failed, no state was fed
/// anew and the pauses were short enough.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak-reload", after_help = EXAMPLES)]
pub struct Options {
    /// Swaps, each to a build whose state has another schema.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub swaps: u64,
    /// Blocks held in the index, all engines together.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub blocks: u64,
    /// Engines that hold them.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub engines: u32,
    /// Swap no longer than this many seconds; what was done by then is judged.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds_max: Option<u64>,
    /// How long the maximum load is measured, and then the time without swaps, in seconds.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub measure_seconds: u64,
    /// The load while swaps go on, as a share of the maximum.
    #[arg(long, default_value_t = 0.5)]
    pub load: f64,
    /// The 99th percentile of the pauses that is still well, in ms.
    #[arg(long, default_value_t = 50.0)]
    pub pause_limit_ms: f64,
    /// End standard output with one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// The other process.
    #[command(subcommand)]
    pub hidden: Option<Hidden>,
}

/// Not for people.
#[derive(Debug, Subcommand)]
pub enum Hidden {
    /// Judges what comes out of the sink against the publishers' log on its input.
    #[command(hide = true)]
    Judge(JudgeArgs),
}

/// What the judge is told.
#[derive(Clone, Debug, Args)]
pub struct JudgeArgs {
    /// Engines that publish.
    #[arg(long)]
    pub engines: u32,
}

const EXAMPLES: &str = "Examples:
  cargo xtask soak-reload
  cargo xtask soak-reload --swaps 100 --json | tail -n 1
  cargo xtask soak-reload --swaps 20 --blocks 100000 --engines 4

Exit codes: 0 all is well; 1 otherwise, with the reasons on standard error; 2 wrong
options.";

// === impl Options ===

impl Options {
    /// How long is measured.
    pub fn measure(&self) -> Duration {
        Duration::from_secs(self.measure_seconds)
    }

    /// How long swaps may go on.
    pub fn longest(&self) -> Duration {
        self.seconds_max.map_or(Duration::MAX, Duration::from_secs)
    }
}
