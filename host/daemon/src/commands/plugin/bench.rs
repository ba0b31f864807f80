use super::sample;
use super::settings::Settings;
use super::stage::{Nowhere, Stage};
use super::stream::{self, Stream};
use crate::commands::print::{Out, note};
use anyhow::{Result, anyhow, bail};
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use penstock_event::{Batch, ColumnSet, Item, Publish};
use penstock_peer::frames::Recorded;
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rounds at the least, the first of which warms up and is not counted.
const ROUNDS: usize = 3;
/// Rounds go on for so long.
const ENOUGH: Duration = Duration::from_secs(2);

/// Options of `penstock plugin bench`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock plugin bench target/wasm32-wasip2/release/by_adapter.wasm
  penstock plugin bench forward.wasm --toml forward.toml --frames engine.frames --json

Each round is a new instance that gets all batches; the first round is not counted.
Without --frames: 2000 batches, each of 4 prompts of 16 blocks that come and go.
`shards` in the TOML file does not matter here: it is one instance that is measured.
Exit codes: 0 measured; 1 a call failed.")]
pub struct Args {
    /// The component.
    file: PathBuf,
    /// Its `NAME.toml`: grants, limits and config. Messages go nowhere.
    #[arg(long)]
    toml: Option<PathBuf>,
    /// A recording instead of made-up batches.
    #[arg(long)]
    frames: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was measured. Times are those of `on-batch`, as the daemon takes them.
#[derive(Debug, Serialize)]
struct Figures {
    rounds: usize,
    batches: usize,
    events: usize,
    blocks: usize,
    ns_per_event: f64,
    ns_per_block: f64,
    /// Bytes of columns that cross into the plugin, a batch.
    bytes_per_batch: f64,
    call_p50_us: f64,
    call_p99_us: f64,
    call_max_us: f64,
    deadline_ms: u64,
    /// How often the 99th percentile fits into the deadline.
    headroom: f64,
    /// After the last batch.
    memory_bytes: u64,
}

/// Measures.
pub fn run(args: &Args) -> Result<ExitCode> {
    let stage = Stage::open(
        &args.file,
        Settings::read(&args.file, args.toml.as_deref())?,
    )?;
    let messages = match &args.frames {
        None => sample::large(),
        Some(path) => {
            let read = stream::read(path)?;
            let all = read.len();
            let good: Vec<_> = read.into_iter().flatten().collect();
            if good.len() < all {
                note(format_args!(
                    "penstock: warning: {} message(s) of {} are no batches",
                    all - good.len(),
                    path.display()
                ));
            }
            good
        }
    };
    let figures = measure(&stage, &args.file, &messages)?;
    let mut out = Out::new();
    match args.json {
        true => out.line(serde_json::to_string_pretty(&figures)?)?,
        false => out.line(table(&figures))?,
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

fn measure(stage: &Stage, file: &Path, messages: &[Recorded]) -> Result<Figures> {
    let mut calls = Vec::new();
    let mut round = (Vec::new(), ColumnSet::default());
    let (mut rounds, mut memory_bytes) = (0, 0);
    let begun = Instant::now();
    while rounds < ROUNDS || begun.elapsed() < ENOUGH {
        let (took, batches, wants, memory) = once(stage, file, messages)?;
        if rounds > 0 {
            calls.extend(took);
        }
        (round, memory_bytes) = ((batches, wants), memory);
        rounds += 1;
    }
    let (batches, wants) = round;
    if batches.is_empty() {
        bail!("there is no batch to measure with");
    }
    let rounds = rounds - 1;
    let sum = |of: fn(&Batch) -> usize| batches.iter().map(|b| of(b)).sum::<usize>();
    let (events, blocks) = (sum(|b| b.columns.len()), sum(|b| b.columns.hashes.len()));
    let crossed = |batch: &Arc<Batch>| {
        let payload = match wants.contains(ColumnSet::PAYLOAD) {
            true => batch.payload.len(),
            false => 0,
        };
        batch.columns.bytes_of(wants) + payload
    };
    let bytes: usize = batches.iter().map(crossed).sum();
    let total: Duration = calls.iter().sum();
    calls.sort_unstable();
    let at = |share: f64| {
        let i = ((calls.len() - 1) as f64 * share).round() as usize;
        calls.get(i).map_or(0.0, |call| call.as_secs_f64() * 1e6)
    };
    let each = |n: usize| total.as_secs_f64() * 1e9 / (n.max(1) * rounds) as f64;
    let limits = &stage.settings().file.limits;
    Ok(Figures {
        rounds,
        batches: batches.len(),
        events,
        blocks,
        ns_per_event: each(events),
        ns_per_block: each(blocks),
        bytes_per_batch: bytes as f64 / batches.len() as f64,
        call_p50_us: at(0.5),
        call_p99_us: at(0.99),
        call_max_us: at(1.0),
        deadline_ms: limits.deadline_ms,
        headroom: limits.deadline().as_secs_f64() * 1e6 / at(0.99).max(0.001),
        memory_bytes,
    })
}

type Round = (Vec<Duration>, Vec<Arc<Batch>>, ColumnSet, u64);

/// One instance, all batches.
fn once(stage: &Stage, file: &Path, messages: &[Recorded]) -> Result<Round> {
    let sink = |name: &String| (name.clone(), Arc::new(Nowhere) as Arc<dyn Publish>);
    let sinks: HashMap<_, _> = stage.settings().file.sink.keys().map(sink).collect();
    let mut instance = stage.instance(file, sinks)?.into_instance();
    instance.set_effects(true);
    let wants = instance.wants();
    let mut stream = Stream::new("engine", "");
    let (mut calls, mut batches) = (Vec::new(), Vec::new());
    let mut items = vec![stream.joined()];
    for message in messages {
        items.extend(stream.take(message.clone(), wants));
        for item in items.drain(..) {
            match item {
                Item::Batch(batch) => {
                    let at = format!("batch {}/{}", batch.epoch.0, batch.sequence);
                    let done = instance.on_batch(&batch);
                    done.map_err(|e| anyhow!("{at}: {e}"))?;
                    calls.push(instance.last_call());
                    batches.push(batch);
                }
                Item::Change(change) => {
                    let done = instance.on_source(&change);
                    done.map_err(|e| anyhow!("`on-source`: {e}"))?;
                }
            }
        }
    }
    let memory = instance.memory_bytes();
    Ok((calls, batches, wants, memory))
}

fn table(f: &Figures) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let (batches, events, blocks) = (f.batches, f.events, f.blocks);
    let fed = format!(
        "{batches} batches, {events} events, {blocks} blocks; {} rounds",
        f.rounds
    );
    table.add_row(["fed", &fed]);
    table.add_row(["an event", &format!("{:.0} ns", f.ns_per_event)]);
    table.add_row(["a block", &format!("{:.1} ns", f.ns_per_block)]);
    table.add_row([
        "crossing",
        &format!("{:.0} bytes a batch", f.bytes_per_batch),
    ]);
    let (p50, p99, max) = (f.call_p50_us, f.call_p99_us, f.call_max_us);
    table.add_row([
        "a call",
        &format!("p50 {p50:.1} µs, p99 {p99:.1} µs, longest {max:.0} µs"),
    ]);
    let (deadline, headroom) = (f.deadline_ms, f.headroom);
    table.add_row([
        "deadline",
        &format!("{deadline} ms, {headroom:.0} times the p99"),
    ]);
    table.add_row(["memory", &format!("{} bytes at the end", f.memory_bytes)]);
    table
}
