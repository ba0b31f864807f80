//! A lookup as it comes over either door, and what is wrong with it if anything.
//!
//! One set of fields for JSON and msgpack. Wrong types are answered with the
//! place and what is expected there: `token_ids[3]: invalid type: string "a",
//! expected an unsigned 32-bit integer`. Unknown fields are ignored, so that
//! clients written for Dynamo's indexer work as they are.

use crate::msgpack::{id_of, keys_are_text};
use crate::{DoorsConfig, ErrorBody};
use penstock_event::{By, Query};
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// How a body is written. The reply is written the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Msgpack,
}

/// What a request wants. HTTP says it by the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Op {
    #[default]
    Query,
    QueryByHash,
    Health,
}

/// Which hashes `block_hashes` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub(crate) enum HashKind {
    /// Over the block's tokens, Dynamo's local hashes.
    #[default]
    Token,
    /// The engine's own.
    Engine,
}

/// The fields of a request. `I` is the id: raw for ZeroMQ, ignored for HTTP.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "I: Deserialize<'de> + Default"))]
pub(crate) struct Request<I> {
    #[serde(default)]
    id: I,
    #[serde(default)]
    op: Op,
    #[serde(default)]
    token_ids: Option<List<u32>>,
    #[serde(default)]
    block_hashes: Option<List<u64>>,
    #[serde(default)]
    hashes: HashKind,
    #[serde(default)]
    model_name: Option<String>,
    #[serde(default)]
    lora_name: Option<String>,
    #[serde(default)]
    cache_salt: Option<String>,
    #[serde(default)]
    plugin: Option<String>,
    #[serde(default)]
    deadline_ms: Option<u64>,
    #[serde(default)]
    include_stale: bool,
}

/// A lookup that may be asked.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub plugin: Option<String>,
    pub query: Query,
}

/// A ZeroMQ body, read as far as it can be.
pub(crate) struct Incoming {
    pub encoding: Encoding,
    /// The raw value of `id`.
    pub id: Option<Vec<u8>>,
    pub asked: Result<Asked, ErrorBody>,
}

/// What a ZeroMQ client wants.
#[derive(Debug)]
pub(crate) enum Asked {
    Health,
    Lookup(Lookup),
}

/// Levels of nesting in a msgpack body; a request needs two.
const MAX_DEPTH: usize = 32;

/// Elements reserved on a list's own word before any has come.
const MAX_RESERVE: usize = 1 << 16;

// Only text names them: msgpack would take a variant's number as well.

impl TryFrom<String> for Op {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "query" => Ok(Self::Query),
            "query_by_hash" => Ok(Self::QueryByHash),
            "health" => Ok(Self::Health),
            _ => Err(format!(
                "unknown variant `{name}`, expected one of `query`, `query_by_hash`, `health`"
            )),
        }
    }
}

impl TryFrom<String> for HashKind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "token" => Ok(Self::Token),
            "engine" => Ok(Self::Engine),
            _ => Err(format!(
                "unknown variant `{name}`, expected `token` or `engine`"
            )),
        }
    }
}

// === impl Encoding ===

impl Encoding {
    /// JSON begins with a brace, msgpack with the head of a map.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        match body.trim_ascii_start().first() {
            Some(b'{') => Some(Self::Json),
            _ => match body.first() {
                Some(0x80..=0x8f | 0xde | 0xdf) => Some(Self::Msgpack),
                _ => None,
            },
        }
    }
}

// === impl Incoming ===

impl Incoming {
    /// Reads a body. The id is found in a bad request too, where that can be.
    pub(crate) fn read(body: &[u8], config: &DoorsConfig) -> Self {
        let Some(encoding) = Encoding::of(body) else {
            return Self {
                encoding: Encoding::Json,
                id: None,
                asked: Err(ErrorBody::bad("expected a JSON object or a msgpack map")),
            };
        };
        let raw_id = || id_of(encoding, body).map(<[u8]>::to_vec);
        let (id, asked) = match encoding {
            Encoding::Json => match Request::from_json_with_id(body) {
                Ok(mut request) => {
                    let id = request.id.take().map(|raw| raw.get().as_bytes().to_vec());
                    (id, request.into_asked(config))
                }
                Err(error) => (raw_id(), Err(error)),
            },
            Encoding::Msgpack => {
                let request = Request::from_msgpack(body);
                (raw_id(), request.and_then(|r| r.into_asked(config)))
            }
        };
        Self {
            encoding,
            id,
            asked,
        }
    }
}

// === impl Request ===

impl Request<IgnoredAny> {
    /// Reads an HTTP body.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, ErrorBody> {
        from_json(body)
    }

    /// Reads a msgpack body; the id is found by other means.
    pub(crate) fn from_msgpack(body: &[u8]) -> Result<Self, ErrorBody> {
        if !keys_are_text(body) {
            return Err(ErrorBody::bad("expected a map whose keys are text"));
        }
        let read = |body| {
            let mut reader = rmp_serde::Deserializer::from_read_ref(body);
            reader.set_max_depth(MAX_DEPTH);
            reader
        };
        let mut reader = read(body);
        match Self::deserialize(&mut reader) {
            Ok(request) => Ok(request),
            Err(_) => {
                let mut reader = read(body);
                let place = serde_path_to_error::deserialize::<_, Self>(&mut reader);
                Err(explain(
                    place
                        .err()
                        .map(|e| located(e.path(), &e.inner().to_string())),
                ))
            }
        }
    }
}

impl<'a> Request<Option<&'a RawValue>> {
    /// Reads a JSON body and keeps the id as it stands.
    pub(crate) fn from_json_with_id(body: &'a [u8]) -> Result<Self, ErrorBody> {
        match serde_json::from_slice(body) {
            Ok(request) => Ok(request),
            Err(_) => Err(Request::from_json(body)
                .err()
                .unwrap_or_else(|| explain(None))),
        }
    }
}

impl<I> Request<I> {
    fn into_asked(self, config: &DoorsConfig) -> Result<Asked, ErrorBody> {
        match self.op {
            Op::Health => Ok(Asked::Health),
            op => self.into_lookup(op, config).map(Asked::Lookup),
        }
    }

    /// Checks the fields against each other.
    pub(crate) fn into_lookup(self, op: Op, config: &DoorsConfig) -> Result<Lookup, ErrorBody> {
        let by = match (op, self.token_ids, self.block_hashes, self.hashes) {
            (Op::Query, Some(tokens), ..) => By::Tokens(tokens.0.into()),
            (Op::Query, None, ..) => {
                return Err(ErrorBody::bad(
                    "token_ids: missing; expected a list of unsigned 32-bit integers",
                ));
            }
            (_, _, Some(hashes), HashKind::Token) => By::TokenHashes(hashes.0.into()),
            (_, _, Some(hashes), HashKind::Engine) => By::EngineHashes(hashes.0.into()),
            (_, _, None, _) => {
                return Err(ErrorBody::bad(
                    "block_hashes: missing; expected a list of 64-bit integers",
                ));
            }
        };
        let Some(model) = self.model_name else {
            return Err(ErrorBody::bad(
                "model_name: missing; expected a string, empty for sources without a model",
            ));
        };
        let ms = self.deadline_ms.unwrap_or(config.deadline_ms);
        if !(1..=config.max_deadline_ms).contains(&ms) {
            return Err(ErrorBody::bad(format!(
                "deadline_ms: expected 1 to {}, found {ms}",
                config.max_deadline_ms
            )));
        }
        Ok(Lookup {
            plugin: self.plugin,
            query: Query {
                model,
                adapter: self.lora_name.unwrap_or_default(),
                salt: self.cache_salt.unwrap_or_default(),
                by,
                deadline: Duration::from_millis(ms),
                include_stale: self.include_stale,
            },
        })
    }
}

/// Reads a JSON object; an error names the place. The first reading keeps no
/// path, since that costs time for each token.
pub(crate) fn from_json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ErrorBody> {
    if Encoding::of(body) != Some(Encoding::Json) {
        return Err(ErrorBody::bad("expected a JSON object"));
    }
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(first) => {
            let mut reader = serde_json::Deserializer::from_slice(body);
            let place = serde_path_to_error::deserialize::<_, T>(&mut reader)
                .err()
                .map(|e| located(e.path(), &e.inner().to_string()));
            Err(explain(Some(place.unwrap_or_else(|| first.to_string()))))
        }
    }
}

fn located(path: &serde_path_to_error::Path, why: &str) -> String {
    if path.iter().next().is_none() {
        why.to_owned()
    } else {
        format!("{path}: {why}")
    }
}

fn explain(why: Option<String>) -> ErrorBody {
    ErrorBody::bad(why.unwrap_or_else(|| "the request cannot be read".to_owned()))
}

// === lists of numbers ===

/// A list of numbers, or msgpack bin of little-endian numbers.
#[derive(Debug)]
struct List<T>(Vec<T>);

/// A number in a list: from an integer, and what else is taken for one.
trait Element: Copy {
    const EXPECTED: &'static str;
    const LIST: &'static str;
    fn unsigned(n: u64) -> Option<Self>;
    fn signed(n: i64) -> Option<Self>;
    fn text(_: &str) -> Option<Self> {
        None
    }
    fn bytes(_: &[u8]) -> Option<Self> {
        None
    }
    fn from_le(bytes: &[u8]) -> Option<Vec<Self>>;
}

impl Element for u32 {
    const EXPECTED: &'static str = "an unsigned 32-bit integer";
    const LIST: &'static str = "a list of unsigned 32-bit integers";

    fn unsigned(n: u64) -> Option<Self> {
        n.try_into().ok()
    }
    fn signed(n: i64) -> Option<Self> {
        n.try_into().ok()
    }
    fn from_le(bytes: &[u8]) -> Option<Vec<Self>> {
        let (words, rest) = bytes.as_chunks();
        rest.is_empty()
            .then(|| words.iter().map(|w| Self::from_le_bytes(*w)).collect())
    }
}

impl Element for u64 {
    const EXPECTED: &'static str =
        "a 64-bit integer, signed or not, as a number or a decimal string";
    const LIST: &'static str = "a list of 64-bit integers";

    fn unsigned(n: u64) -> Option<Self> {
        Some(n)
    }
    fn signed(n: i64) -> Option<Self> {
        Some(n as u64)
    }
    fn text(text: &str) -> Option<Self> {
        let negative = || text.parse::<i64>().ok().map(|n| n as u64);
        text.parse().ok().or_else(negative)
    }
    /// Whole hashes: their low 64 bits are the last eight bytes.
    fn bytes(bytes: &[u8]) -> Option<Self> {
        bytes.last_chunk().map(|low| Self::from_be_bytes(*low))
    }
    fn from_le(bytes: &[u8]) -> Option<Vec<Self>> {
        let (words, rest) = bytes.as_chunks();
        rest.is_empty()
            .then(|| words.iter().map(|w| Self::from_le_bytes(*w)).collect())
    }
}

struct OneVisitor<T>(PhantomData<T>);

struct One<T>(T);

impl<'de, T: Element> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(OneVisitor(PhantomData))
            .map(Self)
    }
}

impl<T: Element> Visitor<'_> for OneVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }
    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<T, E> {
        T::unsigned(n).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(n), &self))
    }
    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<T, E> {
        T::signed(n).ok_or_else(|| E::invalid_value(Unexpected::Signed(n), &self))
    }
    fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<T, E> {
        T::text(s).ok_or_else(|| E::invalid_type(Unexpected::Str(s), &self))
    }
    fn visit_bytes<E: serde::de::Error>(self, b: &[u8]) -> Result<T, E> {
        T::bytes(b).ok_or_else(|| E::invalid_type(Unexpected::Bytes(b), &self))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Element> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(ListVisitor(PhantomData))
            .map(Self)
    }
}

impl<'de, T: Element> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::LIST)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let hint = seq.size_hint().unwrap_or(0).min(MAX_RESERVE);
        let mut list = Vec::with_capacity(hint);
        while let Some(One(n)) = seq.next_element()? {
            list.push(n);
        }
        Ok(list)
    }
    fn visit_bytes<E: serde::de::Error>(self, b: &[u8]) -> Result<Vec<T>, E> {
        let width = size_of::<T>();
        T::from_le(b).ok_or_else(|| {
            E::custom(format!(
                "expected bytes in multiples of {width}, found {}",
                b.len()
            ))
        })
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
