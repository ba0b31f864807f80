//! The judge: what came out against what the engines' own log says went in.
//!
//! - *Lost*: a batch of the log that was neither delivered, with its content and
//!   under its epoch, nor covered by a gap that the daemon reported, nor by a reset
//!   (what an engine had not got rid of when it was killed).
//! - *Doubled*: delivered more than once under one position.
//! - *Wrong*: an answer that differs from the oracle's at the position that the
//!   answer itself carries. Answers marked incomplete claim nothing, and are
//!   counted apart.
//!
//! Neither the daemon's decoder nor its plugins take part in it.

use crate::lookups::{Answers, Asked, Claim};
use crate::scene::NAMES;
use crate::script::Interrupted;
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use penstock_peer::trace::Workload;
use penstock_query::SourceStatus;
use penstock_testkit::engine::{LogBatch, read_log, record_file, teach_one};
use penstock_testkit::oracle::Oracle;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Examples kept of each kind of mistake.
const EXAMPLES: usize = 5;

/// Where the evidence is.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The engines' log.
    pub log: &'a Path,
    /// Their payloads.
    pub record: &'a Path,
    /// What came out behind the forward plugin.
    pub forwarded: &'a Path,
    /// What the daemon told of its sources.
    pub sources: &'a [SourceStatus],
    /// The answers.
    pub answers: &'a Answers,
    /// Makes their prompts.
    pub workload: &'a Workload,
    /// Ends the check.
    pub interrupted: &'a AtomicBool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Batches published.
    pub published: u64,
    /// Batches delivered, each counted once.
    pub delivered: u64,
    /// See above.
    pub lost: u64,
    /// Not delivered, but reported.
    pub covered: u64,
    /// See above.
    pub doubled: u64,
    /// Answers compared, a source at a time.
    pub checked: u64,
    /// Those among them that were asked while events flowed.
    pub checked_live: u64,
    /// See above.
    pub wrong: u64,
    /// Not compared: marked incomplete, or without a position.
    pub incomplete: u64,
    /// The first mistakes.
    pub examples: Vec<String>,
}

/// One line behind the forward plugin.
#[derive(Deserialize)]
struct Line<'a> {
    source: Option<&'a str>,
    epoch: u32,
    sequence: u64,
    payload: Option<&'a str>,
}

/// Digests delivered under each position: (engine, epoch, sequence).
#[derive(Default)]
struct Delivered {
    digests: HashMap<(usize, u32, u64), Vec<u64>>,
    last: HashMap<(usize, u32), u64>,
}

/// Checks everything; each engine's answers on a thread of its own.
///
/// # Errors
/// A file cannot be read.
pub fn verify(evidence: Evidence<'_>) -> Result<Verdict> {
    let log = read_log(evidence.log)?;
    let mut verdict = Verdict::default();
    let delivered = Delivered::read(evidence.forwarded, evidence.interrupted)?;
    delivered.judge(&log, evidence.sources, &mut verdict);
    let log = &log;
    let judged = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..NAMES.len())
            .map(|engine| scope.spawn(move || answers(engine, log, evidence)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.collect::<Vec<_>>()
    });
    for of_engine in judged {
        let of_engine = of_engine.map_err(|_| anyhow::anyhow!("the oracle panicked"))??;
        verdict.add(of_engine);
    }
    for asked in evidence.answers.asked.iter().filter(|a| a.strangers > 0) {
        verdict.wrong += 1;
        verdict.example(|| format!("request {}: names of no source of ours", asked.request));
    }
    Ok(verdict)
}

/// Compares every claim about one engine, in the order of positions.
fn answers(engine: usize, log: &[LogBatch], evidence: Evidence<'_>) -> Result<Verdict> {
    let name = NAMES.get(engine).context("no such engine")?;
    let mut verdict = Verdict::default();
    let mut claims: Vec<((u32, u64), &Claim, &Asked)> = Vec::new();
    for asked in &evidence.answers.asked {
        for claim in asked.claims.iter().filter(|c| c.source == engine) {
            match claim.position {
                Some(position) if claim.complete => claims.push((position, claim, asked)),
                _ => verdict.incomplete += 1,
            }
        }
    }
    claims.sort_by_key(|(position, ..)| *position);
    let mut oracle = Oracle::default();
    let file = record_file(evidence.record, engine, NAMES.len());
    teach_one(&mut oracle, log, &file, engine, name)?;
    for ((epoch, sequence), claim, asked) in claims {
        if evidence.interrupted.load(Relaxed) {
            bail!(Interrupted);
        }
        let state = oracle.at(name, epoch as usize, Some(sequence));
        let prompt = asked.prompt(evidence.workload);
        let right = state.longest(&prompt, &asked.adapter, "");
        verdict.checked += 1;
        verdict.checked_live += u64::from(asked.flowing);
        if right != u64::from(claim.tokens) {
            verdict.wrong += 1;
            verdict.example(|| {
                format!(
                    "request {} ({} tokens, adapter {:?}) at {name} {epoch}/{sequence}: answered {}, right is {right}",
                    asked.request, asked.length, asked.adapter, claim.tokens
                )
            });
        }
    }
    Ok(verdict)
}

// === impl Verdict ===

impl Verdict {
    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text());
        }
    }

    fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.checked_live += other.checked_live;
        self.wrong += other.wrong;
        self.incomplete += other.incomplete;
        self.examples.extend(other.examples);
    }
}

// === impl Delivered ===

impl Delivered {
    fn read(file: &Path, interrupted: &AtomicBool) -> Result<Self> {
        let mut all = Self::default();
        let shown = || file.display().to_string();
        let mut reader = BufReader::with_capacity(1 << 20, File::open(file).with_context(shown)?);
        let (mut text, mut payload) = (String::new(), Vec::new());
        for number in 1.. {
            text.clear();
            if reader.read_line(&mut text).with_context(shown)? == 0 {
                break;
            }
            if interrupted.load(Relaxed) {
                bail!(Interrupted);
            }
            let place = || format!("{}:{number}", file.display());
            let line: Line<'_> = serde_json::from_str(&text).with_context(place)?;
            if line.sequence == u64::MAX {
                // No batch: word that an engine's life ended.
                continue;
            }
            let engine = NAMES.iter().position(|n| Some(*n) == line.source);
            let engine = engine.with_context(|| format!("{}: whose batch?", place()))?;
            let encoded = line
                .payload
                .with_context(|| format!("{}: no payload", place()))?;
            payload.clear();
            STANDARD
                .decode_vec(encoded, &mut payload)
                .with_context(place)?;
            all.note(
                engine,
                line.epoch,
                line.sequence,
                penstock_event::digest(&payload),
            );
        }
        Ok(all)
    }

    fn note(&mut self, engine: usize, epoch: u32, sequence: u64, digest: u64) {
        let digests = self.digests.entry((engine, epoch, sequence)).or_default();
        digests.push(digest);
        let last = self.last.entry((engine, epoch)).or_default();
        *last = sequence.max(*last);
    }

    fn judge(&self, log: &[LogBatch], sources: &[SourceStatus], verdict: &mut Verdict) {
        for batch in log {
            verdict.published += 1;
            let key = (batch.engine, batch.run, batch.sequence);
            if self
                .digests
                .get(&key)
                .is_some_and(|d| d.contains(&batch.digest))
            {
                verdict.delivered += 1;
            } else if self.covers(batch, sources) {
                verdict.covered += 1;
            } else {
                verdict.lost += 1;
                let name = NAMES.get(batch.engine).copied().unwrap_or_default();
                verdict.example(|| {
                    let (run, sequence) = (batch.run, batch.sequence);
                    format!("batch {sequence} of run {run} of {name}: lost, and nothing said of it")
                });
            }
        }
        let more = self.digests.values().map(|d| d.len() as u64 - 1);
        verdict.doubled = more.sum();
    }

    /// The daemon said that it does not have this batch.
    fn covers(&self, batch: &LogBatch, sources: &[SourceStatus]) -> bool {
        let source = sources
            .iter()
            .find(|s| NAMES.get(batch.engine).is_some_and(|name| s.name == *name));
        let Some(source) = source else {
            return false;
        };
        let last = self.last.get(&(batch.engine, batch.run)).copied();
        source
            .incidents
            .iter()
            .any(|incident| match incident.kind.as_str() {
                "gap" => {
                    incident.epoch.0 == batch.run
                        && (incident.first..=incident.last).contains(&batch.sequence)
                }
                "reset" => {
                    incident.epoch.0 == batch.run + 1
                        && last.is_none_or(|last| batch.sequence > last)
                }
                _ => false,
            })
    }
}

#[cfg(test)]
mod tests;
