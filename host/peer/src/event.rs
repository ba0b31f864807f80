//! Events as an engine has them in hand before it encodes them.
//!
//! Owned and plain; the fields are the union of what releases send. What a
//! release does not know, its encoding leaves out.

use std::sync::Arc;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Blocks entered the cache.
    Stored(Stored),
    /// Blocks left it.
    Removed(Removed),
    /// It was emptied.
    Cleared,
}

/// Blocks that entered the cache, each the parent of the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Engine hashes, one a block.
    pub hashes: Vec<u64>,
    /// Hash of the block before the first; none at the start of a prompt.
    pub parent: Option<u64>,
    /// Tokens of all blocks.
    pub tokens: Vec<u32>,
    /// Tokens a block.
    pub block_size: u32,
    /// Number of the adapter (LoRA).
    pub lora_id: Option<i64>,
    /// Its name.
    pub lora_name: Option<Arc<str>>,
    /// Where the blocks are, as the engine spells it: `GPU`, `CPU_PINNED`, ….
    pub medium: Option<Arc<str>>,
    /// One entry a block: what beside tokens went into its hash.
    pub extra_keys: Option<Vec<Option<Vec<ExtraKey>>>>,
    /// KV cache group.
    pub group: Option<u32>,
    /// What kind of cache the group is: `full_attention`, ….
    pub spec_kind: Option<Arc<str>>,
    /// Tokens in its window.
    pub sliding_window: Option<u32>,
    /// Cache salt, where it has a field of its own (SGLang). vLLM carries it
    /// as a string among the first block's extra keys.
    pub salt: Option<Arc<str>>,
}

/// Blocks that left the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Engine hashes.
    pub hashes: Vec<u64>,
    /// Where the blocks were.
    pub medium: Option<Arc<str>>,
    /// KV cache group.
    pub group: Option<u32>,
}

/// One thing beside tokens that went into a block's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtraKey {
    /// An adapter's name, a cache salt or a digest.
    Text(String),
    /// A multimodal item and where in the block it begins.
    Item(String, i64),
}

impl Event {
    /// Blocks that this event stores.
    #[must_use]
    pub fn stored_blocks(&self) -> usize {
        match self {
            Self::Stored(stored) => stored.hashes.len(),
            _ => 0,
        }
    }

    /// Blocks that this event removes.
    #[must_use]
    pub fn removed_blocks(&self) -> usize {
        match self {
            Self::Removed(removed) => removed.hashes.len(),
            _ => 0,
        }
    }
}
