//! Compares an index with the oracle: one lookup for every prefix that a log ever
//! stored, by tokens, by token hashes and by the engine's hashes, each judged at
//! the position that its answer carries.
//!
//! It guarantees nothing about sources that it is not asked for.

use crate::daemon::{Daemon, PATIENCE};
use crate::oracle::{Event, Oracle, State, events};
use penstock_event::{By, Query, token_seed};
use penstock_query::AnswerBody;
use penstock_query::client::ZmqClient;
use std::collections::HashMap;
use std::rc::Rc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Wrong answers told one by one; more are counted.
const TOLD: usize = 10;

/// A prefix that some log stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// Its tokens from the prompt's start.
    pub tokens: Vec<u32>,
    /// The engine's hashes of its blocks.
    pub hashes: Vec<u64>,
    /// Adapter; empty: none.
    pub adapter: String,
    /// Cache salt; empty: none.
    pub salt: String,
    /// Tokens a block.
    pub size: usize,
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Answers compared.
    pub checked: usize,
    /// Those among them for which the oracle expects a hit.
    pub hits: usize,
    /// Answers marked incomplete: not compared.
    pub incomplete: usize,
    /// Answers whose end of the stream cannot be checked; compared all the same.
    pub unverified: usize,
    /// Answers without the source.
    pub absent: usize,
    /// Answers that differ from the oracle.
    pub wrong: usize,
    /// The first of them.
    pub examples: Vec<String>,
    /// The last position that an answer carried.
    pub position: Option<(u32, u64)>,
}

/// A block that a log stored, and the one before it.
struct Block {
    before: Option<usize>,
    hash: u64,
    tokens: Vec<u32>,
    root: Rc<Prefix>,
}

/// The prefixes that a source's log stored, in order, at most `most` of them, spread
/// evenly; blocks with extra keys, and what follows them, are left out.
///
/// # Panics
/// The log cannot be decoded.
#[must_use]
pub fn prefixes(oracle: &Oracle, source: &str, most: usize) -> Vec<Prefix> {
    let blocks = blocks(oracle, source);
    let step = blocks.len().div_ceil(most.max(1)).max(1);
    let ends = (0..blocks.len()).step_by(step);
    ends.map(|end| chain(&blocks, end)).collect()
}

/// Everything stored, without the prefixes written out: those of a long log would
/// fill the memory.
fn blocks(oracle: &Oracle, source: &str) -> Vec<Block> {
    let mut known: HashMap<(u64, u64), usize> = HashMap::new();
    let mut blocks: Vec<Block> = Vec::new();
    for (_, _, payload) in oracle.published(source) {
        for event in events(payload) {
            let Event::Stored(stored) = event else {
                continue;
            };
            let size = stored.block_size as usize;
            let mut before = match stored.parent {
                None => None,
                Some(parent) => match known.get(&(stored.group, parent)) {
                    Some(parent) => Some(*parent),
                    None => continue,
                },
            };
            let root = match before {
                Some(before) => blocks[before].root.clone(),
                None => Rc::new(Prefix {
                    adapter: stored.lora.clone().unwrap_or_default(),
                    salt: stored.salt.clone().unwrap_or_default(),
                    size,
                    ..Prefix::default()
                }),
            };
            let cut = stored.tokens.chunks_exact(size.max(1));
            for ((tokens, hash), extra) in cut.zip(&stored.hashes).zip(&stored.extra) {
                if *extra {
                    break;
                }
                known.insert((stored.group, *hash), blocks.len());
                blocks.push(Block {
                    before,
                    hash: *hash,
                    tokens: tokens.iter().map(|t| *t as u32).collect(),
                    root: root.clone(),
                });
                before = Some(blocks.len() - 1);
            }
        }
    }
    blocks
}

/// The prefix that ends with a block.
fn chain(blocks: &[Block], end: usize) -> Prefix {
    let back = std::iter::successors(Some(end), |at| blocks[*at].before);
    let mut places: Vec<_> = back.collect();
    places.reverse();
    let mut prefix = Prefix::clone(&blocks[end].root);
    for block in places.into_iter().map(|at| &blocks[at]) {
        prefix.tokens.extend(&block.tokens);
        prefix.hashes.push(block.hash);
    }
    prefix
}

/// Asks for every prefix in every way, through the ZeroMQ door, about the model `m`.
///
/// # Panics
/// A lookup fails.
#[must_use]
pub fn judge(daemon: &Daemon, oracle: &mut Oracle, source: &str, prefixes: &[Prefix]) -> Verdict {
    let mut client = ZmqClient::connect(&daemon.zmq).unwrap();
    let mut verdict = Verdict::default();
    for prefix in prefixes {
        for by in prefix.ways() {
            let query = Query {
                model: "m".into(),
                adapter: prefix.adapter.clone(),
                salt: prefix.salt.clone(),
                by: by.clone(),
                deadline: PATIENCE,
                include_stale: false,
            };
            let answer = client.query(None, &query).unwrap();
            verdict.judge(oracle, source, prefix, &by, &answer);
        }
    }
    verdict
}

// === impl Prefix ===

impl Prefix {
    fn ways(&self) -> Vec<By> {
        let mut ways = vec![
            By::Tokens(self.tokens.clone().into()),
            By::TokenHashes(self.token_hashes().into()),
        ];
        // Engines hash the adapter and the salt too, so these say which.
        ways.push(By::EngineHashes(self.hashes.clone().into()));
        // Another prompt: the last token differs.
        let mut other = self.tokens.clone();
        if let Some(last) = other.last_mut() {
            *last ^= 1 << 20;
        }
        ways.push(By::Tokens(other.into()));
        ways
    }

    fn token_hashes(&self) -> Vec<u64> {
        let name = |text: &'_ str| (!text.is_empty()).then(|| text.to_string());
        let (adapter, salt) = (name(&self.adapter), name(&self.salt));
        let seed = token_seed(adapter.as_deref(), salt.as_deref());
        let blocks = self.tokens.chunks_exact(self.size);
        blocks
            .map(|block| {
                let bytes: Vec<u8> = block.iter().flat_map(|t| t.to_le_bytes()).collect();
                xxh3_64_with_seed(&bytes, seed)
            })
            .collect()
    }

    /// Blocks that an answer must count.
    fn expected(&self, by: &By, state: &State) -> u64 {
        let size = self.size as u64;
        let longest = |tokens: &[u32]| state.longest(tokens, &self.adapter, &self.salt) / size;
        match by {
            By::Tokens(tokens) => longest(tokens),
            By::TokenHashes(_) => longest(&self.tokens),
            By::EngineHashes(hashes) => {
                hashes.iter().take_while(|hash| state.holds(**hash)).count() as u64
            }
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Panics unless everything was compared, and equal; `hits` is the least number
    /// of answers that had to find something.
    ///
    /// # Panics
    /// See above.
    #[track_caller]
    pub fn assert_equal(&self, hits: usize) {
        let fine = self.wrong == 0 && self.incomplete == 0 && self.absent == 0;
        assert!(fine && self.checked > 0 && self.hits >= hits, "{self:#?}");
    }

    fn judge(
        &mut self,
        oracle: &mut Oracle,
        source: &str,
        prefix: &Prefix,
        by: &By,
        answer: &AnswerBody,
    ) {
        let Some(at) = answer.positions.get(source) else {
            self.absent += 1;
            return;
        };
        if !at.complete {
            self.incomplete += 1;
            return;
        }
        self.unverified += usize::from(!at.verified);
        self.position = at.epoch.zip(at.sequence).or(self.position);
        let life = at.epoch.unwrap_or(0) as usize;
        let right = prefix.expected(by, oracle.at(source, life, at.sequence));
        let held = answer.instances.get(&at.instance);
        let ranks = held.iter().flat_map(|held| held.blocks.values());
        let answered = u64::from(ranks.copied().max().unwrap_or(0));
        self.checked += 1;
        self.hits += usize::from(right > 0);
        if answered != right {
            self.wrong += 1;
            if self.examples.len() < TOLD {
                let (way, blocks) = (by_name(by), prefix.hashes.len());
                let place = (at.epoch, at.sequence);
                self.examples.push(format!(
                    "{source} at {place:?}, {blocks} block(s) by {way}: {answered}, right is {right}"
                ));
            }
        }
    }
}

fn by_name(by: &By) -> &'static str {
    match by {
        By::Tokens(_) => "tokens",
        By::TokenHashes(_) => "token hashes",
        By::EngineHashes(_) => "engine hashes",
    }
}
