//! The same rules again, slow and plain: chains as lists, one map a worker.

use super::{Prefix, Stored};
use penstock_sdk::{Medium, Row, hash};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// A chain from the model's root: token hash and digest of each block.
type Chain = Vec<(u64, u64)>;

#[derive(Debug, Default)]
struct Block {
    counts: BTreeMap<Medium, u32>,
    chain: Option<Chain>,
    size: u32,
}

/// (group, hash) to block.
type Blocks = BTreeMap<(u32, u64), Block>;

/// The naive index: (source, rank, model) to its blocks.
#[derive(Debug, Default)]
pub(super) struct Naive {
    workers: BTreeMap<(u32, u32, String), Blocks>,
    sizes: BTreeSet<(String, u32, bool)>,
}

impl Naive {
    pub(super) fn stored(&mut self, source: u32, rank: u32, model: &str, s: &Stored<'_>) {
        let worker = self
            .workers
            .entry((source, rank, model.to_owned()))
            .or_default();
        if s.token_hashes.is_some() && s.block_size > 0 {
            self.sizes
                .insert((model.to_owned(), s.block_size, s.bigram));
        }
        let mut before = match s.parent {
            None => Some(vec![]),
            Some(parent) => worker.get(&(s.group, parent)).and_then(|b| b.chain.clone()),
        };
        for (i, hash) in s.hashes.iter().enumerate() {
            let block = worker.entry((s.group, *hash)).or_default();
            *block.counts.entry(s.medium).or_default() += 1;
            if block.size == 0 {
                block.size = s.block_size;
            }
            if block.chain.is_none()
                && let Some(mut chain) = before
                && let Some(hashes) = s.token_hashes
            {
                chain.push((hashes[i], s.extra_digests[i]));
                block.chain = Some(chain);
                block.size = s.block_size;
            }
            before = block.chain.clone();
        }
    }

    pub(super) fn removed(
        &mut self,
        (source, rank, model): (u32, u32, &str),
        medium: Medium,
        group: u32,
        hashes: &[u64],
    ) {
        for hash in hashes {
            let key = (source, rank, model.to_owned());
            let Some(worker) = self.workers.get_mut(&key) else {
                continue;
            };
            let Some(block) = worker.get_mut(&(group, *hash)) else {
                continue;
            };
            match block.counts.get_mut(&medium) {
                Some(1) => drop(block.counts.remove(&medium)),
                Some(count) => *count -= 1,
                None => {}
            }
            if block.counts.is_empty() {
                worker.remove(&(group, *hash));
            }
        }
    }

    pub(super) fn cleared(&mut self, source: u32, rank: u32) {
        self.workers.retain(|k, _| (k.0, k.1) != (source, rank));
    }

    pub(super) fn forget(&mut self, source: u32) {
        self.workers.retain(|k, _| k.0 != source);
    }

    pub(super) fn blocks(&self) -> usize {
        self.workers.values().map(BTreeMap::len).sum()
    }

    /// Rows by source and rank.
    pub(super) fn find(&self, model: &str, prefix: Prefix<'_>) -> Vec<Row> {
        let mut rows = Vec::new();
        for ((source, rank, its_model), blocks) in &self.workers {
            if its_model != model {
                continue;
            }
            let mut best = Row {
                source: *source,
                rank: *rank,
                ..Row::default()
            };
            for run in self.runs(model, prefix, blocks) {
                let row = count(&run, *source, *rank);
                if (row.tokens, row) > (best.tokens, best) {
                    best = row;
                }
            }
            if best.blocks > 0 {
                rows.push(best);
            }
        }
        rows
    }

    /// The runs of blocks from the prompt's start, each a list of copies.
    fn runs<'a>(
        &self,
        model: &str,
        prefix: Prefix<'_>,
        blocks: &'a Blocks,
    ) -> Vec<Vec<Vec<&'a Block>>> {
        let by_hashes = |hashes: &[u64]| {
            let mut chain = vec![];
            let mut run = vec![];
            for hash in hashes {
                chain.push((*hash, 0));
                run.push(copies(blocks, &chain));
            }
            run
        };
        match prefix {
            Prefix::EngineHashes(hashes) => {
                let copies = |h: &u64| -> Vec<&'a Block> {
                    let of = blocks.iter().filter(|((_, hash), _)| hash == h);
                    of.map(|(_, b)| b).collect()
                };
                vec![hashes.iter().map(copies).collect()]
            }
            Prefix::TokenHashes(hashes) => vec![by_hashes(hashes)],
            Prefix::Tokens(tokens, seed) => {
                let sizes = self.sizes.iter().filter(|(m, ..)| m == model);
                let cut = |(_, size, bigram): &(String, u32, bool)| {
                    let (size, more) = (*size as usize, usize::from(*bigram));
                    let starts = (0..tokens.len()).step_by(size);
                    let windows = starts.filter_map(|at| tokens.get(at..at + size + more));
                    windows.map(|w| hash::token_hash(w, seed)).collect()
                };
                sizes
                    .map(|size| {
                        let hashes: Vec<u64> = cut(size);
                        let mut run = by_hashes(&hashes);
                        let whole = run.iter().take_while(|c| !c.is_empty()).count();
                        run.truncate(whole);
                        self.add_tail(model, size.1, tokens, seed, &hashes, &mut run, blocks);
                        run
                    })
                    .collect()
            }
        }
    }

    /// A last block of another size.
    #[allow(clippy::too_many_arguments)]
    fn add_tail<'a>(
        &self,
        model: &str,
        size: u32,
        tokens: &[u32],
        seed: u64,
        hashes: &[u64],
        run: &mut Vec<Vec<&'a Block>>,
        blocks: &'a Blocks,
    ) {
        if run.is_empty() {
            return;
        }
        let start = run.len() * size as usize;
        let mut best: Vec<&Block> = vec![];
        for (m, other, bigram) in &self.sizes {
            let window = *other as usize + usize::from(*bigram);
            let Some(window) = tokens.get(start..start + window) else {
                continue;
            };
            if m != model || *other == size {
                continue;
            }
            let mut chain: Chain = hashes[..run.len()].iter().map(|h| (*h, 0)).collect();
            chain.push((hash::token_hash(window, seed), 0));
            let found = copies(blocks, &chain);
            match found
                .first()
                .map(|b| b.size)
                .cmp(&best.first().map(|b| b.size))
            {
                Ordering::Greater => best = found,
                Ordering::Equal => best.extend(found),
                Ordering::Less => {}
            }
        }
        if !best.is_empty() {
            run.push(best);
        }
    }
}

fn copies<'a>(blocks: &'a Blocks, chain: &[(u64, u64)]) -> Vec<&'a Block> {
    let of = |b: &&Block| b.chain.as_deref() == Some(chain);
    blocks.values().filter(of).collect()
}

fn count(run: &[Vec<&Block>], source: u32, rank: u32) -> Row {
    let mut row = Row {
        source,
        rank,
        ..Row::default()
    };
    for copies in run.iter().take_while(|c| !c.is_empty()) {
        let size = copies.iter().map(|b| b.size).max().unwrap_or(0);
        let has = |media: &[Medium]| {
            let mut all = copies.iter().flat_map(|b| b.counts.keys());
            all.any(|m| media.contains(m))
        };
        let each = |media: &[Medium]| if has(media) { size } else { 0 };
        row.blocks += 1;
        row.tokens += size;
        row.gpu += each(&[Medium::Gpu, Medium::None]);
        row.cpu += each(&[Medium::Cpu]);
        row.disk += each(&[Medium::Disk]);
        row.other += each(&[Medium::External, Medium::Unknown]);
    }
    row
}
