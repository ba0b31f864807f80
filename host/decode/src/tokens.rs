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

/// Bytes that [`fast_ints`] looks at in one step: as many as four numbers take, and what is
/// read beyond them.
const WINDOW: usize = 24;

/// Reads unsigned numbers of up to 32 bits while at least [`WINDOW`] bytes remain.
/// Returns how many, and how many bytes they took.
#[inline]
fn fast_ints(bytes: &[u8], out: &mut [u32]) -> (usize, usize) {
    let (mut at, mut got) = (0, 0);
    let window = |at: usize| bytes.get(at..)?.first_chunk::<WINDOW>();
    while let Some(slots) = out.get_mut(got..) {
        let (fours, _) = slots.as_chunks_mut::<4>();
        for four in fours {
            let Some(used) = window(at).and_then(|window| four_ints(window, four)) else {
                break;
            };
            got += 4;
            at += used;
        }
        let (Some(slot), Some(window)) = (out.get_mut(got), window(at)) else {
            break;
        };
        let [marker, b, c, d, e, ..] = *window;
        (*slot, at) = match marker {
            0x00..=0x7f => (u32::from(marker), at + 1),
            0xcc => (u32::from(b), at + 2),
            0xcd => (u32::from(u16::from_be_bytes([b, c])), at + 3),
            0xce => (u32::from_be_bytes([b, c, d, e]), at + 5),
            _ => break,
        };
        got += 1;
    }
    (got, at)
}

/// Four numbers of 16 or 32 bits in a row, `cd` or `ce`: what vocabularies above 65,536
/// produce. The widths alternate at random: a branch on them could not be predicted, and
/// what the next step waits for is one load for two numbers.
#[inline]
fn four_ints(window: &[u8; WINDOW], out: &mut [u32; 4]) -> Option<usize> {
    let (a, b, second) = two_ints(window, 0)?;
    let (c, d, end) = two_ints(window, second)?;
    *out = [a, b, c, d];
    Some(end)
}

/// Two of them from `at` on, and where the next one begins.
#[inline]
fn two_ints(window: &[u8; WINDOW], at: usize) -> Option<(u32, u32, usize)> {
    let word = |at: usize| window.get(at..)?.first_chunk::<8>();
    let first = u64::from_le_bytes(*word(at)?);
    // The second bit tells `ce` from `cd`: two bytes more.
    let more = first & 2;
    let second = first >> (24 + 8 * more);
    if !is_number(first) || !is_number(second) {
        return None;
    }
    let more_of_second = second & 2;
    let behind = at + 3 + more as usize;
    let number = |word: u64, more: u64| ((word >> 8) as u32).swap_bytes() >> (16 - 8 * more);
    let numbers = (
        number(first, more),
        number(u64::from_le_bytes(*word(behind)?), more_of_second),
    );
    Some((numbers.0, numbers.1, behind + 3 + more_of_second as usize))
}

#[inline]
fn is_number(word: u64) -> bool {
    (word as u8).wrapping_sub(0xcd) <= 1
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_widths_in_all_orders() {
        // Five ways of writing, six in a row, then as many bytes as are looked at in a step.
        const FORMS: [(u32, &[u8]); 5] = [
            (5, &[5]),
            (200, &[0xcc, 200]),
            (60_000, &[0xcd, 0xea, 0x60]),
            (100_000, &[0xce, 0, 1, 0x86, 0xa0]),
            (7, &[0xce, 0, 0, 0, 7]),
        ];
        for more in [0, 1, WINDOW] {
            for n in 0..5usize.pow(6) {
                let (mut bytes, mut expected, mut n) = (Vec::new(), Vec::new(), n);
                for _ in 0..6 {
                    let (number, form) = FORMS[n % 5];
                    bytes.extend_from_slice(form);
                    expected.push(number);
                    n /= 5;
                }
                let end = bytes.len();
                bytes.resize(end + more, 0xc0);
                let (mut reader, mut out) = (Reader::new(&bytes), vec![9]);
                assert_eq!(read_ints(&mut reader, &mut out, 6), Ok(6));
                assert_eq!((&out[1..], reader.at()), (&expected[..], end));
            }
        }
    }
}
