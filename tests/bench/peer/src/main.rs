//! The other side of `cargo xtask bench`: what Dynamo's published crate does with the same
//! payloads.
//!
//! ```text
//! stdin   one request a line, JSON       stdout  one answer a line, JSON
//! ```
//!
//! It works on one core, the last that it may use; times are CPU time of the whole
//! process, its own threads included, and end when nothing is queued any more.

mod indexer;
mod payloads;

use anyhow::{Context, Result};
use indexer::{Indexer, Scores};
use payloads::Payloads;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

/// What is to be done.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// Takes the payloads of a file for all that follows.
    Load {
        file: PathBuf,
        /// Tokens a block.
        block_size: u32,
        /// So many of the payloads fill caches: they are timed apart.
        fill: usize,
    },
    /// Decodes all payloads.
    Decode,
    /// Decodes, normalizes and applies all payloads to a new index, which it keeps.
    Index,
    /// Who holds these prompts.
    Find { prompts: Vec<Vec<u32>> },
}

/// What came of it.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Loaded {
        payloads: usize,
        bytes: u64,
        version: &'static str,
    },
    Decoded {
        ns: u64,
        stored: u64,
        removed: u64,
    },
    Indexed {
        fill_ns: u64,
        ns: u64,
        /// Blocks of all payloads.
        stored: u64,
        removed: u64,
        /// Blocks in the index, counted for each source that holds them.
        held: u64,
        /// What the process grew by, in bytes.
        memory: u64,
    },
    Found {
        /// By prompt: source and blocks.
        scores: Vec<Scores>,
        /// By prompt, hashing its tokens included.
        ns: Vec<u64>,
    },
}

/// Of the crate that is measured.
const VERSION: &str = "dynamo-kv-router 1.6.1";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    on_one_core()?;
    let mut payloads = None;
    let mut indexer: Option<Indexer> = None;
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?).context("a request")?;
        let loaded = payloads.as_ref().context("nothing is loaded yet");
        let answer = match request {
            Request::Load {
                file,
                block_size,
                fill,
            } => {
                let read = Payloads::read(&file, block_size, fill)?;
                let answer = Answer::Loaded {
                    payloads: read.all.len(),
                    bytes: read.bytes(),
                    version: VERSION,
                };
                payloads = Some(read);
                answer
            }
            Request::Decode => {
                let begun = cpu_time();
                let (stored, removed) = loaded?.decode()?;
                Answer::Decoded {
                    ns: ns_since(begun),
                    stored,
                    removed,
                }
            }
            Request::Index => {
                // The one before gives its memory back first.
                drop(indexer.take());
                let payloads: &Payloads = loaded?;
                let before = resident()?;
                let mut new = Indexer::new(payloads.block_size);
                let (fill, rest) = payloads.all.split_at(payloads.fill);
                let begun = cpu_time();
                let filled = new.apply(fill).await?;
                let fill_ns = ns_since(begun);
                let begun = cpu_time();
                let (stored, removed) = new.apply(rest).await?;
                let (stored, removed) = (filled.0 + stored, filled.1 + removed);
                let ns = ns_since(begun);
                let memory = resident()?.saturating_sub(before);
                let held = new.held().await?;
                indexer = Some(new);
                Answer::Indexed {
                    fill_ns,
                    ns,
                    stored,
                    removed,
                    held,
                    memory,
                }
            }
            Request::Find { prompts } => {
                let indexer = indexer.as_ref().context("there is no index yet")?;
                let (mut scores, mut ns) = (Vec::new(), Vec::new());
                for prompt in &prompts {
                    let begun = cpu_time();
                    scores.push(indexer.find(prompt).await?);
                    ns.push(ns_since(begun));
                }
                Answer::Found { scores, ns }
            }
        };
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &answer)?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

/// Threads begun from here on inherit it.
fn on_one_core() -> Result<()> {
    let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu));
    let mut one = CpuSet::new();
    one.set(last.context("no core may be used")?);
    sched_setaffinity(None, &one).context("sched_setaffinity")
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn ns_since(begun: Duration) -> u64 {
    cpu_time().saturating_sub(begun).as_nanos() as u64
}

/// Memory that the process holds, in bytes.
fn resident() -> Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    let pages: u64 = pages.context("/proc/self/statm is not understood")?;
    Ok(pages * rustix::param::page_size() as u64)
}
