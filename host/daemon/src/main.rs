//! The `penstock` binary: the daemon, an engine's stand-in, and the tools beside.
//!
//! Exit codes: 0 done, 1 failed while running, 2 wrong arguments, 3 a capture of
//! nothing, 64 a mistake in the config, before any socket opens.

mod commands;
mod config;
mod daemon;

use clap::{Parser, Subcommand};
use commands::print::causes;
use std::process::ExitCode;

/// KV-cache events in, through WebAssembly plugins, answers out.
#[derive(Parser)]
#[command(name = "penstock", version, about, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  penstock run --config penstock.toml
  penstock ctl status
  penstock query --model m --tokens 1,2,3,4
  penstock publish --trace trace.jsonl --endpoint 'tcp://*:5557' --replay 'tcp://*:6557'
  penstock capture tcp://10.0.0.7:5557 -o engine.frames
  penstock decode engine.frames
  penstock plugin new by-adapter
  penstock plugin check by_adapter.wasm";

#[derive(Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM.
    Run(commands::run::Args),
    /// Check a config file, and say what is wrong with it.
    Check(commands::check::Args),
    /// Ask the running daemon how it is, or to reload.
    Ctl(commands::ctl::Args),
    /// Ask who holds the longest prefix of a prompt.
    Query(commands::query::Args),
    /// Act as an engine: publish a recording or a trace, and answer replays.
    Publish(Box<commands::publish::Args>),
    /// Record a stream to a .frames file.
    Capture(commands::capture::Args),
    /// Print a .frames file as one JSON object an event.
    Decode(commands::decode::Args),
    /// Tools for authors of plugins.
    Plugin(commands::plugin::Args),
}

/// A mistake in the config (`EX_USAGE`).
const EXIT_CONFIG: u8 = 64;

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(args) => commands::run::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Ctl(args) => commands::ctl::run(&args),
        Command::Query(args) => commands::query::run(&args),
        Command::Publish(args) => commands::publish::run(&args),
        Command::Capture(args) => commands::capture::run(&args),
        Command::Decode(args) => commands::decode::run(&args),
        Command::Plugin(args) => commands::plugin::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            commands::print::note(format_args!("penstock: {}", causes(&error)));
            match error.downcast_ref::<config::ConfigError>() {
                Some(_) => ExitCode::from(EXIT_CONFIG),
                None => ExitCode::FAILURE,
            }
        }
    }
}
