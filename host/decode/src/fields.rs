//! One event's fields, wherever they stand in it.
//!
//! Old releases send arrays, whose fields are told by position; newer ones send
//! maps, whose keys come in any order. Hashes and tokens go into the columns as
//! they are met; what depends on other fields is settled by [`crate::event`] once
//! all were read. Unknown keys and further elements are skipped.

use crate::hashes::{self, Whole};
use crate::names::Adapter;
use crate::reader::{Int, NIL, Reader, Value};
use crate::tokens::{self, Shape};
use crate::{DecodeError, Field, time};
use penstock_event::Kind;

/// A string of the payload and its offset.
pub(crate) type Text<'p> = (&'p [u8], usize);

/// The medium as sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RawMedium<'p> {
    /// By name.
    Name(Text<'p>),
    /// By a number that no known engine sends.
    Number(Int),
}

/// What an event says, beside its hashes and tokens.
#[derive(Debug, Default)]
pub(crate) struct Fields<'p> {
    pub kind: Option<Kind>,
    /// The hashes were there.
    pub hashes: bool,
    pub parent: Option<u64>,
    pub tokens: Shape,
    pub block_size: Option<u32>,
    pub lora_id: Option<Int>,
    pub lora_name: Option<Text<'p>>,
    pub medium: Option<RawMedium<'p>>,
    /// Offset of `extra_keys`, unless nil.
    pub extra_keys: Option<usize>,
    /// Offset of `mm_keys`, unless nil.
    pub mm_keys: Option<usize>,
    pub group: Option<u32>,
    pub remote: bool,
    pub salt: Option<Text<'p>>,
    pub model: Option<Text<'p>>,
    pub time: Option<i64>,
}

/// Where an event's hashes and tokens go, and how many may still come.
pub(crate) struct Lists<'a> {
    /// Hashes of the batch.
    pub hashes: &'a mut Vec<u64>,
    /// Whole hashes, when wanted.
    pub whole: Option<(&'a mut Vec<u8>, &'a mut Vec<u32>)>,
    /// Tokens.
    pub tokens: &'a mut Vec<u32>,
    /// Lengths of all these when the event began.
    pub start: [usize; 4],
    /// Blocks that the event may have.
    pub blocks_left: usize,
    /// Tokens that the event may have.
    pub tokens_left: usize,
}

// === impl Lists ===

impl Lists<'_> {
    fn read_hashes(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        let [blocks, bytes, ends, _] = self.start;
        // A key may come twice: the last one counts.
        self.hashes.truncate(blocks);
        let whole = self.whole.as_mut().map(|(all, all_ends)| {
            all.truncate(bytes);
            all_ends.truncate(ends);
            Whole {
                bytes: all,
                ends: all_ends,
            }
        });
        hashes::read_list(r, self.hashes, whole, self.blocks_left)
    }

    fn read_tokens(&mut self, r: &mut Reader<'_>) -> Result<Shape, DecodeError> {
        self.tokens.truncate(self.start[3]);
        tokens::read_list(r, self.tokens, self.tokens_left)
    }
}

// === impl Fields ===

impl<'p> Fields<'p> {
    /// Reads the event at the reader to its end.
    pub(crate) fn read(
        &mut self,
        r: &mut Reader<'p>,
        lists: &mut Lists<'_>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let at = r.at();
        match r.value()? {
            Value::Array(count) => self.read_array(r, lists, depth, at, count),
            Value::Map(count) => self.read_map(r, lists, depth, at, count),
            _ => Err(DecodeError::NotAnEvent { at }),
        }
    }

    /// The adapter: its name, or else its number.
    pub(crate) fn adapter(&self) -> Adapter<'p> {
        match (self.lora_name, self.lora_id) {
            (Some((name, _)), _) => Adapter::Name(name),
            (_, Some(id)) => Adapter::Id(id),
            _ => Adapter::None,
        }
    }

    /// An empty name names nothing.
    fn name_adapter(&mut self, name: &'p [u8], at: usize) {
        if !name.is_empty() {
            self.lora_name = Some((name, at));
        }
    }

    fn read_array(
        &mut self,
        r: &mut Reader<'p>,
        lists: &mut Lists<'_>,
        depth: usize,
        at: usize,
        count: usize,
    ) -> Result<(), DecodeError> {
        let missing = |field| DecodeError::Missing { field, at };
        if count == 0 {
            return Err(missing(Field::Tag));
        }
        let tag_at = r.at();
        let Value::Str(tag) = r.value()? else {
            return Err(bad(Field::Tag, tag_at));
        };
        let kind = kind(tag, at)?;
        self.kind = Some(kind);
        let order: &[Key] = match kind {
            Kind::Stored => &STORED,
            Kind::Removed => &REMOVED,
            Kind::Cleared => &[],
        };
        for i in 0..count - 1 {
            match order.get(i) {
                Some(key) => self.read_field(*key, r, lists, depth)?,
                None => r.skip(depth)?,
            }
        }
        // Every release sends at least these.
        if kind == Kind::Stored && count <= BLOCK_SIZE_AT && self.hashes {
            let field = if count < BLOCK_SIZE_AT {
                Field::Tokens
            } else {
                Field::BlockSize
            };
            return Err(missing(field));
        }
        Ok(())
    }

    fn read_map(
        &mut self,
        r: &mut Reader<'p>,
        lists: &mut Lists<'_>,
        depth: usize,
        at: usize,
        count: usize,
    ) -> Result<(), DecodeError> {
        let mut unknown = None;
        for _ in 0..count {
            match r.key(depth)?.and_then(Key::of) {
                // Mooncake sends both of its two names for the tag.
                Some(Key::Tag) => {
                    let tag_at = r.at();
                    match r.value()? {
                        Value::Str(tag) => match kind(tag, at) {
                            Ok(kind) => self.kind = Some(kind),
                            Err(e) => unknown = Some(e),
                        },
                        _ => {
                            unknown.get_or_insert(bad(Field::Tag, tag_at));
                            r.seek(tag_at);
                            r.skip(depth)?;
                        }
                    }
                }
                Some(key) => self.read_field(key, r, lists, depth)?,
                None => r.skip(depth)?,
            }
        }
        match (self.kind, unknown) {
            (None, Some(e)) => Err(e),
            (None, None) => {
                let field = Field::Tag;
                Err(DecodeError::Missing { field, at })
            }
            (Some(_), _) => Ok(()),
        }
    }

    fn read_field(
        &mut self,
        key: Key,
        r: &mut Reader<'p>,
        lists: &mut Lists<'_>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let at = r.at();
        match key {
            Key::Tag => r.skip(depth)?,
            Key::Hashes => {
                lists.read_hashes(r)?;
                self.hashes = true;
            }
            Key::Parent => {
                self.parent = match r.peek() {
                    Some(NIL) => {
                        r.skip(depth)?;
                        None
                    }
                    _ => Some(hashes::read(r, Field::Parent)?.id),
                }
            }
            Key::Tokens => self.tokens = lists.read_tokens(r)?,
            Key::BlockSize => self.block_size = number(r, Field::BlockSize)?,
            Key::LoraId => match r.value()? {
                Value::Nil => self.lora_id = None,
                Value::Int(id) => self.lora_id = Some(id),
                // An engine that calls its adapters by name here.
                Value::Str(name) if self.lora_name.is_none() => self.name_adapter(name, at),
                Value::Str(_) => {}
                _ => return Err(bad(Field::Adapter, at)),
            },
            Key::LoraName => match r.value()? {
                Value::Nil => {}
                Value::Str(name) => self.name_adapter(name, at),
                // SGLang 0.5.18 and 0.5.19 put a map of further fields here.
                Value::Map(count) => self.read_tail(r, lists, depth, count)?,
                _ => return Err(bad(Field::Adapter, at)),
            },
            Key::Medium => {
                self.medium = match r.value()? {
                    Value::Nil => None,
                    Value::Str([]) => None,
                    Value::Str(name) => Some(RawMedium::Name((name, at))),
                    Value::Int(number) => Some(RawMedium::Number(number)),
                    _ => return Err(bad(Field::Medium, at)),
                }
            }
            Key::ExtraKeys => self.extra_keys = offset(r, depth)?,
            Key::MmKeys => self.mm_keys = offset(r, depth)?,
            Key::Group => self.group = number(r, Field::Group)?,
            Key::Locality => {
                self.remote = match r.value()? {
                    Value::Str(text) => text.eq_ignore_ascii_case(b"REMOTE"),
                    _ => {
                        r.seek(at);
                        r.skip(depth)?;
                        false
                    }
                }
            }
            Key::Salt => self.salt = text(r, Field::Salt)?,
            Key::Model => self.model = text(r, Field::Model)?,
            Key::Time => {
                self.time = match r.value()? {
                    Value::Nil => None,
                    value => Some(time::micros(value).ok_or(bad(Field::Time, at))?),
                }
            }
            Key::Other => r.skip(depth)?,
        }
        Ok(())
    }

    /// The map in place of a name.
    fn read_tail(
        &mut self,
        r: &mut Reader<'p>,
        lists: &mut Lists<'_>,
        depth: usize,
        count: usize,
    ) -> Result<(), DecodeError> {
        for _ in 0..count {
            let key = r.key(depth)?.and_then(Key::of);
            let value_at = r.at();
            match (key, r.peek()) {
                (Some(Key::Salt), _) => self.read_field(Key::Salt, r, lists, depth)?,
                // No second map within: this does not recurse further.
                (Some(Key::LoraName), Some(0xa0..=0xbf | 0xd9..=0xdb)) => {
                    self.read_field(Key::LoraName, r, lists, depth)?;
                }
                _ => {
                    r.seek(value_at);
                    r.skip(depth)?;
                }
            }
        }
        Ok(())
    }
}

fn bad(field: Field, at: usize) -> DecodeError {
    DecodeError::Bad { field, at }
}

/// A number of 32 bits, or nil.
fn number(r: &mut Reader<'_>, field: Field) -> Result<Option<u32>, DecodeError> {
    let at = r.at();
    match r.value()? {
        Value::Nil => Ok(None),
        Value::Int(v) => v.to_u32().map(Some).ok_or(bad(field, at)),
        _ => Err(bad(field, at)),
    }
}

/// A string, or nil.
fn text<'p>(r: &mut Reader<'p>, field: Field) -> Result<Option<Text<'p>>, DecodeError> {
    let at = r.at();
    match r.value()? {
        Value::Nil => Ok(None),
        Value::Str(text) => Ok(Some((text, at))),
        _ => Err(bad(field, at)),
    }
}

/// The offset of a list that is read later, unless nil or full of nils.
fn offset(r: &mut Reader<'_>, depth: usize) -> Result<Option<usize>, DecodeError> {
    let at = r.at();
    if r.skip_nils()? {
        return Ok(None);
    }
    let nil = r.peek() == Some(NIL);
    r.skip(depth)?;
    Ok((!nil).then_some(at))
}

/// The kind of the event at the reader, by its tag alone.
#[cold]
pub(crate) fn kind_of(mut r: Reader<'_>) -> Result<Kind, DecodeError> {
    let at = r.at();
    let missing = DecodeError::Missing {
        field: Field::Tag,
        at,
    };
    let mut found = Err(missing);
    match r.value()? {
        Value::Array(count) if count > 0 => {
            let tag_at = r.at();
            let Value::Str(tag) = r.value()? else {
                return Err(bad(Field::Tag, tag_at));
            };
            kind(tag, at)
        }
        Value::Map(count) => {
            for _ in 0..count {
                let key_at = r.at();
                let key = r.value()?;
                r.seek(key_at);
                r.skip_any()?;
                let value_at = r.at();
                if matches!(key, Value::Str(name) if Key::of(name) == Some(Key::Tag)) {
                    let this = match r.value()? {
                        Value::Str(tag) => kind(tag, at),
                        _ => Err(bad(Field::Tag, value_at)),
                    };
                    if found.is_err() {
                        found = this;
                    }
                }
                r.seek(value_at);
                r.skip_any()?;
            }
            found
        }
        Value::Array(_) => found,
        _ => Err(DecodeError::NotAnEvent { at }),
    }
}

/// The kind of a tag. `at` is the event's offset.
fn kind(tag: &[u8], at: usize) -> Result<Kind, DecodeError> {
    match tag {
        b"BlockStored" | b"BLOCK_STORED" => Ok(Kind::Stored),
        b"BlockRemoved" | b"BLOCK_REMOVED" => Ok(Kind::Removed),
        b"AllBlocksCleared" | b"ALL_BLOCKS_CLEARED" => Ok(Kind::Cleared),
        b"Ignored" => Err(DecodeError::Ignored { at }),
        _ => Err(DecodeError::UnknownTag { at }),
    }
}

/// A field that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Tag,
    Hashes,
    Parent,
    Tokens,
    BlockSize,
    LoraId,
    LoraName,
    Medium,
    ExtraKeys,
    MmKeys,
    Group,
    Locality,
    Salt,
    Model,
    Time,
    /// Known, but of no use here.
    Other,
}

/// Fields of a stored event after its tag, by position.
const STORED: [Key; 12] = [
    Key::Hashes,
    Key::Parent,
    Key::Tokens,
    Key::BlockSize,
    Key::LoraId,
    Key::Medium,
    Key::LoraName,
    Key::ExtraKeys,
    Key::Group,
    Key::Other, // kv_cache_spec_kind
    Key::Other, // kv_cache_spec_sliding_window
    Key::Locality,
];

/// Where the block size stands in a stored event, the tag being 0.
const BLOCK_SIZE_AT: usize = 4;

/// Fields of a removed event after its tag, by position.
const REMOVED: [Key; 4] = [Key::Hashes, Key::Medium, Key::Group, Key::Locality];

// === impl Key ===

impl Key {
    #[inline]
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"type" | b"event_type" => Self::Tag,
            b"block_hashes" => Self::Hashes,
            b"parent_block_hash" => Self::Parent,
            b"token_ids" => Self::Tokens,
            b"block_size" => Self::BlockSize,
            b"lora_id" => Self::LoraId,
            b"lora_name" => Self::LoraName,
            b"medium" => Self::Medium,
            b"extra_keys" => Self::ExtraKeys,
            b"mm_keys" => Self::MmKeys,
            b"group_idx" => Self::Group,
            b"locality" => Self::Locality,
            b"cache_salt" => Self::Salt,
            b"model_name" => Self::Model,
            b"timestamp" => Self::Time,
            _ => return None,
        })
    }
}
