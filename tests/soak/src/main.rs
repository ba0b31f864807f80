//! Many swaps under load, judged from outside.
//!
//! Engines publish so that an index holds a given number of blocks, and go on at half
//! of the load that the daemon could take. The index is replaced again and again by
//! another build whose state has another schema, while a client asks. Both builds
//! forward every batch, so that another process can compare what came out with what
//! was published: nothing may be missing, twice or late. See [`story`].

mod asker;
mod blocks;
mod engines;
mod judge;
mod ledger;
mod log;
mod options;
mod others;
mod report;
mod scene;
mod story;
mod waits;

use anyhow::Result;
use clap::Parser;
use options::{Hidden, Options};
use report::Outcome;
use scene::Scene;
use std::process::ExitCode;

/// Lines of the daemon's log that are shown when something is wrong.
const SHOWN: usize = 40;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.hidden {
        Some(Hidden::Judge(args)) => judge::run(args).map(|()| true),
        None => run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True when all was well.
fn run(options: &Options) -> Result<bool> {
    scene::check_built()?;
    let mut scene = Scene::start(options)?;
    let played = story::play(&mut scene, options);
    let played = played.inspect_err(|_| show_log(&scene))?;
    let outcome = Outcome::new(played, scene.load.blocks(), options);
    if !outcome.ok {
        show_log(&scene);
    }
    for reason in &outcome.reasons {
        eprintln!("soak: {reason}");
    }
    match options.json {
        true => println!("{}", serde_json::to_string(&outcome)?),
        false => println!("{}", outcome.table()),
    }
    Ok(outcome.ok)
}

fn show_log(scene: &Scene) {
    let output = scene.daemon.process.output();
    let lines: Vec<_> = output.lines().collect();
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        eprintln!("  | {line}");
    }
}
