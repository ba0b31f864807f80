//! What `cargo xtask bench` runs.
//!
//! ```text
//! decode  payload bytes -> columns                  each engine's way of writing them
//! index   a batch into prefix-index, a component    against the same crate, native
//! path    TCP loopback -> daemon -> prefix-index    against a loop that only receives
//! ```
//!
//! Where two sides are compared, both get the same bytes, take turns within one
//! run, drain what is queued before the clock stops, and are checked afterwards:
//! each holds what the engines hold, block for block. A wrong content ends the
//! run with an error; a figure beyond what is expected is shown and is no error,
//! since machines differ.
//!
//! What one thread does is measured in its CPU time, so that other programs on
//! the machine disturb it less; figures are medians of several rounds.
//!
//! Not here: latency of lookups, memory.

mod decode;
mod index;
mod machine;
mod measure;
mod path;
mod payloads;
mod publish;
mod receive;
mod report;
mod workload;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use machine::Machine;

/// Measures decode, index and the whole path.
///
/// Ends with an error when a measurement is void (something was lost or is wrong),
/// not when a figure is beyond what is expected.
#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench --json\n  \
                  cargo xtask bench --quick --only decode --only index"
)]
struct Args {
    /// One JSON object a part instead of a table.
    #[arg(long)]
    json: bool,
    /// Fewer rounds, and no trace on the whole path: about 10 s.
    #[arg(long)]
    quick: bool,
    /// These parts alone; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    #[command(subcommand)]
    hidden: Option<Hidden>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Payload bytes to columns.
    Decode,
    /// The component's boundary, and the index behind it.
    Index,
    /// From a socket to the index, through the daemon.
    Path,
}

#[derive(Subcommand)]
enum Hidden {
    /// The other side of the whole path: receives so many messages, no more.
    #[command(hide = true)]
    Receive(receive::Args),
}

/// Rounds of each part: usually, and with `--quick`.
const ROUNDS: [(Part, usize, usize); 3] = [
    (Part::Decode, 15, 3),
    (Part::Index, 9, 2),
    (Part::Path, 3, 1),
];

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Hidden::Receive(args)) = args.hidden {
        return receive::run(&args);
    }
    let machine = Machine::read();
    let mut rows = Vec::new();
    for (part, rounds, quick) in ROUNDS {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        let rounds = if args.quick { quick } else { rounds };
        let report = match part {
            Part::Decode => decode::run(rounds)?,
            Part::Index => index::run(rounds)?,
            Part::Path => path::run(rounds, !args.quick)?,
        };
        if args.json {
            report::line(&report, &machine)?;
        }
        rows.extend(report.rows);
    }
    if !args.json {
        println!("{machine}");
        report::table(&rows);
    }
    Ok(())
}
