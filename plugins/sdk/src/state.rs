//! State that outlives a build of a plugin: versioned, in pieces of bounded size.
//!
//! Helpers for [`State`](crate::State), with either of two shapes of a source's
//! state. Both encode with serde (postcard) and cost the author about ten lines.
//!
//! **Records**, any number of them: nothing is kept between two pieces, each is
//! read as it comes. The choice for all that grows.
//!
//! ```
//! use penstock_sdk::{Batch, Event, NoConfig, Piece, Plugin, Refused, State, state};
//! use std::collections::BTreeMap;
//!
//! #[derive(Default)]
//! struct Stored(BTreeMap<(u32, u64), u32>); // (source, hash) -> times stored
//!
//! impl State for Stored {
//!     fn snapshot(&mut self, source: u32, cursor: u64, max_bytes: u32) -> Result<Piece, String> {
//!         let records = self.0.range((source, 0)..=(source, u64::MAX));
//!         let records = records.map(|((_, hash), times)| (hash, times));
//!         state::cut(Self::STATE_SCHEMA, cursor, max_bytes, records)
//!     }
//!     fn restore(&mut self, source: u32, schema: u32, piece: &[u8]) -> Result<(), String> {
//!         for record in state::records(Self::STATE_SCHEMA, schema, piece)? {
//!             let (hash, times): (u64, u32) = record?;
//!             self.0.insert((source, hash), times);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! impl Plugin for Stored {
//!     const NAME: &'static str = "stored";
//!     const VERSION: &'static str = "0.1.0";
//!     const STATE_SCHEMA: u32 = 1;
//!     type Config = NoConfig;
//!     fn new(_: NoConfig) -> Result<Self, String> {
//!         Ok(Self::default())
//!     }
//!     fn on_batch(&mut self, batch: &Batch<'_>, _: &mut Refused) {
//!         for event in batch.events() {
//!             if let Event::Stored(stored) = event {
//!                 for hash in stored.hashes() {
//!                     *self.0.entry((batch.source(), *hash)).or_default() += 1;
//!                 }
//!             }
//!         }
//!     }
//! }
//! penstock_sdk::export!(Stored: State);
//!
//! // A test: what one build knew, the next one knows.
//! use penstock_sdk::testing::{batch, stored, Host};
//! let mut old = Host::<Stored>::start("{}").unwrap();
//! old.join(1, "vllm-0", "llama");
//! old.send(batch(1).stored(stored(16, &[7, 8])).stored(stored(16, &[7])));
//! let mut new = Host::<Stored>::start("{}").unwrap();
//! new.join(1, "vllm-0", "llama");
//! let pieces = new.take_over(&mut old, 1, 10).unwrap();
//! assert!(pieces > 1, "10 bytes hold one record");
//! assert_eq!(new.plugin().0, old.plugin().0);
//! ```
//!
//! **One value** of any serde type, in [`Pieces`]: encoded whole at the first piece,
//! collected whole at the other end. Short, at the price of the encoded bytes being
//! held meanwhile. For small states.
//!
//! A piece begins with its form, the number of its schema, and for a value its length
//! and the piece's place in it. Another schema than the one that is read is refused
//! with a text that names both; the host then feeds the source anew. To read an older
//! schema as well, look at `schema` first and read records of the older type under the
//! older number (for values: a second [`Pieces`]).
//!
//! Postcard writes fields in their order, without names: a field added, removed or
//! moved is another schema. No batch of a source comes between two of its pieces, but
//! ticks and other sources' batches do: records must keep their order meanwhile.

use crate::{Piece, SourceId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// Form of a piece of records: `"psr1" | schema u32 | records`.
const RECORDS: &[u8; 4] = b"psr1";

/// Form of a piece of a value: `"psw1" | schema u32 | length u64 | offset u64 | bytes`.
const WHOLE: &[u8; 4] = b"psw1";

/// Bytes before a value's own.
const WHOLE_HEAD: usize = 4 + 4 + 8 + 8;

/// The records of one piece.
#[derive(Debug)]
pub struct Records<'a, R> {
    bytes: &'a [u8],
    of: PhantomData<R>,
}

/// State of sources that is one value each, on its way in or out.
///
/// ```
/// use penstock_sdk::{Piece, state::Pieces};
/// use std::collections::BTreeMap;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Counts { blocks: u64, by_adapter: BTreeMap<String, u64> }
///
/// struct Counter { sources: BTreeMap<u32, Counts>, pieces: Pieces<Counts> }
///
/// // The bodies of `State::snapshot` and `State::restore`; `pieces` is made by
/// // `Pieces::new(Self::STATE_SCHEMA)`.
/// impl Counter {
///     fn snapshot(&mut self, source: u32, cursor: u64, max_bytes: u32) -> Result<Piece, String> {
///         self.pieces.cut(source, cursor, max_bytes, self.sources.get(&source))
///     }
///     fn restore(&mut self, source: u32, schema: u32, piece: &[u8]) -> Result<(), String> {
///         if let Some(counts) = self.pieces.collect(source, schema, piece)? {
///             self.sources.insert(source, counts);
///         }
///         Ok(())
///     }
/// }
/// # let counts = Counts { blocks: 7, by_adapter: BTreeMap::new() };
/// # let mut old = Counter { sources: [(1, counts)].into(), pieces: Pieces::new(3) };
/// # let mut new = Counter { sources: BTreeMap::new(), pieces: Pieces::new(3) };
/// # let piece = old.snapshot(1, 0, 100).unwrap();
/// # new.restore(1, 3, &piece.bytes).unwrap();
/// # assert_eq!((piece.next, new.sources[&1].blocks), (None, 7));
/// ```
#[derive(Debug)]
pub struct Pieces<T> {
    schema: u32,
    /// The value being handed out, encoded.
    out: Option<(SourceId, Vec<u8>)>,
    /// Beginnings of values that are coming in.
    coming: BTreeMap<SourceId, Vec<u8>>,
    of: PhantomData<T>,
}

/// One piece of `records`: as many as fit in `max_bytes`, from the `cursor`-th on.
/// The next cursor counts records.
///
/// # Errors
/// A record is too large for a piece, or cannot be encoded.
pub fn cut<R: Serialize>(
    schema: u32,
    cursor: u64,
    max_bytes: u32,
    records: impl IntoIterator<Item = R>,
) -> Result<Piece, String> {
    let max_bytes = max_bytes as usize;
    let mut bytes = head(RECORDS, schema);
    let from = usize::try_from(cursor).map_err(|_| format!("no record {cursor}"))?;
    for (at, record) in (cursor..).zip(records.into_iter().skip(from)) {
        let before = bytes.len();
        bytes = postcard::to_extend(&record, bytes)
            .map_err(|e| format!("record {at} cannot be encoded: {e}"))?;
        let size = bytes.len();
        if size <= max_bytes {
            continue;
        }
        if at == cursor {
            return Err(format!(
                "record {at} makes a piece of {size} bytes, above {max_bytes}"
            ));
        }
        bytes.truncate(before);
        let next = Some(at);
        return Ok(Piece { bytes, next });
    }
    Ok(Piece { bytes, next: None })
}

/// The records of a piece that [`cut`] made. `of` is the schema of `R`, `schema` the
/// one that the host names.
///
/// # Errors
/// The piece is of another schema, or not made by [`cut`]. A record that is damaged is
/// an error of its own.
pub fn records<R: DeserializeOwned>(
    of: u32,
    schema: u32,
    piece: &[u8],
) -> Result<Records<'_, R>, String> {
    let bytes = body(RECORDS, of, schema, piece)?;
    Ok(Records {
        bytes,
        of: PhantomData,
    })
}

fn head(form: &[u8; 4], schema: u32) -> Vec<u8> {
    let mut bytes = form.to_vec();
    bytes.extend(schema.to_le_bytes());
    bytes
}

/// What follows the head of a piece, if it is of this form and schema.
fn body<'a>(form: &[u8; 4], of: u32, schema: u32, piece: &'a [u8]) -> Result<&'a [u8], String> {
    let unknown = |schema: u32| format!("state of schema {schema} is not known: {of} is read");
    if schema != of {
        return Err(unknown(schema));
    }
    let (found, rest) = piece.split_first_chunk::<4>().ok_or("the piece is cut")?;
    if found != form {
        return Err("the piece was not made by this kit, or in its other form".to_owned());
    }
    let (said, rest) = rest.split_first_chunk::<4>().ok_or("the piece is cut")?;
    match u32::from_le_bytes(*said) {
        said if said == of => Ok(rest),
        // The build that wrote it declares one number and writes another.
        said => Err(unknown(said)),
    }
}

// === impl Records ===

impl<R: DeserializeOwned> Iterator for Records<'_, R> {
    type Item = Result<R, String>;

    fn next(&mut self) -> Option<Result<R, String>> {
        if self.bytes.is_empty() {
            return None;
        }
        match postcard::take_from_bytes(self.bytes) {
            // A record of no bytes would be read for ever.
            Ok((_, rest)) if rest.len() == self.bytes.len() => {
                self.bytes = &[];
                Some(Err("records without content".to_owned()))
            }
            Ok((record, rest)) => {
                self.bytes = rest;
                Some(Ok(record))
            }
            Err(error) => {
                self.bytes = &[];
                Some(Err(format!("a damaged record: {error}")))
            }
        }
    }
}

// === impl Pieces ===

impl<T> Pieces<T> {
    /// Nothing on its way, under the number of a schema: that of `T`.
    #[must_use]
    pub const fn new(schema: u32) -> Self {
        Self {
            schema,
            out: None,
            coming: BTreeMap::new(),
            of: PhantomData,
        }
    }
}

impl<T: Serialize> Pieces<T> {
    /// One piece of the state of `source`, from byte `cursor` on. None: the plugin
    /// holds nothing of it, and nothing is restored at the other end. What is handed
    /// out is the value as it was at cursor 0.
    ///
    /// # Errors
    /// The value cannot be encoded, or `max_bytes` hold no more than the head.
    pub fn cut(
        &mut self,
        source: SourceId,
        cursor: u64,
        max_bytes: u32,
        state: Option<&T>,
    ) -> Result<Piece, String> {
        if cursor == 0 {
            let encoded = state.map_or(Ok(Vec::new()), postcard::to_allocvec);
            let encoded = encoded.map_err(|e| format!("the state cannot be encoded: {e}"))?;
            self.out = Some((source, encoded));
        }
        let whole = match &self.out {
            Some((of, whole)) if *of == source => whole,
            _ => return Err(format!("no snapshot of source {source} was begun")),
        };
        let room = (max_bytes as usize).saturating_sub(WHOLE_HEAD);
        if room == 0 {
            return Err(format!("{max_bytes} bytes hold no state"));
        }
        let from = usize::try_from(cursor).map_or(whole.len(), |from| from.min(whole.len()));
        let to = from.saturating_add(room).min(whole.len());
        let mut bytes = head(WHOLE, self.schema);
        bytes.extend((whole.len() as u64).to_le_bytes());
        bytes.extend((from as u64).to_le_bytes());
        bytes.extend(&whole[from..to]);
        let next = (to < whole.len()).then_some(to as u64);
        if next.is_none() {
            self.out = None;
        }
        Ok(Piece { bytes, next })
    }
}

impl<T: DeserializeOwned> Pieces<T> {
    /// Takes one piece; the value once it is whole. `schema` is the one that the host
    /// names.
    ///
    /// # Errors
    /// The piece is of another schema, damaged, or not the next one.
    pub fn collect(
        &mut self,
        source: SourceId,
        schema: u32,
        piece: &[u8],
    ) -> Result<Option<T>, String> {
        // What fails leaves nothing behind.
        let mut whole = self.coming.remove(&source).unwrap_or_default();
        let rest = body(WHOLE, self.schema, schema, piece)?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or("the piece is cut")?;
        let (offset, rest) = rest.split_first_chunk::<8>().ok_or("the piece is cut")?;
        let (length, offset) = (u64::from_le_bytes(*length), u64::from_le_bytes(*offset));
        if offset == 0 {
            whole.clear();
        }
        if offset != whole.len() as u64 {
            let have = whole.len();
            return Err(format!("a piece from byte {offset} on, but {have} came"));
        }
        whole.extend(rest);
        match (whole.len() as u64).cmp(&length) {
            std::cmp::Ordering::Less => {
                self.coming.insert(source, whole);
                Ok(None)
            }
            std::cmp::Ordering::Equal if length == 0 => Ok(None),
            std::cmp::Ordering::Equal => match postcard::take_from_bytes(&whole) {
                Ok((state, [])) => Ok(Some(state)),
                Ok((_, rest)) => Err(format!("{} bytes too many", rest.len())),
                Err(error) => Err(format!("the state is damaged: {error}")),
            },
            std::cmp::Ordering::Greater => Err("more came than there was to come".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
