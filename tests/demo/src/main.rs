//! The demo: penstock at work, and then on trial.
//!
//! Two engines replay a trace of real requests over TCP, and the daemon follows them
//! with an index and a forwarder, while lookups are asked. Frames are dropped on
//! purpose, the index is swapped for another build, and an engine is killed and
//! starts again. Then every batch and every answer is checked against the engines'
//! own log. It ends with 0 only if nothing was lost, no answer was wrong, and all of
//! that really happened.

mod lookups;
mod options;
mod report;
mod scene;
mod script;
mod verify;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use options::Options;
use report::Outcome;
use scene::Scene;
use script::Interrupted;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(why) = options.check() {
        let kind = clap::error::ErrorKind::ValueValidation;
        Options::command().error(kind, why).exit();
    }
    let outcome = on_signal().and_then(|interrupted| run(&options, &interrupted));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            match error.is::<Interrupted>() {
                true => ExitCode::from(130),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// The whole story; true when it ended well.
fn run(options: &Options, interrupted: &AtomicBool) -> Result<bool> {
    scene::check_built()?;
    let begun = Instant::now();
    let bar = report::Bar::new(options);
    bar.say("starting two engines and the daemon");
    let mut scene = Scene::start(options)?;
    let played = script::play(&mut scene, options, &bar, interrupted);
    let log = |scene: &Scene| report::daemon_log(&scene.daemon.process.output());
    let played = played.inspect_err(|_| {
        bar.clear();
        log(&scene);
    })?;
    bar.say("checking every batch and every answer");
    let verdict = verify::verify(verify::Evidence {
        log: &scene.log,
        record: &scene.record,
        forwarded: &scene.forwarded,
        sources: &played.sources,
        answers: &played.answers,
        workload: &scene.workload,
        interrupted,
    });
    bar.clear();
    let verdict = verdict.inspect_err(|_| log(&scene))?;
    let outcome = Outcome::new(&played, &verdict, begun.elapsed());
    let table = report::table(&outcome, &played);
    match options.json {
        true => eprintln!("{table}"),
        false => println!("{table}"),
    }
    for reason in &outcome.reasons {
        eprintln!("demo: {reason}");
    }
    if !outcome.ok {
        log(&scene);
    }
    if options.json {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(outcome.ok)
}

/// A flag that Ctrl-C and SIGTERM set. The story ends then, and with it everything
/// that it started.
fn on_signal() -> Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    let wait = move || {
        runtime.block_on(async {
            let both = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            );
            let (Ok(mut interrupt), Ok(mut terminate)) = both else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            set.store(true, Relaxed);
        });
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .context("cannot wait for signals")?;
    Ok(flag)
}
