//! Block hashes: integers of any width and sign, or raw bytes.
//!
//! A hash's identity is its low 64 bits: two's complement for signed integers,
//! the last 8 bytes, big endian, for raw bytes (shorter ones are right aligned).

use crate::reader::{Reader, Value};
use crate::{DecodeError, Field};

/// The longest raw hash.
const MAX_HASH_BYTES: usize = 32;

/// Where whole hashes go, when they are wanted.
pub(crate) struct Whole<'a> {
    /// Bytes of all.
    pub bytes: &'a mut Vec<u8>,
    /// End of each.
    pub ends: &'a mut Vec<u32>,
}

/// Reads the list of hashes at the reader into `out`. `room` is how many more
/// blocks the batch may hold.
pub(crate) fn read_list(
    r: &mut Reader<'_>,
    out: &mut Vec<u64>,
    mut whole: Option<Whole<'_>>,
    room: usize,
) -> Result<(), DecodeError> {
    let at = r.at();
    let Value::Array(count) = r.value()? else {
        return Err(DecodeError::Bad {
            field: Field::Hashes,
            at,
        });
    };
    if count > room {
        let count = count.saturating_add(out.len());
        return Err(DecodeError::TooManyBlocks { at, count });
    }
    out.reserve(count);
    let mut left = count;
    if whole.is_none() {
        // Nearly all hashes are a marker and 8 bytes, one after the other.
        let (nines, _) = r.rest().as_chunks::<9>();
        let wide = |nine: &&[u8; 9]| matches!(nine[0], 0xcf | 0xd3);
        let run = nines.iter().take(count).take_while(wide).count();
        let low =
            |&[_, a, b, c, d, e, f, g, h]: &[u8; 9]| u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        out.extend(nines.iter().take(run).map(low));
        r.seek(r.at() + 9 * run);
        left -= run;
    }
    for _ in 0..left {
        let hash = read(r, Field::Hashes)?;
        if let Some(whole) = &mut whole {
            match hash.raw {
                Some(raw) => whole.bytes.extend_from_slice(raw),
                None => whole.bytes.extend_from_slice(&hash.id.to_be_bytes()),
            }
            whole.ends.push(whole.bytes.len() as u32);
        }
        out.push(hash.id);
    }
    Ok(())
}

/// One hash.
pub(crate) struct Hash<'p> {
    /// Its identity.
    pub id: u64,
    /// Its bytes, if it came as such.
    pub raw: Option<&'p [u8]>,
}

/// Reads one hash.
#[inline]
pub(crate) fn read<'p>(r: &mut Reader<'p>, field: Field) -> Result<Hash<'p>, DecodeError> {
    // The shape of nearly all hashes: a marker and 8 bytes.
    if let Some((&[marker, a, b, c, d, e, f, g, h], _)) = r.rest().split_first_chunk::<9>()
        && (marker == 0xcf || marker == 0xd3)
    {
        r.seek(r.at() + 9);
        let id = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        return Ok(Hash { id, raw: None });
    }
    read_slow(r, field)
}

#[cold]
fn read_slow<'p>(r: &mut Reader<'p>, field: Field) -> Result<Hash<'p>, DecodeError> {
    let at = r.at();
    match r.value()? {
        Value::Int(v) => Ok(Hash {
            id: v.bits(),
            raw: None,
        }),
        Value::Bin(raw) if !raw.is_empty() && raw.len() <= MAX_HASH_BYTES => {
            let tail = raw.len().saturating_sub(8);
            let id = raw
                .iter()
                .skip(tail)
                .fold(0, |id, byte| id << 8 | u64::from(*byte));
            Ok(Hash { id, raw: Some(raw) })
        }
        _ => Err(DecodeError::Bad { field, at }),
    }
}
