//! A payload with other events in it, whatever its form: its time, its rank and what
//! nobody here knows stay as they came.
//!
//! ```text
//! [ts, [e0, bad, e1, e2], rank, ...]   kept: 0, 2
//! [ts, [e0, bad,     e2], rank, ...]
//! ```
//! Events that the decoder left out stay in their places: who reads the result is to know
//! that something was lost. So does whatever follows the place where msgpack breaks off.

use crate::DecodeError;
use crate::reader::{MAX_DEPTH, Reader, Value};
use penstock_event::Skipped;
use std::collections::HashSet;

/// One event of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// An event of the payload, by its index among those that were decoded.
    Kept(u32),
    /// A new one, in msgpack.
    Made(&'a [u8]),
}

/// Where the parts of a payload are.
struct Anatomy {
    /// The head of the list of events.
    list: usize,
    /// Events by their index in the payload; the last one is followed by `end`.
    starts: Vec<usize>,
    /// Behind the last event that could be told apart.
    end: usize,
    /// Events that could not, by the head of the list.
    broken: usize,
}

/// The payload with these events instead of its own. `skipped` is what the decoder left
/// out of it. An index that it has not is left out.
///
/// # Errors
/// There are no events to be found in it.
pub fn splice(
    payload: &[u8],
    skipped: &[Skipped],
    parts: &[Part<'_>],
) -> Result<Vec<u8>, DecodeError> {
    let anatomy = Anatomy::of(payload)?;
    let bad: HashSet<usize> = skipped.iter().map(|s| s.event as usize).collect();
    let count = anatomy.starts.len();
    let good: Vec<usize> = (0..count).filter(|i| !bad.contains(i)).collect();
    let mut bad: Vec<usize> = (0..count).filter(|i| bad.contains(i)).collect();
    bad.reverse();
    let mut events: Vec<&[u8]> = Vec::with_capacity(parts.len() + bad.len());
    for part in parts {
        let at = match part {
            Part::Made(bytes) => {
                events.push(bytes);
                continue;
            }
            Part::Kept(index) => good.get(*index as usize),
        };
        let Some(at) = at else { continue };
        while let Some(before) = bad.pop_if(|bad| *bad < *at) {
            events.push(anatomy.event(payload, before));
        }
        events.push(anatomy.event(payload, *at));
    }
    while let Some(rest) = bad.pop() {
        events.push(anatomy.event(payload, rest));
    }
    let bytes = events.iter().map(|event| event.len()).sum::<usize>();
    let rest = payload.get(anatomy.end..).unwrap_or(&[]);
    let head = payload.get(..anatomy.list).unwrap_or(&[]);
    let mut out = Vec::with_capacity(head.len() + 5 + bytes + rest.len());
    out.extend_from_slice(head);
    let count = u32::try_from(events.len() + anatomy.broken).unwrap_or(u32::MAX);
    // Writing to memory cannot fail.
    rmp::encode::write_array_len(&mut out, count).ok();
    for event in events {
        out.extend_from_slice(event);
    }
    out.extend_from_slice(rest);
    Ok(out)
}

// === impl Anatomy ===

impl Anatomy {
    fn of(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        match reader.value()? {
            Value::Array(count) if count >= 2 => reader.skip_any()?,
            Value::Map(count) => find_events(&mut reader, count)?,
            _ => return Err(DecodeError::NotABatch { at: 0 }),
        }
        let list = reader.at();
        let Value::Array(count) = reader.value()? else {
            return Err(DecodeError::NoEvents { at: list });
        };
        let mut starts = Vec::with_capacity(count.min(payload.len()));
        for _ in 0..count {
            let start = reader.at();
            if reader.skip_any().is_err() {
                reader.seek(start);
                break;
            }
            starts.push(start);
        }
        Ok(Self {
            list,
            broken: count - starts.len(),
            end: reader.at(),
            starts,
        })
    }

    fn event<'p>(&self, payload: &'p [u8], at: usize) -> &'p [u8] {
        let end = self.starts.get(at + 1).copied().unwrap_or(self.end);
        let start = self.starts.get(at).copied().unwrap_or(end);
        payload.get(start..end).unwrap_or(&[])
    }
}

/// AIBrix: a map. The reader stands at the events then.
fn find_events(reader: &mut Reader<'_>, count: usize) -> Result<(), DecodeError> {
    for _ in 0..count {
        if reader.key(MAX_DEPTH)? == Some(b"events") {
            return Ok(());
        }
        reader.skip_any()?;
    }
    Err(DecodeError::NoEvents { at: reader.at() })
}
