use super::{print, stop};
use anyhow::{Result, bail};
use indicatif::ProgressBar;
use penstock_peer::encode::Style;
use penstock_peer::endpoint::Side;
use penstock_peer::engine::{EngineConfig, Numbering, Source, run as run_engines};
use penstock_peer::faults::{Faults, Selector};
use penstock_peer::replay::Framing;
use penstock_peer::trace::{TraceConfig, WorkloadConfig};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `penstock publish`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock publish --frames engine.frames --endpoint 'tcp://*:5557' --replay 'tcp://*:6557'
  penstock publish --trace trace.jsonl --engines 2 --rate 500 --wait-subscribers 1
  penstock publish --trace trace.jsonl --connect --endpoint tcp://10.0.0.5:5557 --replay off")]
pub struct Args {
    /// Publish a recording.
    #[arg(long, conflicts_with = "trace")]
    frames: Option<PathBuf>,
    /// Publish what an engine with a bounded cache would, given these requests
    /// (JSON lines in Mooncake's form).
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Where to publish. Engine N uses the port N higher.
    #[arg(long, default_value = "tcp://*:5557")]
    endpoint: String,
    /// Where to answer replays; `off` for an engine without replay.
    #[arg(long, default_value = "tcp://*:6557")]
    replay: String,
    /// Connect the publishing socket instead of binding it: for a daemon whose source
    /// has `mode = "bind"`.
    #[arg(long)]
    connect: bool,
    /// Topic frame.
    #[arg(long, default_value = "")]
    topic: String,
    /// Framing of replays: `old` (vLLM up to 0.25) or `new`.
    #[arg(long, default_value = "new")]
    framing: Framing,
    /// Events of a trace as which release writes them: `array` (vLLM 0.23), `map`
    /// (vLLM 0.26), `vllm-0.9.0`, `vllm-0.9`, `vllm-0.10`, `vllm-0.23`, `vllm-0.26`,
    /// `vllm-0.33`, `sglang-0.5.10`, `sglang-0.5.18`, `sglang-0.5.23`, `aibrix`; then
    /// perhaps `+unsigned`, `+signed` or `+bytes`, for the hashes.
    #[arg(long, default_value = "map")]
    style: Style,
    /// Engines, in one process.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    engines: usize,
    /// Batches a second and engine; 0: as fast as it goes.
    #[arg(long, default_value_t = 0.0, value_parser = not_below_zero)]
    rate: f64,
    /// Batches an engine publishes; default: all of a recording, no end for a trace.
    #[arg(long)]
    batches: Option<u64>,
    /// Subscribers that must be there before the first batch.
    #[arg(long, default_value_t = 0)]
    wait_subscribers: usize,
    /// Blocks the cache of a trace's engine holds.
    #[arg(long, default_value_t = 20_000, value_parser = at_least_one)]
    capacity: usize,
    /// Tokens a block, for a trace.
    #[arg(long, default_value_t = 16, value_parser = at_least_one)]
    block_size: usize,
    /// Share of a trace's requests with an adapter, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    adapters: f64,
    /// Batches kept for replay.
    #[arg(long, default_value_t = 10_000)]
    buffer: usize,
    /// Sequence of the first batch.
    #[arg(long, default_value_t = 0)]
    first_sequence: u64,
    /// Seed of all that is chosen by chance.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Batches not sent live: `3,7-9`, `every:100`, `p:0.01`. Replays have them.
    #[arg(long, default_value = "none")]
    drop: Selector,
    /// Batches that replays leave out.
    #[arg(long, default_value = "none")]
    hide: Selector,
    /// Publish a recording with sequences of its own, so many rounds (0: for ever).
    #[arg(long)]
    rounds: Option<u64>,
    /// Write what was published to this file, a JSON object a batch.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Write what was published to this .frames file; of several engines, each writes
    /// its own, with -0, -1, … before the extension.
    #[arg(long)]
    record: Option<PathBuf>,
    /// End after the last batch instead of answering replays until stopped.
    #[arg(long)]
    exit: bool,
    /// Print what was published as JSON.
    #[arg(long)]
    json: bool,
}

/// Publishes until told to stop.
pub fn run(args: &Args) -> Result<ExitCode> {
    let stop = stop::on_signal()?;
    let config = engine(args)?;
    let bar = ProgressBar::new_spinner();
    let mut told = false;
    let summary = run_engines(config, &stop, |now| {
        if !told {
            told = true;
            for engine in &now.engines {
                let replay = engine.replay_endpoint.as_deref().unwrap_or("off");
                print::note(format_args!(
                    "publishing at {} (replay {replay})",
                    engine.endpoint
                ));
            }
        }
        bar.set_message(format!("{} batches, {} events", now.batches, now.events));
        bar.tick();
    })?;
    bar.finish_and_clear();
    if args.json {
        print::line(serde_json::to_string(&summary)?)?;
    } else {
        // A recording is published as it is, and nobody counts its blocks.
        let blocks = match summary.blocks {
            0 => String::new(),
            blocks => format!(" {blocks} blocks,"),
        };
        print::line(format_args!(
            "{} batches, {} events,{blocks} {} bytes in {:.1} s; {} dropped on purpose",
            summary.batches, summary.events, summary.bytes, summary.seconds, summary.dropped
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number of at least 1".into()),
        Ok(number) => Ok(number),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share, from 0 to 1".into())
}

fn not_below_zero(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|n: &f64| *n >= 0.0 && n.is_finite());
    number.ok_or_else(|| "expected a number of at least 0".into())
}

fn engine(args: &Args) -> Result<EngineConfig> {
    let source = match (&args.frames, &args.trace) {
        (Some(path), None) => Source::Frames {
            path: path.clone(),
            numbering: match args.rounds {
                Some(_) => Numbering::Fresh,
                None => Numbering::Recorded,
            },
            rounds: args.rounds.unwrap_or(1),
        },
        (None, Some(path)) => Source::Trace {
            path: path.clone(),
            workload: WorkloadConfig {
                block_size: args.block_size,
                seed: args.seed,
                adapter_share: args.adapters,
                adapters: vec!["adapter-a".into(), "adapter-b".into()],
                ..WorkloadConfig::default()
            },
            config: TraceConfig {
                capacity_blocks: args.capacity,
                ..TraceConfig::default()
            },
        },
        _ => bail!("publish what? Give --frames FILE or --trace FILE"),
    };
    let mut config = EngineConfig::new(&args.endpoint, source);
    config.publisher.side = if args.connect {
        Side::Connect
    } else {
        Side::Bind
    };
    config.publisher.replay = (args.replay != "off").then(|| args.replay.clone());
    config.publisher.topic.clone_from(&args.topic);
    config.publisher.framing = args.framing;
    config.publisher.buffer_batches = args.buffer;
    config.publisher.first_sequence = args.first_sequence;
    config.publisher.faults = Faults {
        drop_live: args.drop.clone(),
        hide_from_replay: args.hide.clone(),
        ..Faults::default()
    };
    config.publisher.linger = Duration::from_secs(1);
    config.engines = args.engines;
    config.style = args.style;
    config.rate = args.rate;
    config.batches = args.batches;
    config.wait_subscribers = args.wait_subscribers;
    config.stay = !args.exit;
    config.log.clone_from(&args.log);
    config.record.clone_from(&args.record);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use penstock_peer::encode::RELEASES;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    fn parse(arguments: &[&str]) -> Result<Args, clap::Error> {
        let arguments = [&["publish"], arguments].concat();
        Only::try_parse_from(arguments).map(|only| only.args)
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (flag, value) in [
            ("--adapters", "3"),
            ("--adapters", "-0.1"),
            ("--adapters", "NaN"),
            ("--block-size", "0"),
            ("--engines", "0"),
            ("--capacity", "0"),
            ("--rate", "-1"),
        ] {
            let error = parse(&[&format!("{flag}={value}")])
                .err()
                .map(|e| e.to_string());
            let error = error.unwrap_or_else(|| panic!("{flag} {value} was taken"));
            assert!(error.contains("expected"), "{error}");
        }
        assert_eq!(parse(&["--adapters", "1"]).unwrap().adapters, 1.0);
    }

    #[test]
    fn the_help_names_every_style() {
        use clap::CommandFactory;
        let help = Only::command().render_long_help().to_string();
        for (name, _) in RELEASES {
            assert!(help.contains(&format!("`{name}`")), "{name}");
        }
    }
}
