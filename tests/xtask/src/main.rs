//! `cargo xtask`: the project's own commands.
//!
//! Each does its own set-up: what is missing on the machine is installed where
//! rustup or cargo can, and named with the command that installs it otherwise.

mod javascript;
mod setup;
mod steps;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, tests, shows and measures penstock.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --json --seconds 20\n  cargo xtask test\n  cargo xtask test --only e2e\n  cargo xtask bench --json\n  cargo xtask soak-reload --swaps 100\n  cargo xtask plugins\n  cargo xtask plugins --javascript"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Told here, so that nothing must be built for it.
const BENCH_HELP: &str = "Options of the benchmark:
  --json       one JSON object a row instead of a table
  --quick      fewer rounds of the same sizes: at most 5 minutes once built
  --only PART  decode, index, wasm, path, lookup, growth, shards, idle or start alone;
               may be given several times
  count        counts instructions instead, and compares them with those written down

Ends with an error when something could not be measured, not when a goal is missed.

Examples:
  cargo xtask bench
  cargo xtask bench --json > rows.jsonl
  cargo xtask bench --quick --only decode --only wasm
  cargo xtask bench count";

/// Likewise.
const SOAK_HELP: &str = "Options of the soak test:
  --swaps N        swaps between two builds whose state schemas differ (1000)
  --blocks N       blocks held in the index (1000000)
  --engines N      engines that hold them (16)
  --seconds-max N  swap no longer than this; what was done by then is judged
  --json           end standard output with one JSON object instead of a table

Ends with 0 only if no batch was lost or doubled, no swap failed, no state was fed anew
and the 99th percentile of the pauses is at most 50 ms.

Examples:
  cargo xtask soak-reload
  cargo xtask soak-reload --swaps 100 --json
  cargo xtask soak-reload --swaps 20 --blocks 100000";

#[derive(Subcommand)]
enum Command {
    /// Two engines, the daemon, lookups, lost frames, a swap and a restart, live.
    Demo {
        /// Options of the demo itself: --json, --seconds N, --sabotage=FAULT, --help.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Format, lints, unit tests and end-to-end tests, with the time of each part.
    Test {
        /// Run these parts alone; may be given several times.
        #[arg(long, value_enum)]
        only: Vec<steps::Part>,
    },
    /// Measures everything that has a goal, beside what it is compared with.
    #[command(after_help = BENCH_HELP)]
    Bench {
        /// Options of the benchmark itself: --json, --quick, --only PART.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Swaps the index a thousand times under load; nothing may be lost or doubled.
    #[command(after_help = SOAK_HELP)]
    SoakReload {
        /// Options of the soak test itself: --swaps N, --blocks N, --seconds-max N, --json.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Builds the plugins into target/plugins.
    Plugins {
        /// The one in JavaScript alone; needs node and npm.
        #[arg(long)]
        javascript: bool,
    },
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Demo { rest } => steps::demo(&rest),
        Command::Test { only } => steps::test(&only),
        Command::Bench { rest } => steps::bench(&rest),
        Command::SoakReload { rest } => steps::soak_reload(&rest),
        Command::Plugins { javascript: true } => javascript::build(),
        Command::Plugins { javascript: false } => steps::plugins(),
    }
}
