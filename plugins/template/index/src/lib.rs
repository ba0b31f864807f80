//! Who holds the longest prefix of a prompt? A small index: every block that a source
//! holds, under a key that stands for the prompt from its start up to that block.
//!
//! It keeps one medium and one rank a source, and grows without bound: `prefix-index`,
//! which comes with penstock, is the one for production.

use penstock_sdk::{
    Batch, By, Change, Columns, Event, Lookup, NoConfig, Plugin, Query, Refused, Row, SourceChange,
    SourceId, event::Stored, hash, info, metrics,
};
use std::collections::{BTreeMap, HashMap};

/// Refusal: the block before the first is not held, so where these belong is unknown.
const NO_PARENT: u32 = 1;

/// The key of a prompt's start.
const START: u64 = 0;

#[derive(Debug, Default)]
pub struct Index {
    sources: BTreeMap<SourceId, Held>,
}

/// What one source holds.
#[derive(Debug, Default)]
struct Held {
    /// The key of each block, by the engine's hash of it.
    blocks: HashMap<u64, u64>,
    /// How many blocks have a key.
    keys: HashMap<u64, u32>,
    block_size: u32,
}

impl Plugin for Index {
    const NAME: &'static str = "my-plugin";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const COLUMNS: Columns = Columns::TOKEN_HASHES.and(Columns::EXTRA_DIGESTS);
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn on_batch(&mut self, batch: &Batch<'_>, refused: &mut Refused) {
        let held = self.sources.entry(batch.source()).or_default();
        for event in batch.events() {
            match event {
                Event::Stored(stored) if !held.store(&stored) => {
                    refused.event(stored.index(), NO_PARENT);
                }
                Event::Stored(_) => {}
                Event::Removed(removed) => removed.hashes().iter().for_each(|h| held.remove(*h)),
                Event::Cleared(_) => *held = Held::default(),
            }
        }
        let blocks: usize = self.sources.values().map(|h| h.blocks.len()).sum();
        metrics::set("blocks", blocks as f64);
    }

    fn on_source(&mut self, change: &SourceChange<'_>) {
        match change.change {
            Change::Joined(source) => info!("{} joined", source.name),
            Change::Left | Change::Reset { .. } => {
                self.sources.remove(&change.source);
            }
            // What was stored meanwhile is not found; what was removed is still answered.
            Change::Gap { first, last, .. } => info!("batches {first} to {last} are missing"),
            _ => {}
        }
    }
}

impl Lookup for Index {
    fn find(&mut self, query: &Query) -> Result<Vec<Row>, String> {
        let seed = hash::token_seed(&query.adapter, &query.salt);
        let mut rows = Vec::new();
        for (source, held) in &self.sources {
            let blocks = match &query.by {
                By::Tokens(tokens) => {
                    let whole = tokens.chunks_exact(held.block_size.max(1) as usize);
                    held.longest(whole.map(|block| hash::token_hash(block, seed)))
                }
                By::TokenHashes(hashes) => held.longest(hashes.iter().copied()),
                By::EngineHashes(hashes) => {
                    let held = |hash: &&u64| held.blocks.contains_key(hash);
                    hashes.iter().take_while(held).count()
                }
                _ => return Err("this index does not answer that".to_owned()),
            };
            if blocks > 0 {
                let tokens = blocks as u32 * held.block_size;
                rows.push(Row {
                    source: *source,
                    blocks: blocks as u32,
                    tokens,
                    gpu: tokens,
                    ..Row::default()
                });
            }
        }
        Ok(rows)
    }
}

impl Held {
    /// False when the block before the first is not held.
    fn store(&mut self, stored: &Stored<'_>) -> bool {
        let above = match stored.parent() {
            None => Some(START),
            Some(parent) => self.blocks.get(&parent).copied(),
        };
        let Some(mut above) = above else {
            return false;
        };
        self.block_size = stored.block_size();
        for block in stored.blocks() {
            // A block with extra keys (an image, say) answers no query by tokens, and
            // neither do those below it.
            let (Some(tokens), 0) = (block.token_hash, block.extra_digest) else {
                break;
            };
            above = below(above, tokens);
            if self.blocks.insert(block.hash, above).is_none() {
                *self.keys.entry(above).or_default() += 1;
            }
        }
        true
    }

    fn remove(&mut self, hash: u64) {
        let Some(key) = self.blocks.remove(&hash) else {
            return;
        };
        if let Some(count) = self.keys.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&key);
            }
        }
    }

    /// Blocks held from the prompt's start.
    fn longest(&self, token_hashes: impl Iterator<Item = u64>) -> usize {
        let keys = token_hashes.scan(START, |above, tokens| {
            *above = below(*above, tokens);
            Some(*above)
        });
        keys.take_while(|key| self.keys.contains_key(key)).count()
    }
}

/// The key of a block below another one.
fn below(above: u64, tokens: u64) -> u64 {
    let bytes = [above.to_le_bytes(), tokens.to_le_bytes()].concat();
    hash::token_hash_le(&bytes, 0)
}

penstock_sdk::export!(Index: Lookup);

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_sdk::Medium;
    use penstock_sdk::testing::{self, Host};

    #[test]
    fn prefixes_are_found_while_they_are_held() {
        let mut host = Host::<Index>::start("{}").unwrap();
        host.join(1, "vllm-0", "llama");
        let prompt: Vec<u32> = (0..8).collect();
        host.send(testing::batch(1).stored(testing::stored(4, &[10, 11]).tokens(&prompt)));
        let query = |tokens: &[u32]| Query {
            model: "llama".into(),
            adapter: String::new(),
            salt: String::new(),
            by: By::Tokens(tokens.to_vec()),
        };
        assert_eq!(host.find(&query(&prompt)).unwrap()[0].tokens, 8);
        assert_eq!(
            host.find(&query(&prompt[4..])).unwrap(),
            [],
            "not from its start"
        );
        assert_eq!(testing::gauge("blocks"), Some(2.0));

        host.send(testing::batch(1).removed(Medium::Gpu, 0, &[11]));
        assert_eq!(host.find(&query(&prompt)).unwrap()[0].tokens, 4);
        let orphan = testing::stored(4, &[13]).parent(12).tokens(&[1, 2, 3, 4]);
        assert_eq!(
            host.send(testing::batch(1).stored(orphan)),
            [(0, NO_PARENT)]
        );
        host.reset(1, 1);
        assert_eq!(host.find(&query(&prompt)).unwrap(), []);
    }
}
