//! Times as engines write them, to µs since 1970.

use crate::reader::{Int, Value};

/// The msgpack extension type of timestamps.
const TIMESTAMP: i8 = -1;

/// A time: seconds as a float; an integer, whose magnitude tells seconds,
/// milliseconds, microseconds or nanoseconds; a msgpack timestamp; RFC 3339
/// text. None for anything else and for times out of range.
pub(crate) fn micros(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Float(seconds) => from_float(seconds),
        Value::Int(Int::Pos(v)) => from_integer(v),
        Value::Ext(TIMESTAMP, bytes) => from_extension(bytes),
        Value::Str(text) => {
            let text = std::str::from_utf8(text).ok()?;
            Some(text.parse::<jiff::Timestamp>().ok()?.as_microsecond())
        }
        _ => None,
    }
}

fn from_float(seconds: f64) -> Option<i64> {
    let us = (seconds * 1e6).round();
    // 2^63 as a float: the casts below it are exact enough and never saturate.
    (us.is_finite() && us.abs() < 9.2e18).then_some(us as i64)
}

/// AIBrix counts seconds, Mooncake milliseconds. Seconds stay below 10^11 until
/// the year 5138; milliseconds have been above it since 1973.
fn from_integer(v: u64) -> Option<i64> {
    let us = match v {
        0..100_000_000_000 => v * 1_000_000,
        100_000_000_000..100_000_000_000_000 => v * 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => v,
        _ => v / 1_000,
    };
    i64::try_from(us).ok()
}

fn from_extension(bytes: &[u8]) -> Option<i64> {
    let (seconds, nanos) = match *bytes {
        [a, b, c, d] => (i64::from(u32::from_be_bytes([a, b, c, d])), 0),
        [a, b, c, d, e, f, g, h] => {
            let word = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            ((word & 0x3_ffff_ffff) as i64, (word >> 34) as u32)
        }
        [n0, n1, n2, n3, a, b, c, d, e, f, g, h] => (
            i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            u32::from_be_bytes([n0, n1, n2, n3]),
        ),
        _ => return None,
    };
    seconds
        .checked_mul(1_000_000)?
        .checked_add(i64::from(nanos) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_time() {
        const US: i64 = 1_700_000_000_123_000;
        let int = |v| Value::Int(Int::Pos(v));
        let ext8 = (123_000_000u64 << 34 | 1_700_000_000).to_be_bytes();
        let mut ext12 = 123_000_000u32.to_be_bytes().to_vec();
        ext12.extend(1_700_000_000i64.to_be_bytes());
        let table = [
            (Value::Float(1_700_000_000.123), Some(US)),
            (int(1_700_000_000), Some(1_700_000_000_000_000)),
            (int(1_700_000_000_123), Some(US)),
            (int(1_700_000_000_123_000), Some(US)),
            (int(1_700_000_000_123_000_000), Some(US)),
            (
                Value::Ext(-1, &[0x65, 0x53, 0xf1, 0]),
                Some(1_700_000_000_000_000),
            ),
            (Value::Ext(-1, &ext8), Some(US)),
            (Value::Ext(-1, &ext12), Some(US)),
            (Value::Str(b"2023-11-14T22:13:20.123Z"), Some(US)),
            (Value::Str(b"2023-11-14T23:13:20.123+01:00"), Some(US)),
            (Value::Str(b"yesterday"), None),
            (Value::Float(f64::NAN), None),
            (Value::Float(1e300), None),
            (Value::Int(Int::Neg(-1)), None),
            (Value::Ext(-1, &[1, 2, 3]), None),
            (Value::Ext(5, &[0, 0, 0, 1]), None),
            (Value::Nil, None),
        ];
        for (value, expected) in table {
            assert_eq!(micros(value), expected, "{value:?}");
        }
    }
}
