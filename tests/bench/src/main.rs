//! What `cargo xtask bench` runs.
//!
//! ```text
//! decode  payload bytes -> columns                    against Dynamo's decoder
//! index   payloads -> decoded -> index in wasm        against Dynamo's indexer
//! wasm    batches -> prefix-index, a component        against the same crate, native
//! path    TCP loopback -> daemon -> prefix-index      against a process that only receives
//! lookup  under load, over ROUTER; and how soon an event is seen
//! growth  memory and time up to 10 million pairs      against 100,000
//! shards  two instances on two cores                  against one
//! idle    a thousand sources
//! start   from the start to ready
//! ```
//! and `count`, instructions of the hot paths against those written down: see [`count`].
//!
//! Where two sides are compared, both get the same bytes, take turns within one
//! run, drain what is queued before the clock stops, and are checked afterwards:
//! each holds what the engines hold, block for block. A figure that misses its
//! goal (`goals.toml`) is shown and is no error, since machines differ.
//!
//! What one thread does is measured in its CPU time, so that other programs on
//! the machine disturb it less; figures are medians of several rounds.

mod ask;
mod count;
mod feeder;
mod goals;
mod load;
mod machine;
mod measure;
mod parts;
mod payloads;
mod peer;
mod publish;
mod receive;
mod report;
mod sides;
mod stream;
mod workload;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use goals::Goals;
use machine::Machine;
use peer::Peer;
use report::Row;

/// Measures everything that has a goal, beside what it is to be compared with.
///
/// Ends with an error when a measurement could not be made (something was lost or is wrong),
/// not when a goal is missed. Builds Dynamo's published crate once, for some parts.
#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    after_help = "Examples:\n  cargo xtask bench\n  cargo xtask bench --json > rows.jsonl\n  \
                  cargo xtask bench --quick --only decode --only wasm"
)]
struct Args {
    /// One JSON object a row instead of a table.
    #[arg(long)]
    json: bool,
    /// Fewer rounds, the same sizes: at most 5 minutes once everything is built.
    #[arg(long)]
    quick: bool,
    /// These parts alone; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Payload bytes to columns.
    Decode,
    /// Payloads into the index, in wasm.
    Index,
    /// The index in wasm and native.
    Wasm,
    /// From a socket to the index, through the daemon.
    Path,
    /// Lookups under load, and how soon an event is seen.
    Lookup,
    /// Memory and time up to 10 million pairs of a block and a source.
    Growth,
    /// Two shards on two cores.
    Shards,
    /// A thousand idle sources.
    Idle,
    /// From the start to ready.
    Start,
}

#[derive(Subcommand)]
enum Command {
    Count(count::Args),
    /// What is counted.
    #[command(hide = true)]
    Counted(count::WorkArgs),
    /// The other side of the whole path: receives so many messages, no more.
    #[command(hide = true)]
    Receive(receive::Args),
}

/// Rounds of each part: usually, and with `--quick`.
const ROUNDS: [(Part, usize, usize); 9] = [
    (Part::Decode, 9, 2),
    (Part::Index, 7, 2),
    (Part::Wasm, 9, 2),
    (Part::Path, 3, 1),
    (Part::Lookup, 3, 1),
    (Part::Growth, 3, 1),
    (Part::Shards, 7, 2),
    (Part::Idle, 2, 1),
    (Part::Start, 7, 3),
];

fn main() -> Result<()> {
    let args = Args::parse();
    match &args.command {
        Some(Command::Count(args)) => return count::run(args),
        Some(Command::Counted(args)) => return count::counted(args),
        Some(Command::Receive(args)) => return receive::run(args),
        None => {}
    }
    let (goals, machine) = (Goals::read()?, Machine::read());
    let mut peer = None;
    let mut all = Vec::new();
    for (part, rounds, quick) in ROUNDS {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        let rows = run(part, if args.quick { quick } else { rounds }, &mut peer)?;
        if args.json {
            for row in &rows {
                row.print(&goals, &machine)?;
            }
        }
        all.extend(rows);
    }
    if !args.json {
        println!("{machine}");
        report::table(&all, &goals);
    }
    Ok(())
}

/// The peer is started when the first part needs it.
fn run(part: Part, rounds: usize, peer: &mut Option<Peer>) -> Result<Vec<Row>> {
    let compared: fn(usize, &mut Peer) -> Result<Vec<Row>> = match part {
        Part::Decode => parts::decode::run,
        Part::Index => parts::index::run,
        Part::Lookup => parts::lookup::run,
        Part::Growth => return parts::growth::run(rounds),
        Part::Wasm => return parts::wasm::run(rounds),
        Part::Path => return parts::path::run(rounds),
        Part::Shards => return parts::shards::run(rounds),
        Part::Idle => return parts::idle::run(rounds),
        Part::Start => return parts::start::run(rounds),
    };
    let peer = match peer {
        Some(peer) => peer,
        None => peer.insert(Peer::start()?),
    };
    compared(rounds, peer)
}
