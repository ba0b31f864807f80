//! A Mooncake trace turned into an engine's events.
//!
//! A trace is JSON lines: `timestamp` (ms), `input_length` and `output_length`
//! (tokens) and `hash_ids`, one for each 512 tokens of the prompt; requests
//! that begin with the same ids begin with the same tokens.
//!
//! ```text
//! Trace (file) ─ Workload (request n -> tokens, hashes, engine) ─ TraceEngine (cache -> events)
//! ```
//!
//! Prompts are a function of the trace alone: the same hash id gives the same
//! tokens on every engine and in every run, so that prefixes are shared across
//! engines as they are in the trace. Requests are numbered on past the end of
//! the trace: later rounds repeat it, with the ids that only one request has
//! replaced by fresh ones, so that shared prefixes stay and events never end.
//!
//! Arrival times are not imitated: engines work through their requests as fast
//! as batches are asked for.

mod cache;
mod engine;
mod workload;

pub use engine::{TraceBatch, TraceConfig, TraceEngine};
pub use workload::{Adapter, Prompt, Workload, WorkloadConfig};

use crate::{PeerError, Result};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Tokens that one hash id stands for.
pub const TOKENS_PER_ID: usize = 512;

/// Longest line accepted: 1 MiB.
const MAX_LINE: u64 = 1 << 20;

/// One request.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Request {
    /// Arrival, ms from the start of the trace.
    pub timestamp: u64,
    /// Tokens of the prompt.
    pub input_length: usize,
    /// Tokens generated.
    pub output_length: usize,
    /// One for each [`TOKENS_PER_ID`] tokens of the prompt.
    pub hash_ids: Vec<u64>,
}

/// A trace in memory.
#[derive(Clone, Debug)]
pub struct Trace {
    requests: Vec<Request>,
    /// Ids that more than one request has.
    shared: HashSet<u64>,
}

// === impl Trace ===

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// [`PeerError::Io`], or [`PeerError::Trace`] with the line.
    pub fn load(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(PeerError::io(path))?;
        Self::read(BufReader::new(file), path)
    }

    /// Reads lines; errors name `path`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn read(mut from: impl BufRead, path: &Path) -> Result<Self> {
        let mut requests = Vec::new();
        let mut line = String::new();
        for number in 1.. {
            line.clear();
            let bad = |why: String| PeerError::Trace {
                path: path.to_owned(),
                line: number,
                why,
            };
            let read = (&mut from).take(MAX_LINE).read_line(&mut line);
            let read = read.map_err(PeerError::io(path))?;
            if read == 0 {
                break;
            }
            if read as u64 == MAX_LINE && !line.ends_with('\n') {
                return Err(bad(format!("longer than {MAX_LINE} bytes")));
            }
            if line.trim().is_empty() {
                continue;
            }
            let request: Request = serde_json::from_str(&line).map_err(|e| bad(e.to_string()))?;
            if request.input_length > request.hash_ids.len() * TOKENS_PER_ID {
                return Err(bad(format!(
                    "input_length is {}, but hash_ids stand for {} tokens",
                    request.input_length,
                    request.hash_ids.len() * TOKENS_PER_ID
                )));
            }
            requests.push(request);
        }
        Self::new(requests)
            .ok_or_else(|| PeerError::Config(format!("{}: no requests", path.display())))
    }

    /// A trace of these requests; none without any.
    #[must_use]
    pub fn new(requests: Vec<Request>) -> Option<Self> {
        if requests.is_empty() {
            return None;
        }
        let mut seen: HashMap<u64, usize> = HashMap::new();
        let mut shared = HashSet::new();
        for (at, request) in requests.iter().enumerate() {
            for id in &request.hash_ids {
                if *seen.entry(*id).or_insert(at) != at {
                    shared.insert(*id);
                }
            }
        }
        Some(Self { requests, shared })
    }

    /// The requests, in order.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// True when more than one request has this id.
    #[must_use]
    pub fn is_shared(&self, id: u64) -> bool {
        self.shared.contains(&id)
    }
}

#[cfg(test)]
mod tests;
