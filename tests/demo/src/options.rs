//! What the demo is asked to do.

use clap::{Parser, ValueEnum};
use std::time::Duration;

/// Two engines, the daemon, lookups, lost frames, a live swap and a restart; then
/// every answer and every batch is checked.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask demo", after_help = EXAMPLES)]
pub struct Options {
    /// End standard output with one JSON line, and show no progress bar.
    #[arg(long)]
    pub json: bool,
    /// How long the engines publish, in seconds. Starting and checking come on top.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(10..=300))]
    pub seconds: u64,
    /// Batches a second and engine.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=2_000))]
    pub rate: u32,
    /// Lookups a second.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(20..=2_000))]
    pub lookups: u32,
    /// Share of the batches that engines do not send live, 0 to 0.5.
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    pub drop: f64,
    /// Decides which requests are asked for and which batches are dropped.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Break the daemon on purpose: the demo must notice, and end with 1.
    #[arg(long, value_enum)]
    pub sabotage: Option<Sabotage>,
}

const EXAMPLES: &str = "Examples:
  cargo xtask demo
  cargo xtask demo --seconds 60 --drop 0.05
  cargo xtask demo --json | tail -n 1
  cargo xtask demo --sabotage=drop-batch

Exit codes: 0 nothing lost and no answer wrong; 1 otherwise, with the reasons on
standard error; 2 wrong options; 130 interrupted.";

/// A fault in the daemon's own path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// Some batches are lost behind the order machine, unreported.
    DropBatch,
    /// Removed blocks never reach the plugins.
    SkipRemove,
    /// The engine's restart is not reported.
    StaleRestart,
}

/// Batches that are checked in one run, at most: the checker is slow on purpose.
const MOST_BATCHES: u64 = 120_000;

// === impl Options ===

impl Options {
    /// What clap cannot see.
    ///
    /// # Errors
    /// What is wrong and how to mend it.
    pub fn check(&self) -> Result<(), String> {
        let batches = 2 * self.seconds * u64::from(self.rate);
        if batches <= MOST_BATCHES {
            return Ok(());
        }
        Err(format!(
            "--seconds {} at --rate {} makes {batches} batches, and {MOST_BATCHES} can be checked: lower one of them",
            self.seconds, self.rate
        ))
    }

    /// How long the engines publish.
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long anything else is waited for. What was broken on purpose never
    /// comes, so less then.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(if self.sabotage.is_some() { 8 } else { 30 })
    }
}

// === impl Sabotage ===

impl Sabotage {
    /// As the daemon calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropBatch => "drop-batch",
            Self::SkipRemove => "skip-remove",
            Self::StaleRestart => "stale-restart",
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    match (0.0..=0.5).contains(&share) {
        true => Ok(share),
        false => Err("a share from 0 to 0.5".into()),
    }
}
