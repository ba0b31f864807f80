//! What `cargo xtask bench` runs.
//!
//! ```text
//! decode    payload bytes -> columns                      against a limit
//! boundary  a batch into the component, which skips it    against the same, native
//! index     a batch into prefix-index                     against the same, native
//! path      TCP loopback -> daemon -> prefix-index        against a loop that only receives
//! ```
//!
//! Where two sides are compared, both get the same bytes, take turns within one
//! run, drain what is queued before the clock stops, and are checked afterwards:
//! each holds what the engines hold, block for block. A wrong content ends the
//! run with an error; a figure beyond its limit is shown and is no error, since
//! machines differ.
//!
//! Not here: latency of lookups, memory, more than two cores.

mod decode;
mod index;
mod measure;
mod path;
mod payloads;
mod publish;
mod receive;
mod report;
mod workload;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use report::Row;

/// Measures decode, index and the whole path.
#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench --json --quick\n  cargo xtask bench --only index"
)]
struct Args {
    /// One JSON object a row instead of a table.
    #[arg(long)]
    json: bool,
    /// Fewer rounds. Sizes stay.
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
    (Part::Decode, 15, 5),
    (Part::Index, 9, 3),
    (Part::Path, 5, 2),
];

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Hidden::Receive(args)) = args.hidden {
        return receive::run(&args);
    }
    let mut rows: Vec<Row> = Vec::new();
    for (part, rounds, quick) in ROUNDS {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        let rounds = if args.quick { quick } else { rounds };
        let more = match part {
            Part::Decode => decode::run(rounds)?,
            Part::Index => index::run(rounds)?,
            Part::Path => path::run(rounds)?,
        };
        if args.json {
            report::lines(&more)?;
        }
        rows.extend(more);
    }
    if !args.json {
        report::table(&rows);
    }
    Ok(())
}
