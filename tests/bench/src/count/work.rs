//! What is counted: the same work each time.

use crate::feeder::{CHUNK, Feeder};
use crate::parts::decode::WANTED;
use crate::sides::{Component, Native, Plugged, Wasm};
use crate::stream::Stream;
use anyhow::{Result, ensure};
use clap::ValueEnum;
use penstock_decode::Decoder;
use penstock_event::{Batch, Columns, Dictionary};
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// Which instructions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Payloads to columns, events as maps.
    DecodeMaps,
    /// Payloads to columns, events as arrays.
    DecodeArrays,
    /// Batches into the plugin, which skips them.
    Boundary,
    /// Batches into the index in wasm, as much removed as stored.
    Apply,
    /// The same batches into the same code, native.
    ApplyNative,
    /// Lookups by tokens in wasm.
    Find,
    /// The same, native.
    FindNative,
    /// State of the index in wasm, in pieces.
    Snapshot,
    /// Such pieces into another one.
    Restore,
}

/// Does a part's work.
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_enum)]
    part: Part,
    /// Where compiled plugins are kept.
    #[arg(long)]
    cache: PathBuf,
}

/// Blocks decoded.
const DECODED: usize = 16_000;
/// Blocks that the engine holds, and batches that it publishes then.
const CAPACITY: usize = 8_192;
const STEADY: usize = 500;
/// Sources that are handed over, and blocks of each.
const SOURCES: usize = 16;
const MOVED: usize = 1_024;
/// Lookups.
const FOUND: usize = 200;

/// Counts what runs in here.
#[inline(never)]
fn collected(work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    black_box(work())
}

/// The work of a part.
pub fn run(args: &Args) -> Result<()> {
    match args.part {
        Part::DecodeMaps => decode("vllm-0.33"),
        Part::DecodeArrays => decode("vllm-0.9"),
        Part::Boundary => feed(wasm(&args.cache)?, true),
        Part::Apply => feed(wasm(&args.cache)?, false),
        Part::ApplyNative => feed(Native::new(1)?, false),
        Part::Find => find(wasm(&args.cache)?),
        Part::FindNative => find(Native::new(1)?),
        Part::Snapshot => hand_over(&args.cache, true),
        Part::Restore => hand_over(&args.cache, false),
    }
}

// === impl Part ===

impl Part {
    /// As in the file.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Of what the instructions are told.
    pub fn each(self) -> &'static str {
        match self {
            Self::DecodeMaps | Self::DecodeArrays => "block decoded",
            Self::Boundary => "batch of 64 blocks",
            Self::Apply | Self::ApplyNative => "block stored or removed",
            Self::Find | Self::FindNative => "lookup",
            Self::Snapshot | Self::Restore => "block held",
        }
    }

    /// How many of these are counted.
    pub fn many(self) -> u64 {
        let many = match self {
            Self::DecodeMaps | Self::DecodeArrays => DECODED,
            Self::Boundary => STEADY,
            Self::Apply | Self::ApplyNative => STEADY * 64,
            Self::Find | Self::FindNative => FOUND,
            Self::Snapshot | Self::Restore => SOURCES * MOVED,
        };
        many as u64
    }
}

fn wasm(cache: &Path) -> Result<Wasm> {
    Component::counted(cache)?.instance()
}

fn decode(style: &str) -> Result<()> {
    let stream = Stream::stored(style, 4, DECODED)?;
    let (dictionary, mut decoder) = (Dictionary::default(), Decoder::default());
    let (mut columns, mut skipped) = (Columns::default(), Vec::new());
    let mut blocks = 0;
    collected(&mut || {
        for (_, payload) in &stream.payloads {
            decoder.decode(payload, WANTED, &dictionary, &mut columns, &mut skipped)?;
            blocks += columns.hashes.len() as u64;
        }
        Ok(())
    })?;
    ensure!(blocks == stream.work.blocks, "decoded {blocks} blocks");
    Ok(())
}

/// An index whose engine has filled its cache, and the batches that come then.
fn filled(side: &mut impl Plugged, skip: bool) -> Result<(Stream, Vec<Batch>)> {
    let stream = Stream::uniform(1, CAPACITY, STEADY);
    side.join(0)?;
    let (mut feeder, mut steady) = (Feeder::default(), Vec::new());
    for (at, (source, payload)) in stream.payloads.iter().enumerate() {
        let skip = skip && at >= stream.fill;
        let batch = feeder.decode(side, *source, at as u64, payload, skip)?;
        if at < stream.fill {
            side.stage(std::slice::from_ref(&batch));
            side.feed(std::slice::from_ref(&batch))?;
        } else {
            steady.push(batch);
        }
    }
    Ok((stream, steady))
}

fn feed(mut side: impl Plugged, skip: bool) -> Result<()> {
    let (_, steady) = filled(&mut side, skip)?;
    let mut refused = 0;
    for batches in steady.chunks(CHUNK) {
        side.stage(batches);
        collected(&mut || {
            refused += side.feed(batches)?;
            Ok(())
        })?;
    }
    ensure!(refused == 0 && steady.len() == STEADY, "{refused} refused");
    Ok(())
}

fn find(mut side: impl Plugged) -> Result<()> {
    let (stream, _) = filled(&mut side, false)?;
    let prompts = stream.probes.iter().map(|p| p.tokens.clone());
    let mut prompts: Vec<Vec<u32>> = prompts.cycle().take(FOUND).collect();
    let mut rows = 0;
    collected(&mut || {
        for prompt in std::mem::take(&mut prompts) {
            rows += side.find_tokens(prompt)?.len();
        }
        Ok(())
    })?;
    ensure!(rows > 0, "nothing was found");
    Ok(())
}

/// Counts one half of a handover, the other half happens all the same.
fn hand_over(cache: &Path, from: bool) -> Result<()> {
    let stream = Stream::uniform(SOURCES, MOVED, 0);
    let component = Component::counted(cache)?;
    let (mut old, mut new) = (component.instance()?, component.instance()?);
    let mut feeder = Feeder::default();
    for source in 0..SOURCES {
        old.join(source)?;
        new.join(source)?;
    }
    for (at, (source, payload)) in stream.payloads.iter().enumerate() {
        let batch = feeder.decode(&old, *source, at as u64, payload, false)?;
        old.feed(std::slice::from_ref(&batch))?;
    }
    for source in 0..SOURCES {
        let mut pieces = Vec::new();
        let mut take = || old.snapshot(source).map(|all| pieces = all);
        if from {
            collected(&mut take)?;
        } else {
            take()?;
        }
        let mut put = || {
            pieces
                .iter()
                .try_for_each(|piece| new.restore(source, piece))
        };
        if from {
            put()?;
        } else {
            collected(&mut put)?;
        }
    }
    let prompt = stream.probes.first().map(|probe| probe.tokens.clone());
    let prompt = prompt.unwrap_or_default();
    let (found, known) = (new.find_tokens(prompt.clone())?, old.find_tokens(prompt)?);
    ensure!(
        found == known && !found.is_empty(),
        "the state is not the same"
    );
    Ok(())
}
