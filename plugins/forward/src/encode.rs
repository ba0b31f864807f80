//! Batches encoded anew, in the form of recent vLLM: `[ts, events, rank]`, each
//! event a msgpack map, fields at their defaults left out.
//!
//! Kept: kind, hashes (low 64 bits, as integers), parent, tokens, block size,
//! medium (an unknown one by its raw name), adapter, cache salt, model, group,
//! locality, time. Bigram windows become pairs again. Extra keys are known by
//! digest alone: one key that holds the digest stands for all of a block, so
//! that a reader still tells such blocks from plain ones.
//! Not kept: fields that the columns do not hold, and events that the host
//! skipped as bad.

use penstock_sdk::event::Stored;
use penstock_sdk::{Batch, Event, Medium, Name};
use rmp::encode as mp;

/// A map's keys and values, counted before they are written.
struct Map<'o> {
    out: &'o mut Vec<u8>,
    head: usize,
    fields: u8,
}

/// Appends `batch` with `count` events of it.
pub fn batch<'a>(
    out: &mut Vec<u8>,
    batch: &Batch<'a>,
    count: usize,
    events: impl Iterator<Item = Event<'a>>,
) {
    array(out, 3);
    float(out, batch.published_us());
    array(out, count);
    for each in events.take(count) {
        event(out, &each);
    }
    rank_or_nil(out, batch.rank());
}

/// Appends a batch whose one event says that all blocks are gone.
pub fn cleared(out: &mut Vec<u8>, published_us: i64, rank: Option<u32>) {
    array(out, 3);
    float(out, published_us);
    array(out, 1);
    let mut map = Map::open(out);
    text(map.key("type"), "AllBlocksCleared");
    map.close();
    rank_or_nil(out, rank);
}

fn event(out: &mut Vec<u8>, event: &Event<'_>) {
    let mut map = Map::open(out);
    let common = event.common();
    match event {
        Event::Stored(s) => {
            text(map.key("type"), "BlockStored");
            numbers(map.key("block_hashes"), s.hashes());
            match s.parent() {
                Some(parent) => number(map.key("parent_block_hash"), parent),
                None => nil(map.key("parent_block_hash")),
            }
            tokens(map.key("token_ids"), s);
            number(map.key("block_size"), s.block_size().into());
            nil(map.key("lora_id"));
        }
        Event::Removed(r) => {
            text(map.key("type"), "BlockRemoved");
            numbers(map.key("block_hashes"), r.hashes());
        }
        Event::Cleared(_) => text(map.key("type"), "AllBlocksCleared"),
    }
    let medium = match common.medium() {
        Medium::None => None,
        Medium::Gpu => Some("GPU"),
        Medium::Cpu => Some("CPU"),
        Medium::Disk => Some("DISK"),
        Medium::External => Some("EXTERNAL"),
        Medium::Unknown => Some(common.medium_name().as_str().unwrap_or("UNKNOWN")),
    };
    if let Some(medium) = medium {
        text(map.key("medium"), medium);
    }
    if let Event::Stored(s) = event {
        name(&mut map, "lora_name", s.adapter());
        extra_keys(&mut map, s);
    }
    if common.has_group() {
        number(map.key("group_idx"), common.group().into());
    }
    if common.is_remote() {
        text(map.key("locality"), "REMOTE");
    }
    if let Event::Stored(s) = event {
        name(&mut map, "cache_salt", s.salt());
    }
    name(&mut map, "model_name", common.model());
    if let Some(time) = common.time_us() {
        float(map.key("timestamp"), time);
    }
    map.close();
}

fn tokens(out: &mut Vec<u8>, stored: &Stored<'_>) {
    let tokens = stored.tokens();
    if !stored.is_bigram() || stored.block_size() == 0 {
        array(out, tokens.len());
        for token in tokens {
            number(out, (*token).into());
        }
        return;
    }
    let window = stored.block_size() as usize + 1;
    let whole = tokens.len() / window;
    array(out, whole * (window - 1));
    for pair in tokens.chunks_exact(window).flat_map(|w| w.windows(2)) {
        array(out, 2);
        for token in pair {
            number(out, (*token).into());
        }
    }
}

fn extra_keys(map: &mut Map<'_>, stored: &Stored<'_>) {
    let digests = stored.extra_digests();
    if digests.iter().all(|d| *d == 0) {
        return;
    }
    let out = map.key("extra_keys");
    array(out, digests.len());
    for digest in digests {
        if *digest == 0 {
            nil(out);
        } else {
            array(out, 1);
            text(out, &format!("digest:{digest:016x}"));
        }
    }
}

/// A name; one that the dictionary no longer tells apart is not left out, since
/// the event is not plain.
fn name(map: &mut Map<'_>, key: &str, name: Name<'_>) {
    match name {
        Name::None => {}
        Name::Known(name) => text(map.key(key), name),
        Name::Unlisted => text(map.key(key), "?"),
    }
}

// === impl Map ===

impl<'o> Map<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        let head = out.len();
        out.push(0x80);
        Self {
            out,
            head,
            fields: 0,
        }
    }

    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.fields += 1;
        text(self.out, key);
        self.out
    }

    /// An event has at most 14 fields, so that the header is one byte.
    fn close(self) {
        debug_assert!(self.fields < 16);
        if let Some(head) = self.out.get_mut(self.head) {
            *head = 0x80 | self.fields;
        }
    }
}

// === values: writing to a vector does not fail ===

fn rank_or_nil(out: &mut Vec<u8>, rank: Option<u32>) {
    match rank {
        Some(rank) => number(out, rank.into()),
        None => nil(out),
    }
}

fn nil(out: &mut Vec<u8>) {
    let _ = mp::write_nil(out);
}

fn text(out: &mut Vec<u8>, value: &str) {
    let _ = mp::write_str(out, value);
}

fn number(out: &mut Vec<u8>, value: u64) {
    let _ = mp::write_uint(out, value);
}

/// µs since 1970 as seconds.
fn float(out: &mut Vec<u8>, us: i64) {
    let _ = mp::write_f64(out, us as f64 / 1e6);
}

fn array(out: &mut Vec<u8>, len: usize) {
    let _ = mp::write_array_len(out, u32::try_from(len).unwrap_or(u32::MAX));
}

fn numbers(out: &mut Vec<u8>, values: &[u64]) {
    array(out, values.len());
    for value in values {
        number(out, *value);
    }
}
