//! Events to msgpack payloads, as releases of engines write them.
//!
//! What a release does not know is left out; a field at its default is omitted
//! from a map, and is a nil in an array. Integers take their shortest form.
//!
//! The field lists are those of the releases' message classes; the captures of
//! real publishers are reproduced byte for byte (a test).

use crate::event::{Event, ExtraKey, Removed, Stored};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

mod pack;
use pack::Pack;

/// Whose messages to imitate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Release {
    /// Arrays; a batch has two elements.
    #[serde(rename = "vllm-0.9.0")]
    Vllm0_9_0,
    /// Arrays; signed hashes.
    #[serde(rename = "vllm-0.9")]
    Vllm0_9,
    /// Arrays; + medium.
    #[serde(rename = "vllm-0.10")]
    Vllm0_10,
    /// Arrays; + adapter name, extra keys, group, what the group caches.
    #[serde(rename = "vllm-0.23")]
    Vllm0_23,
    /// Maps.
    #[default]
    #[serde(rename = "vllm-0.26")]
    Vllm0_26,
    /// Maps whose header is always `map16`.
    #[serde(rename = "vllm-0.33")]
    Vllm0_33,
    /// Arrays of seven; signed hashes.
    #[serde(rename = "sglang-0.5.10")]
    Sglang0_5_10,
    /// Arrays whose eighth element is a map with the salt; signed hashes.
    #[serde(rename = "sglang-0.5.18")]
    Sglang0_5_18,
    /// Maps; signed hashes.
    #[serde(rename = "sglang-0.5.23")]
    Sglang0_5_23,
    /// A map a batch, tokens a list a block.
    #[serde(rename = "aibrix")]
    Aibrix,
}

/// How hashes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashForm {
    /// 64 bits, unsigned.
    Unsigned,
    /// 64 bits, two's complement.
    Signed,
    /// `bin` of 32 bytes, of which the last eight are the hash.
    Bytes,
}

/// How to encode.
///
/// As text: a release's name, or `array` (vLLM 0.23) or `map` (vLLM 0.26); then
/// optionally `+unsigned`, `+signed` or `+bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Style {
    /// Whose messages.
    pub release: Release,
    /// How hashes are written.
    pub hashes: HashForm,
}

/// Every release, with its name.
pub const RELEASES: [(&str, Release); 10] = [
    ("vllm-0.9.0", Release::Vllm0_9_0),
    ("vllm-0.9", Release::Vllm0_9),
    ("vllm-0.10", Release::Vllm0_10),
    ("vllm-0.23", Release::Vllm0_23),
    ("vllm-0.26", Release::Vllm0_26),
    ("vllm-0.33", Release::Vllm0_33),
    ("sglang-0.5.10", Release::Sglang0_5_10),
    ("sglang-0.5.18", Release::Sglang0_5_18),
    ("sglang-0.5.23", Release::Sglang0_5_23),
    ("aibrix", Release::Aibrix),
];

/// Encodes one batch. `ts` is in seconds since 1970; `rank` is the third
/// element, where the release has one.
#[must_use]
pub fn encode_batch(ts: f64, events: &[Event], rank: Option<u32>, style: Style) -> Vec<u8> {
    let mut out = Pack::new(style.hashes);
    if style.release == Release::Aibrix {
        out.map(1);
        out.str("events");
        out.array(events.len());
        for event in events {
            aibrix(&mut out, ts, event);
        }
        return out.into_bytes();
    }
    let two = style.release == Release::Vllm0_9_0;
    out.array(if two { 2 } else { 3 });
    out.float(ts);
    out.array(events.len());
    for event in events {
        if style.is_map() {
            map_event(&mut out, style.release, event);
        } else {
            array_event(&mut out, style.release, event);
        }
    }
    if !two {
        out.opt_uint(rank.map(u64::from));
    }
    out.into_bytes()
}

fn array_event(out: &mut Pack, release: Release, event: &Event) {
    use Release::{Sglang0_5_10, Sglang0_5_18, Vllm0_9, Vllm0_9_0, Vllm0_23};
    let medium = !matches!(release, Vllm0_9_0 | Vllm0_9);
    let groups = release == Vllm0_23;
    match event {
        Event::Stored(e) => {
            let more = match release {
                Vllm0_23 => 5,
                Sglang0_5_18 => 1,
                _ => 0,
            };
            out.array(6 + usize::from(medium) + more);
            out.str("BlockStored");
            out.hashes(&e.hashes);
            out.opt_hash(e.parent);
            out.uints(&e.tokens);
            out.uint(u64::from(e.block_size));
            out.opt_int(e.lora_id);
            if medium {
                out.opt_str(e.medium.as_deref());
            }
            match release {
                Vllm0_23 => {
                    out.opt_str(e.lora_name.as_deref());
                    extra_keys(out, e.extra_keys.as_deref());
                    out.opt_uint(e.group.map(u64::from));
                    out.opt_str(e.spec_kind.as_deref());
                    out.opt_uint(e.sliding_window.map(u64::from));
                }
                Sglang0_5_18 => {
                    out.map(usize::from(e.salt.is_some()));
                    if let Some(salt) = e.salt.as_deref() {
                        out.str("cache_salt");
                        out.str(salt);
                    }
                }
                Sglang0_5_10 | Vllm0_9_0 | Vllm0_9 => {}
                _ => {}
            }
        }
        Event::Removed(e) => {
            out.array(2 + usize::from(medium) + usize::from(groups));
            out.str("BlockRemoved");
            out.hashes(&e.hashes);
            if medium {
                out.opt_str(e.medium.as_deref());
            }
            if groups {
                out.opt_uint(e.group.map(u64::from));
            }
        }
        Event::Cleared => {
            out.array(1);
            out.str("AllBlocksCleared");
        }
    }
}

fn map_event(out: &mut Pack, release: Release, event: &Event) {
    let sglang = release == Release::Sglang0_5_23;
    let header = |out: &mut Pack, fields: usize| match release {
        Release::Vllm0_33 => out.map16(fields),
        _ => out.map(fields),
    };
    match event {
        Event::Stored(e) => {
            let fields = if sglang {
                7 + usize::from(e.salt.is_some()) + usize::from(e.lora_name.is_some())
            } else {
                8 + usize::from(e.extra_keys.is_some())
                    + usize::from(e.group.is_some())
                    + usize::from(e.spec_kind.is_some())
                    + usize::from(e.sliding_window.is_some())
            };
            header(out, fields);
            out.str("type");
            out.str("BlockStored");
            stored_fields(out, e);
            if sglang {
                out.str_field("cache_salt", e.salt.as_deref());
                out.str_field("lora_name", e.lora_name.as_deref());
                return;
            }
            out.str("lora_name");
            out.opt_str(e.lora_name.as_deref());
            if e.extra_keys.is_some() {
                out.str("extra_keys");
                extra_keys(out, e.extra_keys.as_deref());
            }
            out.uint_field("group_idx", e.group);
            out.str_field("kv_cache_spec_kind", e.spec_kind.as_deref());
            out.uint_field("kv_cache_spec_sliding_window", e.sliding_window);
        }
        Event::Removed(Removed {
            hashes,
            medium,
            group,
        }) => {
            let group = group.filter(|_| !sglang);
            header(out, 3 + usize::from(group.is_some()));
            out.str("type");
            out.str("BlockRemoved");
            out.str("block_hashes");
            out.hashes(hashes);
            out.str("medium");
            out.opt_str(medium.as_deref());
            out.uint_field("group_idx", group);
        }
        Event::Cleared => {
            header(out, 1);
            out.str("type");
            out.str("AllBlocksCleared");
        }
    }
}

/// The six fields that every map begins with after its type.
fn stored_fields(out: &mut Pack, e: &Stored) {
    out.str("block_hashes");
    out.hashes(&e.hashes);
    out.str("parent_block_hash");
    out.opt_hash(e.parent);
    out.str("token_ids");
    out.uints(&e.tokens);
    out.str("block_size");
    out.uint(u64::from(e.block_size));
    out.str("lora_id");
    out.opt_int(e.lora_id);
    out.str("medium");
    out.opt_str(e.medium.as_deref());
}

fn extra_keys(out: &mut Pack, keys: Option<&[Option<Vec<ExtraKey>>]>) {
    let Some(blocks) = keys else {
        out.nil();
        return;
    };
    out.array(blocks.len());
    for block in blocks {
        let Some(keys) = block else {
            out.nil();
            continue;
        };
        out.array(keys.len());
        for key in keys {
            match key {
                ExtraKey::Text(text) => out.str(text),
                ExtraKey::Item(id, offset) => {
                    out.array(2);
                    out.str(id);
                    out.int(*offset);
                }
            }
        }
    }
}

fn aibrix(out: &mut Pack, ts: f64, event: &Event) {
    let (tag, hashes): (_, &[u64]) = match event {
        Event::Stored(e) => ("BLOCK_STORED", &e.hashes),
        Event::Removed(e) => ("BLOCK_REMOVED", &e.hashes),
        Event::Cleared => ("ALL_BLOCKS_CLEARED", &[]),
    };
    let stored = match event {
        Event::Stored(e) => Some(e),
        _ => None,
    };
    let parent = stored.and_then(|e| e.parent);
    out.map(3 + usize::from(stored.is_some()) + usize::from(parent.is_some()));
    out.str("type");
    out.str(tag);
    out.str("timestamp");
    out.int(ts as i64);
    out.str("block_hashes");
    out.hashes(hashes);
    if let Some(e) = stored {
        out.str("token_ids");
        let blocks = e.tokens.chunks(e.block_size.max(1) as usize);
        out.array(blocks.len());
        for block in blocks {
            out.uints(block);
        }
    }
    if parent.is_some() {
        out.str("parent_block_hash");
        out.opt_hash(parent);
    }
}

// === impl Style ===

impl Style {
    /// Arrays with every field that arrays ever had.
    pub const ARRAY: Self = Self::of(Release::Vllm0_23);
    /// Maps.
    pub const MAP: Self = Self::of(Release::Vllm0_26);

    /// A release's own style.
    #[must_use]
    pub const fn of(release: Release) -> Self {
        let hashes = match release {
            Release::Vllm0_9_0
            | Release::Vllm0_9
            | Release::Sglang0_5_10
            | Release::Sglang0_5_18
            | Release::Sglang0_5_23 => HashForm::Signed,
            _ => HashForm::Unsigned,
        };
        Self { release, hashes }
    }

    /// True when events are maps.
    #[must_use]
    pub fn is_map(self) -> bool {
        matches!(
            self.release,
            Release::Vllm0_26 | Release::Vllm0_33 | Release::Sglang0_5_23 | Release::Aibrix
        )
    }
}

impl Default for Style {
    fn default() -> Self {
        Self::MAP
    }
}

impl FromStr for Style {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, form) = text.split_once('+').unwrap_or((text, ""));
        let mut style = match name {
            "array" => Self::ARRAY,
            "map" => Self::MAP,
            name => match RELEASES.iter().find(|(known, _)| *known == name) {
                Some((_, release)) => Self::of(*release),
                None => {
                    let names: Vec<&str> = RELEASES.iter().map(|(name, _)| *name).collect();
                    return Err(format!(
                        "{name:?}: expected array, map, {}",
                        names.join(", ")
                    ));
                }
            },
        };
        style.hashes = match form {
            "" => style.hashes,
            "unsigned" => HashForm::Unsigned,
            "signed" => HashForm::Signed,
            "bytes" => HashForm::Bytes,
            other => return Err(format!("{other:?}: expected unsigned, signed or bytes")),
        };
        Ok(style)
    }
}

#[cfg(test)]
mod tests;
