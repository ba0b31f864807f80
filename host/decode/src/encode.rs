//! Columns back to events, in the form that vLLM sends since 0.24: maps without what is at
//! its default.
//!
//! Decoded again, they give the same columns, but for what the columns say alone: an
//! adapter that the engine named by a number comes back by the name that it has here.

use penstock_event::{Columns, Dictionary, EventRow, Kind, Medium, flags};
use rmp::encode as to;

/// Each event of `columns` as msgpack. `tokens` may be missing; hashes are written as
/// integers of 64 bits.
#[must_use]
pub fn events(columns: &Columns, names: &Dictionary) -> Vec<Vec<u8>> {
    let count = columns.len();
    (0..count).map(|i| event(columns, i, names)).collect()
}

/// The fields of one event, counted as they are written.
#[derive(Default)]
struct Fields {
    count: u32,
    bytes: Vec<u8>,
}

fn event(columns: &Columns, i: usize, names: &Dictionary) -> Vec<u8> {
    let row = columns.event(i);
    let hashes = columns.hashes.get(columns.blocks(i)).unwrap_or(&[]);
    let mut fields = Fields::default();
    fields.text("type", tag(row.kind));
    if row.kind != Kind::Cleared {
        fields.list("block_hashes", hashes.iter().copied());
    }
    if row.kind == Kind::Stored {
        if row.flags & flags::PARENT != 0 {
            let parent = columns.parents.get(i).copied();
            fields.number("parent_block_hash", parent.unwrap_or(0));
        }
        fields.tokens(columns.tokens_of(i), &row);
        fields.number("block_size", row.block_size.into());
        fields.name("lora_name", row.adapter, names);
        fields.name("cache_salt", row.salt, names);
    }
    match row.medium {
        Medium::None => {}
        Medium::Gpu => fields.text("medium", "GPU"),
        Medium::Cpu => fields.text("medium", "CPU"),
        Medium::Disk => fields.text("medium", "DISK"),
        Medium::External => fields.text("medium", "EXTERNAL"),
        Medium::Unknown => fields.name("medium", row.medium_name, names),
    }
    if row.flags & flags::GROUP != 0 || row.group != 0 {
        fields.number("group_idx", row.group.into());
    }
    if row.flags & flags::REMOTE != 0 {
        fields.text("locality", "REMOTE");
    }
    fields.name("model_name", row.model, names);
    fields.into_map()
}

fn tag(kind: Kind) -> &'static str {
    match kind {
        Kind::Stored => "BlockStored",
        Kind::Removed => "BlockRemoved",
        Kind::Cleared => "AllBlocksCleared",
    }
}

/// Lengths in msgpack have 32 bits; nothing that a plugin may hand over comes near.
fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

// === impl Fields ===

/// Writing to memory cannot fail: the results of `rmp`'s calls say nothing.
impl Fields {
    fn key(&mut self, key: &str) {
        self.count += 1;
        to::write_str(&mut self.bytes, key).ok();
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        to::write_str(&mut self.bytes, text).ok();
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        to::write_uint(&mut self.bytes, value).ok();
    }

    fn list(&mut self, key: &str, values: impl ExactSizeIterator<Item = u64>) {
        self.key(key);
        to::write_array_len(&mut self.bytes, length(values.len())).ok();
        for value in values {
            to::write_uint(&mut self.bytes, value).ok();
        }
    }

    /// A code of the dictionary; 0 is left out.
    fn name(&mut self, key: &str, code: u32, names: &Dictionary) {
        if let Some(name) = names.name(code) {
            self.text(key, &name);
        }
    }

    /// Bigrams are pairs on the wire, and windows of block size + 1 in the columns.
    fn tokens(&mut self, tokens: &[u32], row: &EventRow) {
        if row.flags & flags::BIGRAM == 0 {
            return self.list("token_ids", tokens.iter().map(|token| u64::from(*token)));
        }
        let window = (row.block_size as usize).saturating_add(1);
        let windows = tokens.chunks_exact(window);
        let pairs = windows.len() * (window - 1);
        self.key("token_ids");
        to::write_array_len(&mut self.bytes, length(pairs)).ok();
        for pair in windows.flat_map(|window| window.windows(2)) {
            to::write_array_len(&mut self.bytes, 2).ok();
            for token in pair {
                to::write_uint(&mut self.bytes, u64::from(*token)).ok();
            }
        }
    }

    fn into_map(self) -> Vec<u8> {
        let mut map = Vec::with_capacity(self.bytes.len() + 5);
        to::write_map_len(&mut map, self.count).ok();
        map.extend_from_slice(&self.bytes);
        map
    }
}
