use super::stop;
use crate::config::{self, LogFormat};
use crate::daemon::Daemon;
use anyhow::Result;
use penstock_ingest::Sabotage;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Options of `penstock run`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock run --config /etc/penstock/penstock.toml
  PENSTOCK_SOURCES='[{name=\"vllm-0\",endpoint=\"tcp://127.0.0.1:5557\"}]' penstock run")]
pub struct Args {
    /// The config file. Without one: `penstock.toml` here if there is one,
    /// otherwise defaults and PENSTOCK_… variables alone.
    #[arg(long, short, env = "PENSTOCK_CONFIG_FILE")]
    config: Option<PathBuf>,
    /// Break the daemon on purpose, for the self-test of the demo: `drop-batch`,
    /// `skip-remove` or `stale-restart`.
    #[arg(long, hide = true)]
    sabotage: Option<Sabotage>,
}

/// Runs until a signal, then drains.
pub fn run(args: &Args) -> Result<ExitCode> {
    let file = config::file(args.config.clone());
    let loaded = config::load(file.as_deref(), config::environment())?;
    let format = match loaded.config.log_format {
        LogFormat::Text => penstock_telemetry::LogFormat::Text,
        LogFormat::Json => penstock_telemetry::LogFormat::Json,
    };
    penstock_telemetry::init_logs(&loaded.config.log, format)
        .map_err(|why| loaded.at("log", why))?;
    let stop = stop::on_signal()?;
    let daemon = Daemon::start(file, loaded, args.sabotage)?;
    while !stop.load(Relaxed) {
        std::thread::park_timeout(Duration::from_millis(20));
        daemon.beat();
    }
    daemon.drain();
    Ok(ExitCode::SUCCESS)
}
