//! A log's payloads as plain events, by way of a tree of values. It knows the
//! formats that the suites publish: arrays and maps of vLLM and SGLang.

use rmpv::Value;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Blocks entered.
    Stored(Stored),
    /// Blocks left.
    Removed {
        /// Engine hashes.
        hashes: Vec<u64>,
        /// Where they were.
        medium: String,
        /// Cache group.
        group: u64,
    },
    /// All is gone.
    Cleared,
}

/// Blocks that entered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Engine hashes, in order.
    pub hashes: Vec<u64>,
    /// Engine hash of the block before the first.
    pub parent: Option<u64>,
    /// Tokens of all blocks.
    pub tokens: Vec<u64>,
    /// Tokens a block.
    pub block_size: u64,
    /// Where they are.
    pub medium: String,
    /// Adapter.
    pub lora: Option<String>,
    /// Cache salt.
    pub salt: Option<String>,
    /// Cache group.
    pub group: u64,
    /// Which blocks carry extra keys.
    pub extra: Vec<bool>,
}

const STORED: [&str; 10] = [
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
];
const REMOVED: [&str; 3] = ["block_hashes", "medium", "group_idx"];

/// The events of a payload.
///
/// # Panics
/// The payload is no batch that the suites publish.
#[must_use]
pub fn events(mut payload: &[u8]) -> Vec<Event> {
    let batch = rmpv::decode::read_value(&mut payload).expect("a log holds msgpack");
    let events = batch[1]
        .as_array()
        .expect("a batch's second element is a list");
    events.iter().map(event).collect()
}

fn event(value: &Value) -> Event {
    let array = value.as_array();
    let tag = array.map_or_else(|| value["type"].as_str(), |a| a[0].as_str());
    let names: &[&str] = if tag == Some("BlockRemoved") {
        &REMOVED
    } else {
        &STORED
    };
    let field = |name: &str| match array {
        None => value[name].clone(),
        Some(array) => {
            let at = names.iter().position(|n| *n == name);
            at.and_then(|at| array.get(at + 1))
                .cloned()
                .unwrap_or(Value::Nil)
        }
    };
    let hashes = || list(&field("block_hashes")).iter().map(hash).collect();
    let medium = field("medium").as_str().unwrap_or("").to_ascii_lowercase();
    let group = field("group_idx").as_u64().unwrap_or(0);
    match tag {
        Some("BlockStored") => {
            let hashes: Vec<u64> = hashes();
            let parent = field("parent_block_hash");
            let lora = field("lora_name").as_str().map(str::to_string);
            let extra = list(&field("extra_keys"));
            let own = lora.clone();
            Event::Stored(Stored {
                parent: (!parent.is_nil()).then(|| hash(&parent)),
                tokens: list(&field("token_ids"))
                    .iter()
                    .filter_map(Value::as_u64)
                    .collect(),
                block_size: field("block_size").as_u64().unwrap_or(0),
                lora: lora.or_else(|| field("lora_id").as_u64().map(|n| n.to_string())),
                salt: field("cache_salt").as_str().map(str::to_string),
                extra: (0..hashes.len())
                    .map(|i| {
                        extra
                            .get(i)
                            .is_some_and(|keys| has_keys(keys, own.as_deref()))
                    })
                    .collect(),
                hashes,
                medium,
                group,
            })
        }
        Some("BlockRemoved") => Event::Removed {
            hashes: hashes(),
            medium,
            group,
        },
        Some("AllBlocksCleared") => Event::Cleared,
        other => panic!("the suites publish no {other:?}"),
    }
}

/// Extra keys beside the adapter's own name.
fn has_keys(keys: &Value, adapter: Option<&str>) -> bool {
    list(keys)
        .iter()
        .any(|key| key.as_str().is_none() || key.as_str() != adapter)
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// Low 64 bits: integers in two's complement, bytes by their last eight.
fn hash(value: &Value) -> u64 {
    match value {
        Value::Binary(bytes) => {
            let last = bytes.iter().rev().take(8);
            last.enumerate()
                .fold(0, |all, (i, byte)| all | u64::from(*byte) << (8 * i))
        }
        _ => value
            .as_u64()
            .or_else(|| value.as_i64().map(i64::cast_unsigned))
            .expect("a hash is a number or bytes"),
    }
}
