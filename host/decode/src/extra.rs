//! Extra keys: what a block's identity holds beside its tokens.
//!
//! `extra_keys` (vLLM) and `mm_keys` (TensorRT-LLM) hold one entry a block: nil,
//! or a list of strings (adapter, salt, digests) and of `[image, offset]`. The
//! adapter's and the salt's own names are no extra keys where the event carries
//! them: the token seed tells those apart already. Anything else makes a digest,
//! so that the block never answers a query by tokens alone.

use crate::fields::Fields;
use crate::reader::{Int, Reader, Value};
use crate::{DecodeError, Field};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The entries of an event's blocks, read one block after the other.
pub(crate) struct ExtraKeys<'p, 'f> {
    fields: &'f Fields<'p>,
    lists: [List<'p>; 2],
}

/// One of the two fields.
enum List<'p> {
    /// It says nothing.
    Empty,
    /// An entry a block; the reader stands at the next block's.
    ByBlock(Reader<'p>),
    /// Whose keys these are cannot be told: every block gets this digest.
    All(u64),
}

// === impl ExtraKeys ===

impl<'p, 'f> ExtraKeys<'p, 'f> {
    /// The keys of an event of `blocks` blocks; none when it has no such keys.
    pub(crate) fn new(
        payload: Reader<'p>,
        fields: &'f Fields<'p>,
        blocks: usize,
    ) -> Result<Option<Self>, DecodeError> {
        let open = |at: Option<usize>, seed| match at {
            Some(at) => List::open(payload, fields, at, blocks, seed),
            None => Ok(List::Empty),
        };
        let lists = [open(fields.extra_keys, 0)?, open(fields.mm_keys, 1)?];
        if lists.iter().all(|list| matches!(list, List::Empty)) {
            return Ok(None);
        }
        Ok(Some(Self { fields, lists }))
    }

    /// The digest of the next block's keys, 0 without any. The hashes of its
    /// images, sorted, are left in `images`.
    pub(crate) fn next(&mut self, images: &mut Vec<u64>) -> Result<u64, DecodeError> {
        images.clear();
        let mut digest = 0u64;
        for (seed, list) in (0u64..).zip(&mut self.lists) {
            let add = match list {
                List::Empty => 0,
                List::All(digest) => *digest,
                List::ByBlock(reader) => {
                    let start = reader.at();
                    if entry(reader, self.fields, images)? {
                        digest_of(reader.between(start, reader.at()), seed)
                    } else {
                        0
                    }
                }
            };
            // Should two digests cancel out, one of them stands for both.
            digest = match digest.wrapping_add(add) {
                0 => add,
                sum => sum,
            };
        }
        images.sort_unstable();
        Ok(digest)
    }
}

/// Never 0, which stands for no keys.
fn digest_of(raw: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(raw, seed).max(1)
}

// === impl List ===

impl<'p> List<'p> {
    fn open(
        payload: Reader<'p>,
        fields: &Fields<'p>,
        at: usize,
        blocks: usize,
        seed: u64,
    ) -> Result<Self, DecodeError> {
        let mut reader = payload;
        reader.seek(at);
        let Value::Array(entries) = reader.value()? else {
            let field = Field::ExtraKeys;
            return Err(DecodeError::Bad { field, at });
        };
        if entries == blocks && entry_per_block(reader, entries)? {
            return Ok(Self::ByBlock(reader));
        }
        reader.seek(at);
        let mut images = Vec::new();
        if entry(&mut reader, fields, &mut images)? {
            let raw = reader.between(at, reader.at());
            return Ok(Self::All(digest_of(raw, seed)));
        }
        Ok(Self::Empty)
    }
}

/// False for a flat list of keys that happens to be as long as there are blocks:
/// entries are nil or lists.
fn entry_per_block(mut reader: Reader<'_>, entries: usize) -> Result<bool, DecodeError> {
    for _ in 0..entries {
        if !matches!(reader.peek(), Some(0xc0 | 0x90..=0x9f | 0xdc | 0xdd)) {
            return Ok(false);
        }
        reader.skip_any()?;
    }
    Ok(true)
}

/// Reads one entry; true if it holds a key that counts.
fn entry<'p>(
    r: &mut Reader<'p>,
    fields: &Fields<'p>,
    images: &mut Vec<u64>,
) -> Result<bool, DecodeError> {
    let at = r.at();
    let count = match r.value()? {
        Value::Nil => return Ok(false),
        Value::Array(count) => count,
        _ => {
            let field = Field::ExtraKeys;
            return Err(DecodeError::Bad { field, at });
        }
    };
    let mut counts = false;
    for _ in 0..count {
        let at = r.at();
        counts |= match r.value()? {
            Value::Nil => false,
            Value::Str(text) => {
                if text.len() == 64 {
                    images.extend(image(Value::Str(text)));
                }
                !fields.adapter().is_named(text) && fields.salt.map(|s| s.0) != Some(text)
            }
            Value::Int(v) => fields.lora_id != Some(v),
            // `[image, offset]`, or an entry for all blocks: lists within the list.
            Value::Array(n) => {
                if n > 0 {
                    images.extend(image(r.value()?));
                }
                r.seek(at);
                r.skip_any()?;
                n > 0
            }
            Value::Map(n) => {
                images.extend(image_of_map(r, n)?);
                true
            }
            _ => true,
        };
    }
    Ok(counts)
}

/// TensorRT-LLM's `{"hash": ..., "start_offset": ...}`.
fn image_of_map(r: &mut Reader<'_>, pairs: usize) -> Result<Option<u64>, DecodeError> {
    let mut found = None;
    for _ in 0..pairs {
        let at = r.at();
        let key = r.value()?;
        r.seek(at);
        r.skip_any()?;
        let at = r.at();
        if key == Value::Str(b"hash") {
            found = image(r.value()?);
        }
        r.seek(at);
        r.skip_any()?;
    }
    Ok(found)
}

/// An image's hash: a number, or the first 16 digits of a hexadecimal string.
fn image(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Int(Int::Pos(v)) => Some(v),
        Value::Int(Int::Neg(v)) => Some(v as u64),
        Value::Str(text) if !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit) => {
            let digits = text.get(..16).unwrap_or(text);
            u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        }
        _ => None,
    }
}
