//! Lookups: the longest prefix that each worker holds.
//!
//! A walk follows one chain from the model's root and notes, for each worker,
//! how deep it has come without a hole. There is one walk for each block size
//! that the model's workers use; a worker's longest match counts.

use super::AHEAD;
use super::chain::Chain;
use super::worker::{Life, Size};
use super::{Index, mix};
use penstock_sdk::{Medium, Row, hash};
use std::cmp::Reverse;
use std::hint::black_box;

/// What a lookup asks by, always from the prompt's start.
#[derive(Clone, Copy, Debug)]
pub enum Prefix<'a> {
    /// The prompt's tokens, and the seed that adapter and salt give.
    Tokens(&'a [u32], u64),
    /// Token hashes of consecutive blocks.
    TokenHashes(&'a [u64]),
    /// The engine's own hashes of consecutive blocks.
    EngineHashes(&'a [u64]),
}

/// Memory that lookups use again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    walk: u32,
    states: Vec<State>,
    seen: Vec<u32>,
    used: Vec<u32>,
    bytes: Vec<u8>,
}

/// How far one worker has come in a walk.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The walk it belongs to.
    walk: u32,
    blocks: u32,
    tokens: u32,
    /// Places of the block counted last, a bit each, as in `sums`.
    places: u8,
    /// Tokens in gpu, in cpu, on disk, elsewhere.
    sums: [u32; 4],
    /// A last, smaller block: after how many, its tokens and media.
    tail: (u32, u32, u8),
}

/// Where a row counts a medium. Engines that name none have device memory alone.
fn places(media: u8) -> u8 {
    const OF: [u8; 6] = {
        let mut of = [0; 6];
        of[Medium::None as usize] = 1;
        of[Medium::Gpu as usize] = 1;
        of[Medium::Cpu as usize] = 1 << 1;
        of[Medium::Disk as usize] = 1 << 2;
        of[Medium::External as usize] = 1 << 3;
        of[Medium::Unknown as usize] = 1 << 3;
        of
    };
    let all = OF.iter().enumerate();
    all.fold(0, |sum, (slot, place)| sum | ((media >> slot & 1) * place))
}

/// Tokens as little-endian bytes, which is what wasm keeps them as.
fn to_bytes<'a>(tokens: &'a [u32], swapped: &'a mut Vec<u8>) -> &'a [u8] {
    if cfg!(target_endian = "little") {
        return bytemuck::cast_slice(tokens);
    }
    swapped.clear();
    swapped.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
    swapped
}

// === impl State ===

impl State {
    /// One more block, or another copy of the block counted last.
    #[inline]
    fn block(&mut self, media: u8, tokens: u32, again: bool) {
        let mut new = places(media);
        if again {
            new &= !self.places;
            self.places |= new;
        } else {
            self.blocks += 1;
            self.tokens = self.tokens.saturating_add(tokens);
            self.places = new;
        }
        for (place, sum) in self.sums.iter_mut().enumerate() {
            if new >> place & 1 == 1 {
                *sum = sum.saturating_add(tokens);
            }
        }
    }

    fn row(mut self, source: u32, rank: u32) -> Row {
        let (after, tokens, media) = self.tail;
        if tokens > 0 && after == self.blocks {
            self.block(media, tokens, false);
        }
        let [gpu, cpu, disk, other] = self.sums;
        Row {
            source,
            rank,
            blocks: self.blocks,
            tokens: self.tokens,
            gpu,
            cpu,
            disk,
            other,
        }
    }
}

// === impl Index ===

impl Index {
    /// Every source and rank of `model` that holds at least one block of the
    /// prefix, in no order. A last block that is smaller than the others counts
    /// when it follows them in the index.
    ///
    /// By tokens and token hashes only what has a chain is found, and each
    /// block in any group counts. By engine hashes a block of any group counts,
    /// and tokens are those of blocks whose size is known. A block in two media
    /// counts in both; one without a medium counts as device memory.
    pub fn find(&mut self, model: &str, prefix: Prefix<'_>) -> Vec<Row> {
        let own_root = hash::name_hash(model);
        let root = own_root ^ self.seed;
        let mut rows = Vec::new();
        match prefix {
            Prefix::Tokens(tokens, seed) => {
                let mut swapped = std::mem::take(&mut self.scratch.bytes);
                let bytes = to_bytes(tokens, &mut swapped);
                let sizes = self.workers.sizes(own_root).to_vec();
                for size in &sizes {
                    self.walk_tokens(root, *size, &sizes, bytes, seed, &mut rows);
                }
                self.scratch.bytes = swapped;
                self.scratch.bytes.shrink_to(1 << 20);
                if sizes.len() > 1 {
                    let order = |r: &Row| (r.source, r.rank, Reverse((r.tokens, *r)));
                    rows.sort_unstable_by_key(order);
                    rows.dedup_by_key(|r| (r.source, r.rank));
                }
            }
            Prefix::TokenHashes(hashes) => {
                self.begin_walk();
                let mut chain = root;
                for (depth, hash) in hashes.iter().enumerate() {
                    chain = mix::chain(chain, *hash);
                    if self.step(chain, depth as u32).is_none() {
                        break;
                    }
                }
                self.end_walk(&mut rows);
            }
            Prefix::EngineHashes(hashes) => self.by_engine_hashes(own_root, hashes, &mut rows),
        }
        rows
    }

    fn walk_tokens(
        &mut self,
        root: u64,
        size: Size,
        sizes: &[Size],
        bytes: &[u8],
        seed: u64,
        rows: &mut Vec<Row>,
    ) {
        self.begin_walk();
        let (mut chains, mut chain, mut depth) = ([0; AHEAD], root, 0);
        // More and more blocks ahead: most prompts end early or go far.
        let mut ahead = 1;
        'walk: loop {
            let (mut found, mut seen) = (0, 0);
            for at in &mut chains[..ahead] {
                let start = (depth as usize + found) * size.tokens as usize;
                let Some(hash) = window_hash(bytes, start, size, seed) else {
                    break;
                };
                chain = mix::chain(chain, hash);
                *at = chain;
                seen ^= self.chain_table.start(chain);
                found += 1;
            }
            black_box(seen);
            if found == 0 {
                break;
            }
            for chain in &chains[..found] {
                let Some(step) = self.step(*chain, depth) else {
                    break 'walk;
                };
                depth += 1;
                if step.odd_child() {
                    let start = depth as usize * size.tokens as usize;
                    for tail in sizes.iter().filter(|s| s.tokens != size.tokens) {
                        if let Some(hash) = window_hash(bytes, start, *tail, seed) {
                            self.tail(mix::chain(*chain, hash), depth);
                        }
                    }
                }
            }
            ahead = (2 * ahead).min(AHEAD);
        }
        self.end_walk(rows);
    }

    fn begin_walk(&mut self) {
        let scratch = &mut self.scratch;
        scratch.walk = scratch.walk.wrapping_add(1);
        if scratch.walk == 0 {
            // Wrapped: states of 4 billion walks ago would look like new ones.
            scratch.states.clear();
            scratch.walk = 1;
        }
        scratch.seen.clear();
        scratch
            .states
            .resize_with(self.workers.numbers(), State::default);
    }

    /// Takes the block that ends `chain`, the one after `depth` others. None when no
    /// worker has come here without a hole.
    fn step(&mut self, chain: u64, depth: u32) -> Option<Chain> {
        let at = self.any_chain(chain)?;
        let chain = self.chains.get_mut(at);
        let scratch = &mut self.scratch;
        let mut any = false;
        for holder in self.lists.get(&chain.holders()) {
            let worker = holder.worker();
            let Some(state) = scratch.states.get_mut(worker as usize) else {
                continue;
            };
            if state.walk != scratch.walk {
                if depth > 0 || self.workers.get(worker).life != Life::Alive {
                    continue;
                }
                *state = State {
                    walk: scratch.walk,
                    ..State::default()
                };
                scratch.seen.push(worker);
            }
            if state.blocks == depth || state.blocks == depth + 1 {
                let again = state.blocks == depth + 1;
                state.block(holder.media(), chain.size(), again);
                any = true;
            }
        }
        if any {
            chain.set_touched(self.recency.era());
        }
        any.then_some(*chain)
    }

    /// Takes a block of another size after `depth` others.
    fn tail(&mut self, chain: u64, depth: u32) {
        let Some(at) = self.any_chain(chain) else {
            return;
        };
        let chain = self.chains.get_mut(at);
        let (size, scratch) = (chain.size(), &mut self.scratch);
        for holder in self.lists.get(&chain.holders()) {
            let Some(state) = scratch.states.get_mut(holder.worker() as usize) else {
                continue;
            };
            if state.walk != scratch.walk || state.blocks != depth {
                continue;
            }
            let (after, tokens, media) = state.tail;
            if after == depth && tokens == size {
                state.tail.2 = media | holder.media();
            } else if after != depth || tokens < size {
                state.tail = (depth, size, holder.media());
            }
            chain.set_touched(self.recency.era());
        }
    }

    fn end_walk(&mut self, rows: &mut Vec<Row>) {
        for worker in &self.scratch.seen {
            let key = self.workers.get(*worker).key;
            let state = self.scratch.states[*worker as usize];
            rows.push(state.row(key.source, key.rank));
        }
    }

    fn by_engine_hashes(&mut self, root: u64, hashes: &[u64], rows: &mut Vec<Row>) {
        let mut used = std::mem::take(&mut self.scratch.used);
        used.clear();
        for (_, its) in self.workers.alive().filter(|(_, w)| w.key.root == root) {
            let mut state = State::default();
            for hash in hashes {
                let (mut tokens, mut media) = (0, 0);
                for lot in &its.lots {
                    let key = mix::node_key(self.lots.get(*lot).salt, *hash);
                    if let Some(at) = self.node(*lot, key) {
                        tokens = tokens.max(self.block(at).size);
                        media |= self.nodes.get(at).media();
                        used.push(at);
                    }
                }
                if media == 0 {
                    break;
                }
                state.block(media, tokens, false);
            }
            if state.blocks > 0 {
                rows.push(state.row(its.key.source, its.key.rank));
            }
        }
        for at in &used {
            let node = self.nodes.get_mut(*at);
            *node = node.with_used(true);
        }
        self.scratch.used = used;
    }
}

/// The token hash of the block that begins at token `start`; none when the
/// prompt ends before the block does.
fn window_hash(bytes: &[u8], start: usize, size: Size, seed: u64) -> Option<u64> {
    let start = start.checked_mul(4)?;
    let end = start.checked_add(size.window().checked_mul(4)?)?;
    Some(hash::token_hash_le(bytes.get(start..end)?, seed))
}
