use super::stop;
use anyhow::Result;
use indicatif::ProgressBar;
use penstock_peer::capture::{CaptureConfig, capture};
use penstock_peer::endpoint::Side;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `penstock capture`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  penstock capture tcp://10.0.0.7:5557 -o engine.frames --duration 60"
)]
pub struct Args {
    /// The engine's endpoint.
    endpoint: String,
    /// The file to write.
    #[arg(long, short)]
    output: PathBuf,
    /// Bind, for engines that connect.
    #[arg(long)]
    bind: bool,
    /// Topic prefix; may be given several times. Default: everything.
    #[arg(long)]
    topic: Vec<String>,
    /// End after so many messages.
    #[arg(long)]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long)]
    duration: Option<f64>,
    /// End after so many seconds without a message, once one has come.
    #[arg(long)]
    idle: Option<f64>,
    /// Print what was recorded as JSON.
    #[arg(long)]
    json: bool,
}

/// Records until told to stop.
pub fn run(args: &Args) -> Result<ExitCode> {
    let stop = stop::on_signal()?;
    let config = CaptureConfig {
        endpoint: args.endpoint.clone(),
        side: if args.bind { Side::Bind } else { Side::Connect },
        topics: args.topic.clone(),
        path: args.output.clone(),
        hwm: 100_000,
        max_messages: args.count,
        max_bytes: None,
        idle: args.idle.map(Duration::from_secs_f64),
        duration: args.duration.map(Duration::from_secs_f64),
    };
    let bar = ProgressBar::new_spinner();
    let summary = capture(&penstock_peer::Context::new(), &config, &stop, |now| {
        bar.set_message(format!("{} messages, {} bytes", now.messages, now.bytes));
        bar.tick();
    })?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!(
            "{}: {} messages, {} bytes, {} gaps ({} missing), {} restarts, {} malformed",
            args.output.display(),
            summary.messages,
            summary.bytes,
            summary.gaps,
            summary.missing,
            summary.restarts,
            summary.malformed
        );
    }
    Ok(ExitCode::SUCCESS)
}
