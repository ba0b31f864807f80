//! Token lists, in each of their shapes, into one flat list.
//!
//! ```text
//! [1, 2, 3, 4]              flat        vLLM, SGLang, TensorRT-LLM
//! [[1, 2], [2, 3], [3, 4]]  pairs       EAGLE bigrams
//! [[1, 2], [3, 4]]          block lists AIBrix: one list a block
//! [1, "digest", 3]          opaque      TensorRT-LLM: not all are numbers
//! nil                       absent      Mooncake
//! ```
//! Pairs and block lists look alike until block size and number of blocks are
//! known, hence [`Shape::resolve`] after the whole event was read.

use crate::reader::{Reader, Value};
use crate::{DecodeError, Field};

/// How the tokens were written. The tokens themselves were appended, one after
/// the other, to the list given to [`read_list`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Not sent, or nil.
    #[default]
    Absent,
    /// So many tokens.
    Flat,
    /// So many lists, all of length `inner` if that is known.
    Lists { lists: usize, inner: Option<usize> },
    /// Some token is no number: none was kept.
    Opaque,
}

/// What the tokens mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Tokens a block.
    pub block_size: u32,
    /// Tokens came as pairs and are windows of block size + 1.
    pub bigram: bool,
    /// There are exactly the tokens that the blocks need.
    pub fits: bool,
}

/// Reads the tokens at the reader, appending to `out`. `room` is how many more
/// tokens the batch may hold.
pub(crate) fn read_list(
    r: &mut Reader<'_>,
    out: &mut Vec<u32>,
    room: usize,
) -> Result<Shape, DecodeError> {
    let at = r.at();
    let start = out.len();
    let count = match r.value()? {
        Value::Nil => return Ok(Shape::Absent),
        Value::Array(count) => count,
        _ => return Err(bad(at)),
    };
    if matches!(r.peek(), Some(0x90..=0x9f | 0xdc | 0xdd)) && count > 0 {
        return read_lists(r, out, count, room);
    }
    if count > room {
        return Err(too_many(at, start, count));
    }
    out.reserve(count);
    let read = read_ints(r, out, count)?;
    if read < count {
        opaque(r, count - read)?;
        out.truncate(start);
        return Ok(Shape::Opaque);
    }
    Ok(Shape::Flat)
}

fn read_lists(
    r: &mut Reader<'_>,
    out: &mut Vec<u32>,
    lists: usize,
    room: usize,
) -> Result<Shape, DecodeError> {
    let start = out.len();
    let mut inner = None;
    let mut uniform = true;
    let mut readable = true;
    for _ in 0..lists {
        let at = r.at();
        let Value::Array(count) = r.value()? else {
            return Err(bad(at));
        };
        uniform &= *inner.get_or_insert(count) == count;
        if count > room.saturating_sub(out.len() - start) {
            return Err(too_many(at, out.len(), count));
        }
        let read = read_ints(r, out, count)?;
        if read < count {
            opaque(r, count - read)?;
            readable = false;
        }
    }
    if !readable {
        out.truncate(start);
        return Ok(Shape::Opaque);
    }
    let inner = inner.filter(|_| uniform);
    Ok(Shape::Lists { lists, inner })
}

/// Reads past `count` tokens of which the first is no number: strings and
/// digests are allowed among numbers, anything else is not.
#[cold]
fn opaque(r: &mut Reader<'_>, count: usize) -> Result<(), DecodeError> {
    for _ in 0..count {
        let at = r.at();
        match r.value()? {
            Value::Str(_) | Value::Bin(_) => {}
            Value::Int(v) if v.bits32().is_some() => {}
            _ => return Err(bad(at)),
        }
    }
    Ok(())
}

fn bad(at: usize) -> DecodeError {
    let field = Field::Tokens;
    DecodeError::Bad { field, at }
}

fn too_many(at: usize, before: usize, count: usize) -> DecodeError {
    let count = before.saturating_add(count);
    DecodeError::TooManyTokens { at, count }
}

/// Reads up to `count` numbers and stops before the first value that is no
/// number of 32 bits. Returns how many were read.
fn read_ints(r: &mut Reader<'_>, out: &mut Vec<u32>, count: usize) -> Result<usize, DecodeError> {
    let start = out.len();
    // Each takes a byte at least, and the reader has checked that they are there.
    out.resize(start + count.min(r.remaining()), 0);
    let slots = out.get_mut(start..).unwrap_or(&mut []);
    let mut read = 0;
    while let Some(slots) = slots.get_mut(read..).filter(|slots| !slots.is_empty()) {
        let (got, used) = fast_ints(r.rest(), slots);
        r.seek(r.at() + used);
        read += got;
        let Some(slot) = slots.get_mut(got) else {
            break;
        };
        // Signed or wide, near the payload's end, or no number at all.
        let at = r.at();
        let Value::Int(v) = r.value()? else {
            r.seek(at);
            break;
        };
        *slot = v.bits32().ok_or(bad(at))?;
        read += 1;
    }
    out.truncate(start + read);
    Ok(read)
}

/// Reads unsigned numbers of up to 32 bits while at least 12 bytes remain.
/// Returns how many, and how many bytes they took.
#[inline]
fn fast_ints(bytes: &[u8], out: &mut [u32]) -> (usize, usize) {
    let mut at = 0;
    let mut got = 0;
    while got < out.len() {
        let Some((window, _)) = bytes.get(at..).and_then(|b| b.split_first_chunk::<12>()) else {
            break;
        };
        // Four of 16 bits in a row: what small vocabularies produce.
        if let [0xcd, a0, a1, 0xcd, b0, b1, 0xcd, c0, c1, 0xcd, d0, d1] = *window
            && let Some(four) = out.get_mut(got..got + 4)
        {
            let word = |hi, lo| u32::from(u16::from_be_bytes([hi, lo]));
            four.copy_from_slice(&[word(a0, a1), word(b0, b1), word(c0, c1), word(d0, d1)]);
            got += 4;
            at += 12;
            continue;
        }
        let [marker, b, c, d, e, f, g, h, ..] = *window;
        let Some(slot) = out.get_mut(got) else { break };
        // `cc`, `cd`, `ce`: 1, 2 or 4 bytes. Widths alternate at random in large
        // vocabularies, and a branch on them could not be predicted.
        let width = marker.wrapping_sub(0xcc);
        if width < 3 {
            let len = 1usize << width;
            let word = u64::from_be_bytes([marker, b, c, d, e, f, g, h]);
            *slot = (word << 8 >> (64 - 8 * len)) as u32;
            at += 1 + len;
        } else if marker < 0x80 {
            *slot = u32::from(marker);
            at += 1;
        } else {
            break;
        }
        got += 1;
    }
    (got, at)
}

// === impl Shape ===

impl Shape {
    /// Settles what the tokens from `start` on mean for an event of `blocks`
    /// blocks, and turns pairs into windows. Pairs that do not overlap are an error.
    pub(crate) fn resolve(
        self,
        tokens: &mut Vec<u32>,
        start: usize,
        blocks: usize,
        block_size: Option<u32>,
        at: usize,
    ) -> Result<Layout, DecodeError> {
        let mut layout = Layout {
            block_size: block_size.unwrap_or(0),
            bigram: false,
            fits: false,
        };
        let mut count = tokens.len() - start;
        match self {
            Self::Absent | Self::Opaque => return Ok(layout),
            Self::Flat => {}
            Self::Lists { lists, inner } => {
                let one_a_block = lists == blocks && block_size.is_none_or(|size| size == 2);
                if inner == Some(2) && !one_a_block {
                    layout.bigram = true;
                    count = lists;
                    windows(tokens, start, layout.block_size as usize).ok_or(bad(at))?;
                } else {
                    let size = inner.and_then(|inner| u32::try_from(inner).ok());
                    layout.block_size = block_size.or(size).unwrap_or(0);
                    if inner.is_none() || lists != blocks {
                        return Ok(layout);
                    }
                }
            }
        }
        let need = blocks.checked_mul(layout.block_size as usize);
        layout.fits = count > 0 && need == Some(count);
        Ok(layout)
    }
}

/// Turns the pairs `(t0,t1) (t1,t2) ...` from `start` on into windows: the first
/// token of each of `block_size` pairs, then the second of the last. None when
/// two pairs that follow each other share no token.
fn windows(tokens: &mut Vec<u32>, start: usize, block_size: usize) -> Option<()> {
    let pairs = tokens.get_mut(start..)?;
    let count = pairs.len() / 2;
    let size = if block_size == 0 { count } else { block_size };
    let mut to = 0;
    for i in 0..count {
        let (first, second) = (*pairs.get(2 * i)?, *pairs.get(2 * i + 1)?);
        let last = i + 1 == count;
        if !last && *pairs.get(2 * i + 2)? != second {
            return None;
        }
        // A window never outgrows its pairs, so writing stays behind reading.
        *pairs.get_mut(to)? = first;
        to += 1;
        if last || (i + 1) % size == 0 {
            *pairs.get_mut(to)? = second;
            to += 1;
        }
    }
    tokens.truncate(start + to);
    Some(())
}
