//! One event: what it says, where its blocks live, and its share of the columns.

use crate::Name;
use crate::batch::{Batch, EVENT_STRIDE, flags};
use std::ops::{Deref, Range};

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Blocks entered the cache.
    Stored,
    /// Blocks left it.
    Removed,
    /// All of it was emptied.
    Cleared,
}

/// Where blocks live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Medium {
    /// The event names none.
    None,
    /// Device memory.
    Gpu,
    /// Host memory.
    Cpu,
    /// Local disk.
    Disk,
    /// Another machine's store.
    External,
    /// A name the host does not know: see [`Common::medium_name`].
    Unknown,
}

/// One event.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Blocks entered the cache.
    Stored(Stored<'a>),
    /// Blocks left it.
    Removed(Removed<'a>),
    /// The whole cache of this source and rank was emptied.
    Cleared(Cleared<'a>),
}

/// What all events have. [`Stored`], [`Removed`] and [`Cleared`] deref to it.
#[derive(Clone, Debug)]
pub struct Common<'a> {
    pub(crate) batch: Batch<'a>,
    pub(crate) row: &'a [u32; EVENT_STRIDE],
    pub(crate) index: u32,
    pub(crate) blocks: Range<usize>,
    pub(crate) tokens: Range<usize>,
}

/// Blocks that entered the cache.
#[derive(Clone, Debug)]
pub struct Stored<'a>(pub(crate) Common<'a>);

/// Blocks that left the cache.
#[derive(Clone, Debug)]
pub struct Removed<'a>(pub(crate) Common<'a>);

/// The whole cache was emptied.
#[derive(Clone, Debug)]
pub struct Cleared<'a>(pub(crate) Common<'a>);

/// One block of a stored event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Low 64 bits of the engine's hash.
    pub hash: u64,
    /// Its token hash, when that column was asked for and is valid.
    pub token_hash: Option<u64>,
    /// Digest of its extra keys; 0 without any, and when not asked for.
    pub extra_digest: u64,
}

/// The blocks of a stored event.
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    hashes: &'a [u64],
    token_hashes: Option<&'a [u64]>,
    extra_digests: &'a [u64],
    at: usize,
}

// === impl Medium ===

impl Medium {
    /// All of them, in the order of [`Medium::slot`].
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Gpu,
        Self::Cpu,
        Self::Disk,
        Self::External,
        Self::Unknown,
    ];

    /// The medium of a code in the column; codes not known are unknown media.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Self::None,
            1 => Self::Gpu,
            2 => Self::Cpu,
            3 => Self::Disk,
            4 => Self::External,
            _ => Self::Unknown,
        }
    }

    /// The code in the column.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unknown => 255,
            other => other.slot() as u8,
        }
    }

    /// A small number from 0, for arrays of one element a medium.
    #[must_use]
    pub fn slot(self) -> usize {
        self as usize
    }

    /// The name: `none`, `gpu`, `cpu`, `disk`, `external`, `unknown`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::Disk => "disk",
            Self::External => "external",
            Self::Unknown => "unknown",
        }
    }
}

// === impl Event ===

impl<'a> Event<'a> {
    /// What it says.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Stored(_) => Kind::Stored,
            Self::Removed(_) => Kind::Removed,
            Self::Cleared(_) => Kind::Cleared,
        }
    }

    /// What all events have.
    #[must_use]
    pub fn common(&self) -> &Common<'a> {
        match self {
            Self::Stored(Stored(c)) | Self::Removed(Removed(c)) | Self::Cleared(Cleared(c)) => c,
        }
    }
}

// === impl Common ===

impl<'a> Common<'a> {
    /// Its index in the batch, as a refusal names it.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Where its blocks live.
    #[must_use]
    pub fn medium(&self) -> Medium {
        Medium::from_code((self.row[0] >> 8) as u8)
    }

    /// The engine's own name of a medium the host does not know.
    #[must_use]
    pub fn medium_name(&self) -> Name<'a> {
        self.batch.name(self.row[6])
    }

    /// The bits of its flags.
    pub(crate) fn flags(&self) -> u32 {
        self.row[0] >> 16
    }

    /// KV cache group, 0 when it names none.
    #[must_use]
    pub fn group(&self) -> u32 {
        self.row[1]
    }

    /// True when it names a group.
    #[must_use]
    pub fn has_group(&self) -> bool {
        self.has(flags::GROUP)
    }

    /// The model, when the event itself names one.
    #[must_use]
    pub fn model(&self) -> Name<'a> {
        self.batch.name(self.row[5])
    }

    /// Its own time, µs since 1970, when it has one and times were asked for.
    #[must_use]
    pub fn time_us(&self) -> Option<i64> {
        let time = self.batch.more().times.get(self.index as usize)?;
        self.has(flags::TIME).then_some(*time)
    }

    /// Held elsewhere, known here.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.has(flags::REMOTE)
    }

    /// Low 64 bits of the engine's hashes of its blocks.
    #[must_use]
    pub fn hashes(&self) -> &'a [u64] {
        self.of_blocks(&self.batch.raw().hashes)
    }

    /// The whole hash of block `i`, big endian; empty unless asked for.
    #[must_use]
    pub fn whole_hash(&self, i: usize) -> &'a [u8] {
        let at = self.blocks.start.saturating_add(i);
        let ends = &self.batch.more().whole_hash_ends;
        let start = match at.checked_sub(1) {
            None => 0,
            Some(before) => ends.get(before).copied().unwrap_or(0),
        };
        let end = ends.get(at).copied().unwrap_or(0);
        let bytes = &self.batch.more().whole_hashes;
        bytes.get(start as usize..end as usize).unwrap_or(&[])
    }

    fn has(&self, flag: u32) -> bool {
        self.row[0] >> 16 & flag != 0
    }

    fn of_blocks<T>(&self, column: &'a [T]) -> &'a [T] {
        column.get(self.blocks.clone()).unwrap_or(&[])
    }
}

// === impl Stored ===

impl<'a> Stored<'a> {
    /// The blocks, in order from the parent on.
    #[must_use]
    pub fn blocks(&self) -> Blocks<'a> {
        Blocks {
            hashes: self.hashes(),
            token_hashes: self.token_hashes(),
            extra_digests: self.extra_digests(),
            at: 0,
        }
    }

    /// Engine hash of the block before the first; none at a prompt's start.
    #[must_use]
    pub fn parent(&self) -> Option<u64> {
        let parent = self.0.batch.raw().parents.get(self.0.index as usize)?;
        self.has(flags::PARENT).then_some(*parent)
    }

    /// Tokens a block; 0 for offload placeholders.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.0.row[2]
    }

    /// Its tokens: blocks x block size as a rule, more where an engine skips
    /// blocks, windows of block size + 1 for bigrams. Empty unless asked for.
    #[must_use]
    pub fn tokens(&self) -> &'a [u32] {
        let tokens = &self.0.batch.more().tokens;
        tokens.get(self.0.tokens.clone()).unwrap_or(&[])
    }

    /// Token hashes of its blocks, one a block, when valid and asked for.
    #[must_use]
    pub fn token_hashes(&self) -> Option<&'a [u64]> {
        let column = self.0.batch.raw().token_hashes.get(self.0.blocks.clone())?;
        self.has(flags::TOKEN_HASHES).then_some(column)
    }

    /// Digests of extra keys, one a block, or none at all when not asked for.
    #[must_use]
    pub fn extra_digests(&self) -> &'a [u64] {
        self.of_blocks(&self.0.batch.raw().extra_digests)
    }

    /// True when some block has extra keys.
    #[must_use]
    pub fn has_extra_keys(&self) -> bool {
        self.has(flags::EXTRA_KEYS)
    }

    /// True when tokens are bigrams.
    #[must_use]
    pub fn is_bigram(&self) -> bool {
        self.has(flags::BIGRAM)
    }

    /// Adapter (LoRA) name.
    #[must_use]
    pub fn adapter(&self) -> Name<'a> {
        self.0.batch.name(self.0.row[3])
    }

    /// Cache salt.
    #[must_use]
    pub fn salt(&self) -> Name<'a> {
        self.0.batch.name(self.0.row[4])
    }
}

macro_rules! deref {
    ($($name:ident),*) => {$(
        impl<'a> Deref for $name<'a> {
            type Target = Common<'a>;
            fn deref(&self) -> &Common<'a> {
                &self.0
            }
        }
    )*};
}

deref!(Stored, Removed, Cleared);

// === impl Blocks ===

impl Iterator for Blocks<'_> {
    type Item = Block;

    #[inline]
    fn next(&mut self) -> Option<Block> {
        let at = self.at;
        let hash = *self.hashes.get(at)?;
        self.at += 1;
        Some(Block {
            hash,
            token_hash: self.token_hashes.and_then(|h| h.get(at)).copied(),
            extra_digest: self.extra_digests.get(at).copied().unwrap_or(0),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.hashes.len() - self.at;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Blocks<'_> {}
