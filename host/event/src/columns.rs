use crossbeam_queue::ArrayQueue;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Words of `u32` that one event takes in [`Columns::events`].
pub const EVENT_STRIDE: usize = 8;

/// Bits of an event's flags.
pub mod flags {
    /// The parent is present (0 is a valid hash).
    pub const PARENT: u32 = 1;
    /// Token hashes are valid: tokens match blocks x block size.
    pub const TOKEN_HASHES: u32 = 1 << 1;
    /// At least one block carries extra keys.
    pub const EXTRA_KEYS: u32 = 1 << 2;
    /// `token_ids` held pairs; tokens are bigram windows of block size + 1.
    pub const BIGRAM: u32 = 1 << 3;
    /// The event names a group; otherwise the group is 0.
    pub const GROUP: u32 = 1 << 4;
    /// The event carries a time of its own.
    pub const TIME: u32 = 1 << 5;
    /// vLLM's `locality` is `REMOTE`: held elsewhere, known here.
    pub const REMOTE: u32 = 1 << 6;
}

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Blocks entered the cache.
    Stored = 0,
    /// Blocks left the cache.
    Removed = 1,
    /// The whole cache was emptied.
    Cleared = 2,
}

/// Where blocks live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Medium {
    /// The event names none.
    None = 0,
    /// Device memory.
    Gpu = 1,
    /// Host memory.
    Cpu = 2,
    /// Local disk.
    Disk = 3,
    /// Another machine's store.
    External = 4,
    /// A name this version does not know; the raw name is in the dictionary.
    Unknown = 255,
}

impl Medium {
    /// The medium of a code; any other code is unknown.
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

    /// The name in JSON; none for [`Medium::None`].
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gpu => Some("gpu"),
            Self::Cpu => Some("cpu"),
            Self::Disk => Some("disk"),
            Self::External => Some("external"),
            Self::Unknown => Some("unknown"),
        }
    }
}

/// Which columns somebody asked for, beside events, parents and hashes, which
/// are always there. The bits are those of `description.columns` in the WIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnSet(pub u32);

impl ColumnSet {
    /// [`Columns::token_hashes`].
    pub const TOKEN_HASHES: Self = Self(1);
    /// [`Columns::extra_digests`].
    pub const EXTRA_DIGESTS: Self = Self(1 << 1);
    /// [`Columns::tokens`] and [`Columns::token_ends`].
    pub const TOKENS: Self = Self(1 << 2);
    /// [`Columns::whole_hashes`] and [`Columns::whole_hash_ends`].
    pub const WHOLE_HASHES: Self = Self(1 << 3);
    /// [`Columns::times`].
    pub const TIMES: Self = Self(1 << 4);
    /// The batch's payload as it came.
    pub const PAYLOAD: Self = Self(1 << 5);
    /// Every column.
    pub const ALL: Self = Self(0x3f);

    /// The columns by the names that the author's kit gives them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (Self::TOKEN_HASHES, "TOKEN_HASHES"),
            (Self::EXTRA_DIGESTS, "EXTRA_DIGESTS"),
            (Self::TOKENS, "TOKENS"),
            (Self::WHOLE_HASHES, "WHOLE_HASHES"),
            (Self::TIMES, "TIMES"),
            (Self::PAYLOAD, "PAYLOAD"),
        ];
        let these = all.into_iter().filter(move |(one, _)| self.contains(*one));
        these.map(|(_, name)| name)
    }

    /// Both sets together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True when some column of `other` is in this set.
    #[must_use]
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// True when every column of `other` is in this set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A batch's events, side by side. All lists are empty or of the length stated;
/// "ends" are exclusive and cumulative over the batch, so that event `i` owns
/// `ends[i-1]..ends[i]` (from 0 for the first).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Columns that were asked for and filled.
    pub filled: ColumnSet,
    /// [`EVENT_STRIDE`] words an event: see [`EventRow`] for their order.
    pub events: Vec<u32>,
    /// One an event: the engine hash of the parent block, 0 without one.
    pub parents: Vec<u64>,
    /// One a block: low 64 bits of the engine's hash.
    pub hashes: Vec<u64>,
    /// One a block when filled: XXH3-64 of the block's tokens, see
    /// [`token_seed`](crate::token_seed); 0 where the event's flag is off.
    pub token_hashes: Vec<u64>,
    /// One a block when filled: digest of the block's extra keys, 0 for none.
    pub extra_digests: Vec<u64>,
    /// Tokens of all events; for bigrams, windows of block size + 1.
    pub tokens: Vec<u32>,
    /// One an event when tokens are filled: end of its tokens.
    pub token_ends: Vec<u32>,
    /// Whole hash bytes, big endian as on the wire (integers: 8 bytes).
    pub whole_hashes: Vec<u8>,
    /// One a block when filled: end of its whole hash.
    pub whole_hash_ends: Vec<u32>,
    /// One an event when filled: µs since 1970, 0 without the TIME flag.
    pub times: Vec<i64>,
}

/// One event's words in [`Columns::events`], in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Word 0, bits 0..8.
    pub kind: Kind,
    /// Word 0, bits 8..16.
    pub medium: Medium,
    /// Word 0, bits 16..32: see [`flags`].
    pub flags: u32,
    /// Word 1: KV cache group, 0 without one.
    pub group: u32,
    /// Word 2: tokens a block; 0 for offload placeholders and removes.
    pub block_size: u32,
    /// Word 3: adapter (LoRA) name, a dictionary code; 0 for none.
    pub adapter: u32,
    /// Word 4: cache salt, a dictionary code; 0 for none.
    pub salt: u32,
    /// Word 5: model, when the event names one, a dictionary code; 0 for none.
    pub model: u32,
    /// Word 6: raw name of an unknown medium, a dictionary code; 0 for none.
    pub medium_name: u32,
    /// Word 7: end of its blocks in the per-block columns.
    pub block_end: u32,
}

impl EventRow {
    /// The words as they stand in the column.
    #[must_use]
    pub fn to_words(self) -> [u32; EVENT_STRIDE] {
        let head = self.kind as u32 | (self.medium as u32) << 8 | self.flags << 16;
        [
            head,
            self.group,
            self.block_size,
            self.adapter,
            self.salt,
            self.model,
            self.medium_name,
            self.block_end,
        ]
    }

    /// Reads the words back.
    #[must_use]
    pub fn from_words(w: &[u32; EVENT_STRIDE]) -> Self {
        Self {
            kind: match w[0] & 0xff {
                0 => Kind::Stored,
                1 => Kind::Removed,
                _ => Kind::Cleared,
            },
            medium: Medium::from_code((w[0] >> 8) as u8),
            flags: w[0] >> 16,
            group: w[1],
            block_size: w[2],
            adapter: w[3],
            salt: w[4],
            model: w[5],
            medium_name: w[6],
            block_end: w[7],
        }
    }
}

// === impl Columns ===

impl Columns {
    /// Empties every column and keeps the memory.
    pub fn clear(&mut self) {
        self.filled = ColumnSet::default();
        self.events.clear();
        self.parents.clear();
        self.hashes.clear();
        self.token_hashes.clear();
        self.extra_digests.clear();
        self.tokens.clear();
        self.token_ends.clear();
        self.whole_hashes.clear();
        self.whole_hash_ends.clear();
        self.times.clear();
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len() / EVENT_STRIDE
    }

    /// True without events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Event `i`. Panics past the end.
    #[must_use]
    pub fn event(&self, i: usize) -> EventRow {
        let at = i * EVENT_STRIDE;
        let mut words = [0; EVENT_STRIDE];
        words.copy_from_slice(&self.events[at..at + EVENT_STRIDE]);
        EventRow::from_words(&words)
    }

    /// Blocks of event `i`, as a range over the per-block columns.
    #[must_use]
    pub fn blocks(&self, i: usize) -> std::ops::Range<usize> {
        let end = |i: usize| self.events[i * EVENT_STRIDE + EVENT_STRIDE - 1] as usize;
        let start = if i == 0 { 0 } else { end(i - 1) };
        start..end(i)
    }

    /// Tokens of event `i`; empty when tokens were not filled.
    #[must_use]
    pub fn tokens_of(&self, i: usize) -> &[u32] {
        if self.token_ends.is_empty() {
            return &[];
        }
        let start = if i == 0 {
            0
        } else {
            self.token_ends[i - 1] as usize
        };
        &self.tokens[start..self.token_ends[i] as usize]
    }

    /// Bytes held, by length.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.events.len() * 4
            + (self.parents.len() + self.hashes.len()) * 8
            + (self.token_hashes.len() + self.extra_digests.len() + self.times.len()) * 8
            + (self.tokens.len() + self.token_ends.len() + self.whole_hash_ends.len()) * 4
            + self.whole_hashes.len()
    }

    /// Bytes of what always comes, and of the columns in `wants` that are here: what
    /// crosses into a plugin that wants these.
    #[must_use]
    pub fn bytes_of(&self, wants: ColumnSet) -> usize {
        let if_wanted = |column, bytes| if wants.contains(column) { bytes } else { 0 };
        self.events.len() * 4
            + (self.parents.len() + self.hashes.len()) * 8
            + if_wanted(ColumnSet::TOKEN_HASHES, self.token_hashes.len() * 8)
            + if_wanted(ColumnSet::EXTRA_DIGESTS, self.extra_digests.len() * 8)
            + if_wanted(
                ColumnSet::TOKENS,
                (self.tokens.len() + self.token_ends.len()) * 4,
            )
            + if_wanted(
                ColumnSet::WHOLE_HASHES,
                self.whole_hashes.len() + self.whole_hash_ends.len() * 4,
            )
            + if_wanted(ColumnSet::TIMES, self.times.len() * 8)
    }

    fn capacity_bytes(&self) -> usize {
        self.events.capacity() * 4
            + (self.parents.capacity() + self.hashes.capacity()) * 8
            + (self.token_hashes.capacity() + self.extra_digests.capacity()) * 8
            + self.times.capacity() * 8
            + (self.tokens.capacity() + self.token_ends.capacity()) * 4
            + self.whole_hash_ends.capacity() * 4
            + self.whole_hashes.capacity()
    }
}

/// Columns kept for reuse, so that a warm path allocates nothing.
#[derive(Clone, Debug)]
pub struct Pool {
    free: Arc<ArrayQueue<Columns>>,
}

/// Larger columns are given back to the allocator: one giant batch must not
/// pin its memory for ever.
const KEEP_BYTES: usize = 256 * 1024;

impl Pool {
    /// A pool that keeps at most `keep` columns.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self {
            free: Arc::new(ArrayQueue::new(keep.max(1))),
        }
    }

    /// Empty columns, with memory from before where there is some.
    #[must_use]
    pub fn take(&self) -> PooledColumns {
        PooledColumns {
            columns: self.free.pop().unwrap_or_default(),
            home: Some(self.free.clone()),
        }
    }
}

/// Columns that return to their pool when dropped.
#[derive(Debug, Default)]
pub struct PooledColumns {
    columns: Columns,
    home: Option<Arc<ArrayQueue<Columns>>>,
}

impl From<Columns> for PooledColumns {
    fn from(columns: Columns) -> Self {
        Self {
            columns,
            home: None,
        }
    }
}

impl Deref for PooledColumns {
    type Target = Columns;
    fn deref(&self) -> &Columns {
        &self.columns
    }
}

impl DerefMut for PooledColumns {
    fn deref_mut(&mut self) -> &mut Columns {
        &mut self.columns
    }
}

impl Drop for PooledColumns {
    fn drop(&mut self) {
        if let Some(home) = self.home.take()
            && self.columns.capacity_bytes() <= KEEP_BYTES
        {
            let mut columns = std::mem::take(&mut self.columns);
            columns.clear();
            // A full pool drops the columns: nothing is lost but memory to reuse.
            drop(home.push(columns));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_their_words() {
        let row = EventRow {
            kind: Kind::Removed,
            medium: Medium::Unknown,
            flags: flags::GROUP | flags::REMOTE,
            group: 7,
            block_size: 32,
            adapter: 1,
            salt: 2,
            model: 3,
            medium_name: 4,
            block_end: 9,
        };
        assert_eq!(EventRow::from_words(&row.to_words()), row);
    }

    #[test]
    fn only_columns_that_are_wanted_cross() {
        let columns = Columns {
            events: vec![0; EVENT_STRIDE],
            parents: vec![0],
            hashes: vec![1, 2],
            token_hashes: vec![3, 4],
            tokens: vec![5; 32],
            token_ends: vec![32],
            ..Columns::default()
        };
        assert_eq!(columns.bytes_of(ColumnSet::default()), 32 + 24);
        assert_eq!(columns.bytes_of(ColumnSet::TOKEN_HASHES), 32 + 24 + 16);
        assert_eq!(columns.bytes_of(ColumnSet::ALL), columns.bytes());
    }

    #[test]
    fn dropped_columns_come_back_empty() {
        let pool = Pool::new(2);
        let mut columns = pool.take();
        columns.hashes.extend([1, 2, 3]);
        let memory = columns.hashes.capacity();
        drop(columns);
        let again = pool.take();
        assert!(again.hashes.is_empty());
        assert_eq!(again.hashes.capacity(), memory);
    }

    #[test]
    fn giant_columns_are_not_kept() {
        let pool = Pool::new(2);
        let mut columns = pool.take();
        columns.tokens.reserve(1_000_000);
        drop(columns);
        assert_eq!(pool.take().tokens.capacity(), 0);
    }
}
