//! Prefix lookups: the question and the rows of its answer.

use crate::SourceId;
use crate::generated::lookup::exports::penstock::plugin::lookup as wire;

/// Who holds the longest prefix of this prompt?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Model; empty: sources without one.
    pub model: String,
    /// Adapter (LoRA) name; empty: none.
    pub adapter: String,
    /// Cache salt; empty: none.
    pub salt: String,
    /// The prefix.
    pub by: By,
}

/// What a query asks by, always from the prompt's start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum By {
    /// The prompt's tokens.
    Tokens(Vec<u32>),
    /// Token hashes of consecutive blocks.
    TokenHashes(Vec<u64>),
    /// The engine's own hashes of consecutive blocks, low 64 bits.
    EngineHashes(Vec<u64>),
    /// A code of a later interface.
    Other(u8),
}

/// One source and rank that holds at least one block of the prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The source.
    pub source: SourceId,
    /// Data-parallel rank; 0 without one.
    pub rank: u32,
    /// Consecutive blocks held from the start, in whatever medium.
    pub blocks: u32,
    /// The same in tokens.
    pub tokens: u32,
    /// Tokens of those in device memory. A block in two media counts in both.
    pub gpu: u32,
    /// In host memory.
    pub cpu: u32,
    /// On disk.
    pub disk: u32,
    /// Elsewhere.
    pub other: u32,
}

// === impl Row ===

impl Row {
    /// The row as it crosses the boundary.
    #[must_use]
    pub fn to_words(self) -> [u32; 8] {
        [
            self.source,
            self.rank,
            self.blocks,
            self.tokens,
            self.gpu,
            self.cpu,
            self.disk,
            self.other,
        ]
    }

    /// Reads a row back.
    #[must_use]
    pub fn from_words(words: &[u32; 8]) -> Self {
        let [source, rank, blocks, tokens, gpu, cpu, disk, other] = *words;
        Self {
            source,
            rank,
            blocks,
            tokens,
            gpu,
            cpu,
            disk,
            other,
        }
    }
}

// === impl Query ===

impl From<wire::Query> for Query {
    fn from(query: wire::Query) -> Self {
        Self {
            model: query.model,
            adapter: query.adapter,
            salt: query.salt,
            by: match query.by {
                0 => By::Tokens(query.tokens),
                1 => By::TokenHashes(query.hashes),
                2 => By::EngineHashes(query.hashes),
                other => By::Other(other),
            },
        }
    }
}
