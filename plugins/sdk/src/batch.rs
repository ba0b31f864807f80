//! Typed events over a batch's columns, without a copy.
//!
//! ```
//! use penstock_sdk::{Event, Medium, testing};
//! let mut host = testing::Names::default();
//! let raw = testing::batch(1)
//!     .stored(testing::stored(2, &[7, 8]).tokens(&[1, 2, 3, 4]).parent(6))
//!     .removed(Medium::Gpu, 0, &[5])
//!     .build(&mut host);
//! let batch = host.view(&raw);
//! let mut events = batch.events();
//! let Some(Event::Stored(stored)) = events.next() else { panic!() };
//! assert_eq!(stored.parent(), Some(6));
//! assert_eq!(stored.blocks().map(|b| b.hash).collect::<Vec<_>>(), [7, 8]);
//! let Some(Event::Removed(removed)) = events.next() else { panic!() };
//! assert_eq!((removed.medium(), removed.hashes()), (Medium::Gpu, &[5][..]));
//! ```

use crate::event::{Cleared, Common, Event, Removed, Stored};
use crate::generated::base::exports::penstock::plugin::guest::MoreColumns;
use crate::source::Known;
use crate::{Name, Names, RawBatch, SourceId, SourceInfo};
use std::ops::Range;

/// Words an event takes in the column of events.
pub const EVENT_STRIDE: usize = 8;

/// Bits of an event's flags, as in the interface.
pub mod flags {
    /// The parent is present.
    pub const PARENT: u32 = 1;
    /// Token hashes are valid.
    pub const TOKEN_HASHES: u32 = 1 << 1;
    /// Some block has extra keys.
    pub const EXTRA_KEYS: u32 = 1 << 2;
    /// Tokens are bigrams: a block's window is its size + 1.
    pub const BIGRAM: u32 = 1 << 3;
    /// The event names a group.
    pub const GROUP: u32 = 1 << 4;
    /// The event has a time of its own.
    pub const TIME: u32 = 1 << 5;
    /// Held elsewhere, known here.
    pub const REMOTE: u32 = 1 << 6;
}

/// One batch of one source.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    raw: &'a RawBatch,
    more: &'a MoreColumns,
    known: Option<&'a Known>,
}

/// The events of a batch, in order. Kinds this kit does not know are left out.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    batch: Batch<'a>,
    rows: std::slice::Iter<'a, [u32; EVENT_STRIDE]>,
    index: u32,
    block_at: usize,
    token_at: usize,
}

static NO_MORE: MoreColumns = MoreColumns {
    tokens: Vec::new(),
    token_ends: Vec::new(),
    whole_hashes: Vec::new(),
    whole_hash_ends: Vec::new(),
    times: Vec::new(),
    payload: Vec::new(),
};

// === impl Batch ===

impl<'a> Batch<'a> {
    /// A view of `raw`, with names from `names`.
    #[must_use]
    pub fn new(raw: &'a RawBatch, names: &'a Names) -> Self {
        Self {
            raw,
            more: raw.more.as_ref().unwrap_or(&NO_MORE),
            known: names.known(raw.source),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.raw.source
    }

    /// What the host told of its source.
    #[must_use]
    pub fn info(&self) -> Option<&'a SourceInfo> {
        self.known?.info.as_ref()
    }

    /// Restarts of the source before this batch.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.raw.epoch
    }

    /// The publisher's number of the batch.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.raw.sequence
    }

    /// Data-parallel rank that the batch names.
    #[must_use]
    pub fn rank(&self) -> Option<u32> {
        (self.raw.rank != u32::MAX).then_some(self.raw.rank)
    }

    /// Engine's time, µs since 1970.
    #[must_use]
    pub fn published_us(&self) -> i64 {
        self.raw.published
    }

    /// Host's time of arrival, µs since 1970.
    #[must_use]
    pub fn received_us(&self) -> i64 {
        self.raw.received
    }

    /// The message as it came; empty unless asked for.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.more.payload
    }

    /// Events of the message that the host could not read and left out: what they
    /// stored or removed is unknown. 0 as a rule.
    #[must_use]
    pub fn skipped(&self) -> u32 {
        self.raw.skipped
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.raw.events.len() / EVENT_STRIDE
    }

    /// True without events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> Events<'a> {
        let (rows, _) = self.raw.events.as_chunks::<EVENT_STRIDE>();
        Events {
            batch: *self,
            rows: rows.iter(),
            index: 0,
            block_at: 0,
            token_at: 0,
        }
    }

    /// The columns.
    #[must_use]
    pub fn raw(&self) -> &'a RawBatch {
        self.raw
    }

    /// The columns that few ask for, empty when none of them was.
    #[must_use]
    pub fn more(&self) -> &'a MoreColumns {
        self.more
    }

    pub(crate) fn name(&self, code: u32) -> Name<'a> {
        match (code, self.known) {
            (0, _) => Name::None,
            (_, None) => Name::Unlisted,
            (code, Some(known)) => known.name(code),
        }
    }
}

// === impl Events ===

/// The next range of a column of ends. One that goes back, or past the
/// column's `len`, is empty, and the position stays.
fn range(at: &mut usize, end: u32, len: usize) -> Range<usize> {
    let start = *at;
    let end = end as usize;
    if start <= end && end <= len {
        *at = end;
        start..end
    } else {
        start..start
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    #[inline]
    fn next(&mut self) -> Option<Event<'a>> {
        loop {
            let row = self.rows.next()?;
            let index = self.index;
            self.index += 1;
            let (raw, more) = (self.batch.raw, self.batch.more);
            let blocks = range(&mut self.block_at, row[7], raw.hashes.len());
            let tokens = match more.token_ends.get(index as usize) {
                Some(end) => range(&mut self.token_at, *end, more.tokens.len()),
                None => 0..0,
            };
            let common = Common {
                batch: self.batch,
                row,
                index,
                blocks,
                tokens,
            };
            match row[0] & 0xff {
                0 => return Some(Event::Stored(Stored(common))),
                1 => return Some(Event::Removed(Removed(common))),
                2 => return Some(Event::Cleared(Cleared(common))),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
