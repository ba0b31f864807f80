use super::print::{line, note};
use super::stop;
use anyhow::Result;
use indicatif::ProgressBar;
use penstock_peer::capture::{CaptureConfig, capture};
use penstock_peer::endpoint::Side;
use penstock_peer::monitor::Link;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Without a message for so long, it is said what is likely.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nothing was received.
const EXIT_NOTHING: u8 = 3;

/// Options of `penstock capture`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  penstock capture tcp://10.0.0.7:5557 -o engine.frames --duration 60\n\n\
    Exit codes: 0 something was recorded; 3 nothing was; 1 it failed."
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
    /// End after so many seconds without a message.
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
    let begun = Instant::now();
    let (mut connected, mut hinted) = (false, false);
    let summary = capture(&penstock_peer::Context::new(), &config, &stop, |now| {
        let say = |line: String| bar.suspend(|| note(line));
        if now.link.connected > 0 && !connected {
            connected = true;
            say(format!("connected: {}", args.endpoint));
        }
        if now.messages == 0 && !hinted && begun.elapsed() >= PATIENCE {
            hinted = true;
            say(silence(args, now.link));
        }
        bar.set_message(format!("{} messages, {} bytes", now.messages, now.bytes));
        bar.tick();
    })?;
    bar.finish_and_clear();
    if args.json {
        line(serde_json::to_string(&summary)?)?;
    } else {
        line(format_args!(
            "{}: {} messages, {} bytes, {} gaps ({} missing), {} restarts, {} malformed",
            args.output.display(),
            summary.messages,
            summary.bytes,
            summary.gaps,
            summary.missing,
            summary.restarts,
            summary.malformed
        ))?;
    }
    if summary.messages > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if !hinted {
        note(silence(args, summary.link));
    }
    Ok(ExitCode::from(EXIT_NOTHING))
}

/// What is likely when no message comes, and what to try.
fn silence(args: &Args, link: Link) -> String {
    let at = &args.endpoint;
    if link.connected > link.lost {
        let topics = match args.topic.as_slice() {
            [] => "every topic".to_string(),
            topics => format!("only topics {topics:?}"),
        };
        return format!(
            "connected to {at}, but no message came. An idle engine sends nothing; if it is \
             busy, its events may be off (--kv-events-config), or its topic be another one \
             (subscribed to {topics})"
        );
    }
    if link.connected > 0 {
        return format!("{at}: the connection was lost before a message came");
    }
    if link.answered > 0 {
        return format!(
            "what answers at {at} is no publisher and drops the connection: is it the engine's \
             replay port, or its HTTP port?"
        );
    }
    if args.bind {
        return format!(
            "no engine has connected to {at}; one connects only when its endpoint names this \
             host, and binds when it holds *, :: or ipc://"
        );
    }
    format!(
        "nothing answers at {at}: is the engine up, with --kv-events-config, and is this its \
         port? Data-parallel ranks listen at port + rank"
    )
}
