//! Drives a plugin natively: batches built from events in code, a stand-in for
//! the host, and what the plugin counted and published. Not in a component.
//!
//! ```
//! use penstock_sdk::testing::{batch, stored};
//! use penstock_sdk::Medium;
//! let batch = batch(1)
//!     .sequence(7)
//!     .stored(stored(4, &[100, 101]).tokens(&[1, 2, 3, 4, 5, 6, 7, 8]).adapter("sql"))
//!     .removed(Medium::Gpu, 0, &[100])
//!     .cleared();
//! # let _ = batch;
//! ```

use crate::batch::flags;
use crate::generated::base::exports::penstock::plugin::guest::MoreColumns;
use crate::generated::base::penstock::plugin::types::DictionaryEntry;
use crate::hash::{token_hash, token_seed};
use crate::native::KEPT;
pub use crate::native::{Emitted, Published};
use crate::{Batch, Medium, RawBatch, SourceId};
use std::collections::BTreeMap;

mod host;

pub use host::{Host, change};

/// Names of all sources as a host keeps them: codes from 1, one dictionary a source.
#[derive(Debug, Default)]
pub struct Names {
    codes: BTreeMap<(SourceId, u8, String), u32>,
    next: BTreeMap<SourceId, u32>,
    fresh: Vec<(SourceId, DictionaryEntry)>,
    seen: crate::Names,
}

/// A batch in the making.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    raw: RawBatch,
    events: Vec<Built>,
}

/// A stored event in the making.
#[derive(Clone, Debug, Default)]
pub struct StoredBuilder {
    medium: u8,
    group: Option<u32>,
    block_size: u32,
    hashes: Vec<u64>,
    tokens: Option<Vec<u32>>,
    parent: Option<u64>,
    names: [String; 3],
    extra: Vec<(usize, u64)>,
    bigram: bool,
    time: Option<i64>,
    remote: bool,
}

#[derive(Clone, Debug)]
enum Built {
    Stored(StoredBuilder),
    Removed(u8, u32, Vec<u64>, String),
    Cleared,
}

/// A batch of `source`, epoch 0, sequence 0, no rank, no events yet.
#[must_use]
pub fn batch(source: SourceId) -> BatchBuilder {
    BatchBuilder {
        raw: RawBatch {
            source,
            epoch: 0,
            sequence: 0,
            rank: u32::MAX,
            published: 0,
            received: 0,
            skipped: 0,
            events: vec![],
            parents: vec![],
            hashes: vec![],
            token_hashes: vec![],
            extra_digests: vec![],
            more: Some(MoreColumns {
                tokens: vec![],
                token_ends: vec![],
                whole_hashes: vec![],
                whole_hash_ends: vec![],
                times: vec![],
                payload: vec![],
            }),
        },
        events: vec![],
    }
}

/// A stored event in device memory. Without [`StoredBuilder::tokens`] it has no
/// token hashes.
#[must_use]
pub fn stored(block_size: u32, hashes: &[u64]) -> StoredBuilder {
    StoredBuilder {
        medium: Medium::Gpu.code(),
        block_size,
        hashes: hashes.to_vec(),
        ..StoredBuilder::default()
    }
}

/// What plugins on this thread have added to the counter `name`.
#[must_use]
pub fn counter(name: &str) -> u64 {
    KEPT.with_borrow(|k| k.counters.get(name).copied().unwrap_or(0))
}

/// What a plugin on this thread last set the gauge `name` to.
#[must_use]
pub fn gauge(name: &str) -> Option<f64> {
    KEPT.with_borrow(|k| k.gauges.get(name).copied())
}

/// Takes what plugins on this thread have published, oldest first.
#[must_use]
pub fn published() -> Vec<Published> {
    KEPT.with_borrow_mut(|k| k.published.drain(..).collect())
}

/// Takes what plugins on this thread have emitted, oldest first.
#[must_use]
pub fn emitted() -> Vec<Emitted> {
    KEPT.with_borrow_mut(|k| k.emitted.drain(..).collect())
}

/// Numbers that plugins on this thread have left out of their sinks' sequences.
#[must_use]
pub fn skipped() -> u64 {
    KEPT.with_borrow(|k| k.skipped)
}

/// Makes publishing on this thread fail with `code` from now on, or work again.
pub fn refuse_publishing(code: Option<u32>) {
    KEPT.with_borrow_mut(|k| k.refuse = code);
}

// === impl StoredBuilder ===

impl StoredBuilder {
    /// Its tokens. Token hashes come with it when they match the blocks; for
    /// bigrams, call [`StoredBuilder::bigram`] before.
    #[must_use]
    pub fn tokens(mut self, tokens: &[u32]) -> Self {
        self.tokens = Some(tokens.to_vec());
        self
    }

    /// The block before the first.
    #[must_use]
    pub fn parent(mut self, hash: u64) -> Self {
        self.parent = Some(hash);
        self
    }

    /// Where the blocks live.
    #[must_use]
    pub fn medium(mut self, medium: Medium) -> Self {
        self.medium = medium.code();
        self
    }

    /// KV cache group.
    #[must_use]
    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    /// Adapter (LoRA) name.
    #[must_use]
    pub fn adapter(mut self, name: &str) -> Self {
        name.clone_into(&mut self.names[0]);
        self
    }

    /// Cache salt.
    #[must_use]
    pub fn salt(mut self, name: &str) -> Self {
        name.clone_into(&mut self.names[1]);
        self
    }

    /// Model that the event itself names.
    #[must_use]
    pub fn model(mut self, name: &str) -> Self {
        name.clone_into(&mut self.names[2]);
        self
    }

    /// Gives block `i` extra keys with this digest.
    #[must_use]
    pub fn extra(mut self, i: usize, digest: u64) -> Self {
        self.extra.push((i, digest));
        self
    }

    /// Tokens are windows of block size + 1.
    #[must_use]
    pub fn bigram(mut self) -> Self {
        self.bigram = true;
        self
    }

    /// A time of its own, µs since 1970.
    #[must_use]
    pub fn time_us(mut self, time: i64) -> Self {
        self.time = Some(time);
        self
    }

    /// Held elsewhere, known here.
    #[must_use]
    pub fn remote(mut self) -> Self {
        self.remote = true;
        self
    }

    fn write(&self, raw: &mut RawBatch, names: &mut Names) {
        let codes = [0, 1, 2].map(|kind| names.code(raw.source, kind as u8, &self.names[kind]));
        let window = self.block_size as usize + usize::from(self.bigram);
        let tokens = self.tokens.as_deref().unwrap_or(&[]);
        let hashed = window > 0 && !tokens.is_empty() && tokens.len() == window * self.hashes.len();
        let seed = token_seed(&self.names[0], &self.names[1]);
        let mut flag = 0;
        for (on, bit) in [
            (self.parent.is_some(), flags::PARENT),
            (hashed, flags::TOKEN_HASHES),
            (!self.extra.is_empty(), flags::EXTRA_KEYS),
            (self.bigram, flags::BIGRAM),
            (self.group.is_some(), flags::GROUP),
            (self.time.is_some(), flags::TIME),
            (self.remote, flags::REMOTE),
        ] {
            flag |= if on { bit } else { 0 };
        }
        for i in 0..self.hashes.len() {
            let hash = match hashed {
                true => token_hash(&tokens[i * window..(i + 1) * window], seed),
                false => 0,
            };
            raw.token_hashes.push(hash);
            let extra = self.extra.iter().find(|(at, _)| *at == i);
            raw.extra_digests
                .push(extra.map_or(0, |(_, digest)| *digest));
        }
        more(raw).tokens.extend_from_slice(tokens);
        let head = u32::from(self.medium) << 8 | flag << 16;
        let row = [head, self.group.unwrap_or(0), self.block_size];
        close(raw, &row, codes, self.parent, &self.hashes, self.time);
    }
}

/// Writes the columns that all events have.
fn close(
    raw: &mut RawBatch,
    row: &[u32; 3],
    codes: [u32; 3],
    parent: Option<u64>,
    hashes: &[u64],
    time: Option<i64>,
) {
    for hash in hashes {
        raw.hashes.push(*hash);
        let more = more(raw);
        more.whole_hashes.extend_from_slice(&hash.to_be_bytes());
        more.whole_hash_ends.push(more.whole_hashes.len() as u32);
    }
    raw.events.extend_from_slice(row);
    raw.events.extend_from_slice(&codes);
    raw.events.extend_from_slice(&[0, raw.hashes.len() as u32]);
    raw.parents.push(parent.unwrap_or(0));
    let more = more(raw);
    more.token_ends.push(more.tokens.len() as u32);
    more.times.push(time.unwrap_or(0));
}

fn more(raw: &mut RawBatch) -> &mut MoreColumns {
    match &mut raw.more {
        Some(more) => more,
        None => unreachable!("a builder's batch has all columns"),
    }
}

// === impl BatchBuilder ===

impl BatchBuilder {
    /// The publisher's number of the batch.
    #[must_use]
    pub fn sequence(mut self, sequence: u64) -> Self {
        self.raw.sequence = sequence;
        self
    }

    /// Restarts before it.
    #[must_use]
    pub fn epoch(mut self, epoch: u32) -> Self {
        self.raw.epoch = epoch;
        self
    }

    /// Rank that the batch names.
    #[must_use]
    pub fn rank(mut self, rank: u32) -> Self {
        self.raw.rank = rank;
        self
    }

    /// Engine's time and host's time of arrival, µs since 1970.
    #[must_use]
    pub fn times(mut self, published: i64, received: i64) -> Self {
        (self.raw.published, self.raw.received) = (published, received);
        self
    }

    /// The message as it came.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        more(&mut self.raw).payload = payload.to_vec();
        self
    }

    /// Events that the host left out.
    #[must_use]
    pub fn skipped(mut self, events: u32) -> Self {
        self.raw.skipped = events;
        self
    }

    /// Blocks enter the cache.
    #[must_use]
    pub fn stored(mut self, event: StoredBuilder) -> Self {
        self.events.push(Built::Stored(event));
        self
    }

    /// Blocks leave it.
    #[must_use]
    pub fn removed(self, medium: Medium, group: u32, hashes: &[u64]) -> Self {
        self.removed_of("", medium, group, hashes)
    }

    /// Blocks of a model that the event itself names leave it.
    #[must_use]
    pub fn removed_of(mut self, model: &str, medium: Medium, group: u32, hashes: &[u64]) -> Self {
        let removed = Built::Removed(medium.code(), group, hashes.to_vec(), model.to_owned());
        self.events.push(removed);
        self
    }

    /// All of it is emptied.
    #[must_use]
    pub fn cleared(mut self) -> Self {
        self.events.push(Built::Cleared);
        self
    }

    /// The columns, all of them, with codes of `names`.
    #[must_use]
    pub fn build(mut self, names: &mut Names) -> RawBatch {
        let raw = &mut self.raw;
        for event in &self.events {
            match event {
                Built::Stored(stored) => stored.write(raw, names),
                Built::Removed(medium, group, hashes, model) => {
                    let blank = hashes.iter().map(|_| 0);
                    raw.token_hashes.extend(blank.clone());
                    raw.extra_digests.extend(blank);
                    let codes = [0, 0, names.code(raw.source, 2, model)];
                    let head = 1 | u32::from(*medium) << 8;
                    close(raw, &[head, *group, 0], codes, None, hashes, None);
                }
                Built::Cleared => close(raw, &[2, 0, 0], [0; 3], None, &[], None),
            }
        }
        self.raw
    }
}

// === impl Names ===

impl Names {
    /// The code of a name of kind 0 adapter, 1 salt, 2 model or 3 medium.
    pub fn code(&mut self, source: SourceId, kind: u8, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let key = (source, kind, name.to_owned());
        if let Some(code) = self.codes.get(&key) {
            return *code;
        }
        let next = self.next.entry(source).or_default();
        *next += 1;
        let code = *next;
        self.codes.insert(key, code);
        let entry = DictionaryEntry {
            code,
            kind,
            text: name.to_owned(),
        };
        self.seen.add(source, vec![entry.clone()]);
        self.fresh.push((source, entry));
        code
    }

    /// A view of `raw` with these names.
    #[must_use]
    pub fn view<'a>(&'a self, raw: &'a RawBatch) -> Batch<'a> {
        Batch::new(raw, &self.seen)
    }
}
