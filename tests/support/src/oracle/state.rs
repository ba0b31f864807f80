use super::{Event, Stored, events};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A prefix, written out: whose tokens, with which adapter and salt, which blocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Prefix {
    adapter: String,
    salt: String,
    /// Running hash of all tokens up to here; sizes and order included.
    tokens: (u64, u64),
    blocks: u64,
}

#[derive(Clone, Debug, Default)]
struct Block {
    /// Stores less removes, by medium.
    held: BTreeMap<String, u64>,
    prefix: Option<Prefix>,
}

/// What one source holds.
#[derive(Clone, Debug, Default)]
pub struct State {
    blocks: HashMap<(u64, u64), Block>,
    prefixes: HashMap<Prefix, BTreeSet<(u64, u64)>>,
    sizes: BTreeSet<u64>,
}

// === impl State ===

impl State {
    /// Applies one batch.
    pub fn apply(&mut self, payload: &[u8]) {
        for event in events(payload) {
            match event {
                Event::Stored(stored) => self.store(&stored),
                Event::Removed {
                    hashes,
                    medium,
                    group,
                } => {
                    for hash in hashes {
                        self.remove((group, hash), &medium);
                    }
                }
                Event::Cleared => *self = Self::default(),
            }
        }
    }

    /// Blocks held, in whatever medium.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True when nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// True when the block is held in group 0.
    #[must_use]
    pub fn holds(&self, hash: u64) -> bool {
        self.blocks.contains_key(&(0, hash))
    }

    /// Engine hashes held in group 0.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        self.blocks.keys().filter(|k| k.0 == 0).map(|k| k.1)
    }

    /// Tokens of the longest prefix of `prompt` that is held.
    #[must_use]
    pub fn longest(&self, prompt: &[u32], adapter: &str, salt: &str) -> u64 {
        let best = self.sizes.iter().map(|size| {
            let mut prefix = root(adapter, salt);
            let mut matched = 0;
            for block in prompt.chunks_exact(*size as usize) {
                prefix = next(&prefix, block.iter().map(|t| u64::from(*t)));
                if !self.prefixes.contains_key(&prefix) {
                    break;
                }
                matched += size;
            }
            matched
        });
        best.max().unwrap_or(0)
    }

    fn store(&mut self, stored: &Stored) {
        let size = stored.block_size as usize;
        let fits = size > 0 && stored.tokens.len() == size * stored.hashes.len();
        let adapter = stored.lora.as_deref().unwrap_or("");
        let salt = stored.salt.as_deref().unwrap_or("");
        let mut before = match stored.parent {
            None => Some(root(adapter, salt)),
            Some(parent) => {
                let parent = self.blocks.get(&(stored.group, parent));
                parent.and_then(|block| block.prefix.clone())
            }
        };
        if fits {
            self.sizes.insert(stored.block_size);
        }
        for (i, hash) in stored.hashes.iter().enumerate() {
            let key = (stored.group, *hash);
            let plain = fits && !stored.extra[i];
            let tokens = || stored.tokens[i * size..(i + 1) * size].iter().copied();
            let prefix = before.as_ref().filter(|_| plain).map(|p| next(p, tokens()));
            let block = self.blocks.entry(key).or_default();
            *block.held.entry(stored.medium.clone()).or_default() += 1;
            if block.prefix.is_none()
                && let Some(prefix) = prefix
            {
                self.prefixes.entry(prefix.clone()).or_default().insert(key);
                block.prefix = Some(prefix);
            }
            before = block.prefix.clone();
        }
    }

    fn remove(&mut self, key: (u64, u64), medium: &str) {
        let Some(block) = self.blocks.get_mut(&key) else {
            return;
        };
        if let Some(count) = block.held.get_mut(medium) {
            *count -= 1;
            if *count == 0 {
                block.held.remove(medium);
            }
        }
        if !block.held.is_empty() {
            return;
        }
        if let Some(prefix) = self.blocks.remove(&key).and_then(|b| b.prefix)
            && let Some(holders) = self.prefixes.get_mut(&prefix)
        {
            holders.remove(&key);
            if holders.is_empty() {
                self.prefixes.remove(&prefix);
            }
        }
    }
}

fn root(adapter: &str, salt: &str) -> Prefix {
    Prefix {
        adapter: adapter.into(),
        salt: salt.into(),
        tokens: (0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344),
        blocks: 0,
    }
}

/// Two unrelated running hashes, so that a chance equality need not be feared.
fn next(before: &Prefix, tokens: impl Iterator<Item = u64>) -> Prefix {
    let (mut a, mut b) = before.tokens;
    for token in tokens {
        a = (a ^ token)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(29)
            ^ 0x9e37;
        b = b
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(token.wrapping_mul(2) + 1);
    }
    Prefix {
        tokens: (a, b.rotate_left(7)),
        blocks: before.blocks + 1,
        ..before.clone()
    }
}
