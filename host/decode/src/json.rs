//! Batches as JSON, one object an event, in the payload's order: what
//! `penstock decode` prints. It goes through the same decoder as the daemon, with
//! every column, and makes no attempt to be fast.
//!
//! ```text
//! {"seq":0,"kind":"stored","hashes":["7"],"parent":null,"tokens":[1,2],
//!  "block_size":2,"medium":"gpu","lora":null,"group":null,...}
//! {"seq":0,"kind":"removed","hashes":["7"],"medium":"gpu","group":null,...}
//! {"seq":0,"kind":"cleared",...}
//! {"seq":0,"kind":"error","error":"unknown_tag","event":3}
//! ```
//! Hashes are decimal strings, since JSON's readers round numbers above 2^53.

use crate::{Decoder, Limits};
use penstock_event::{ColumnSet, Columns, Dictionary, EventRow, Kind, Medium, Skipped, flags};
use serde_json::{Map, Value, json};

/// Turns one source's payloads into JSON.
#[derive(Debug, Default)]
pub struct Renderer {
    decoder: Decoder,
    dictionary: Dictionary,
    columns: Columns,
    skipped: Vec<Skipped>,
}

// === impl Renderer ===

impl Renderer {
    /// A renderer with the given limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            decoder: Decoder::new(limits),
            ..Self::default()
        }
    }

    /// The events of one payload, bad ones as objects of kind `error` in their
    /// place. A payload that cannot be decoded at all gives one such object.
    pub fn lines(&mut self, sequence: u64, payload: &[u8]) -> Vec<Value> {
        let decoded = self.decoder.decode(
            payload,
            ColumnSet::ALL,
            &self.dictionary,
            &mut self.columns,
            &mut self.skipped,
        );
        let head = match decoded {
            Ok(head) => head,
            Err(e) => {
                return vec![json!({
                    "seq": sequence, "kind": "error", "error": e.code(), "detail": e.to_string(),
                })];
            }
        };
        let mut lines = Vec::with_capacity(self.columns.len() + self.skipped.len());
        let mut skipped = self.skipped.iter().peekable();
        let mut good = 0..self.columns.len();
        // Events are counted over the payload: those skipped take their numbers.
        for event in 0u32.. {
            if let Some(bad) = skipped.next_if(|bad| bad.event == event) {
                lines.push(json!({
                    "seq": sequence, "kind": "error", "error": bad.code, "event": event,
                    "lost": bad.lost,
                }));
            } else if let Some(i) = good.next() {
                lines.push(self.event(sequence, head.rank, i));
            } else {
                break;
            }
        }
        lines
    }

    fn event(&self, sequence: u64, rank: Option<u32>, i: usize) -> Value {
        let row = self.columns.event(i);
        let mut line = Map::new();
        let mut put = |key: &str, value: Value| line.insert(key.into(), value);
        put("seq", sequence.into());
        put("kind", kind(row.kind).into());
        if row.kind != Kind::Cleared {
            let blocks = self.columns.blocks(i);
            put("hashes", decimals(&self.columns.hashes[blocks]));
        }
        if row.kind == Kind::Stored {
            let parent = has(row, flags::PARENT).then(|| self.columns.parents[i].to_string());
            put("parent", parent.into());
            put("tokens", self.columns.tokens_of(i).into());
            put("block_size", row.block_size.into());
        }
        if row.kind != Kind::Cleared {
            put("medium", row.medium.name().into());
            put("group", has(row, flags::GROUP).then_some(row.group).into());
        }
        if row.kind == Kind::Stored {
            put("lora", self.name(row.adapter));
            put("salt", self.name(row.salt));
            let blocks = self.columns.blocks(i);
            if has(row, flags::TOKEN_HASHES) {
                let hashes = &self.columns.token_hashes[blocks.clone()];
                put("token_hashes", decimals(hashes));
            }
            if has(row, flags::EXTRA_KEYS) {
                put(
                    "extra_digests",
                    decimals(&self.columns.extra_digests[blocks]),
                );
            }
            if has(row, flags::BIGRAM) {
                put("bigram", true.into());
            }
        }
        if row.medium == Medium::Unknown {
            put("medium_name", self.name(row.medium_name));
        }
        if has(row, flags::REMOTE) {
            put("remote", true.into());
        }
        if row.model != 0 {
            put("model", self.name(row.model));
        }
        if has(row, flags::TIME) {
            put("time_us", self.columns.times[i].into());
        }
        if let Some(rank) = rank {
            put("rank", rank.into());
        }
        Value::Object(line)
    }

    /// The name of a code; null for none.
    fn name(&self, code: u32) -> Value {
        self.dictionary
            .name(code)
            .map_or(Value::Null, |name| Value::from(&*name))
    }
}

fn has(row: EventRow, flag: u32) -> bool {
    row.flags & flag != 0
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Stored => "stored",
        Kind::Removed => "removed",
        Kind::Cleared => "cleared",
    }
}

fn decimals(hashes: &[u64]) -> Value {
    hashes.iter().map(u64::to_string).collect()
}
