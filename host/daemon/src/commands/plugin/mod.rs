//! Tools for authors of plugins, in the order that an author meets them. Each is one
//! file; beside them stand what they share:
//!
//! - [`settings`]: a plugin's `NAME.toml`, and what holds without one.
//! - [`stage`]: a component compiled and set up as the daemon does it, without a daemon.
//! - [`stream`]: a recording, through the daemon's own ordering and decoder.
//! - [`sample`]: batches for those who have no recording.

mod against;
mod bench;
mod build;
mod check;
mod inspect;
mod new;
mod run;
mod sample;
mod settings;
mod stage;
mod stream;
mod test;
mod vendor;

use anyhow::Result;
use clap::Subcommand;
use std::process::ExitCode;

/// Options of `penstock plugin`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make a crate of a small plugin that works, with its tests.
    New(new::Args),
    /// Build the component of a plugin's crate, and check it.
    Build(build::Args),
    /// Whether a component would be loaded here, and what it wants.
    Check(check::Args),
    /// Feed recordings to a plugin, and compare what it does with what is expected.
    Test(test::Args),
    /// How fast a plugin is, and how far from its deadline.
    Bench(bench::Args),
    /// What a component is: interfaces, columns, sizes, and what made it.
    Inspect(inspect::Args),
    /// Run one plugin on a live engine, its output on the terminal.
    Run(run::Args),
}

/// Does what is asked.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::New(args) => new::run(args),
        What::Build(args) => build::run(args),
        What::Check(args) => check::run(args),
        What::Test(args) => test::run(args),
        What::Bench(args) => bench::run(args),
        What::Inspect(args) => inspect::run(args),
        What::Run(args) => run::run(args),
    }
}
