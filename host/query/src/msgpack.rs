//! The id of a ZeroMQ request, kept as the bytes it came in, and put back into
//! the reply. Nothing is decoded on the way, so any value goes through untouched,
//! even out of a request that is wrong in other places.

use crate::wire::Encoding;
use serde::Serialize;
use serde_json::value::RawValue;

/// The raw value of the top-level key `id`, if the body can be read so far.
pub(crate) fn id_of(encoding: Encoding, body: &[u8]) -> Option<&[u8]> {
    match encoding {
        Encoding::Json => json_id(body),
        Encoding::Msgpack => msgpack_id(body),
    }
}

/// A reply: `{"id": id, ...body}`. `body` must be a struct or map of at least
/// one and at most 14 fields. Without an id, the reply's id is null.
pub(crate) fn reply(
    encoding: Encoding,
    id: Option<&[u8]>,
    body: &impl Serialize,
) -> Result<Vec<u8>, String> {
    match encoding {
        Encoding::Json => {
            let mut out = Vec::with_capacity(512);
            out.extend_from_slice(b"{\"id\":");
            out.extend_from_slice(id.unwrap_or(b"null"));
            let at = out.len();
            serde_json::to_writer(&mut out, body).map_err(|e| e.to_string())?;
            // The body's opening brace becomes the comma after the id.
            match out.get_mut(at) {
                Some(brace) if *brace == b'{' => *brace = b',',
                _ => return Err("a reply must be a map".to_owned()),
            }
            Ok(out)
        }
        Encoding::Msgpack => {
            let mut out = Vec::with_capacity(4_096);
            out.extend_from_slice(b"\x80\xa2id");
            out.extend_from_slice(id.unwrap_or(&[0xc0]));
            let at = out.len();
            rmp_serde::encode::write_named(&mut out, body).map_err(|e| e.to_string())?;
            // One head for both.
            match out.get(at).copied() {
                Some(head @ 0x81..=0x8e) => {
                    out.remove(at);
                    out[0] = head + 1;
                    Ok(out)
                }
                _ => Err("a reply must be a small map".to_owned()),
            }
        }
    }
}

fn json_id(body: &[u8]) -> Option<&[u8]> {
    #[derive(serde::Deserialize)]
    struct OnlyId<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let found: OnlyId<'_> = serde_json::from_slice(body).ok()?;
    found.id.map(|raw| raw.get().as_bytes())
}

fn msgpack_id(body: &[u8]) -> Option<&[u8]> {
    let mut rest = body;
    let entries = rmp::decode::read_map_len(&mut rest).ok()?;
    for _ in 0..entries {
        let key = take_value(&mut rest)?;
        let value = take_value(&mut rest)?;
        if matches!(key, b"\xa2id" | b"\xd9\x02id") {
            return Some(value);
        }
    }
    None
}

/// Whether every key of the top-level map is text. A number would be taken for the
/// place of a field. A body that cannot be read so far passes: why it is bad shows
/// when it is decoded.
pub(crate) fn keys_are_text(body: &[u8]) -> bool {
    let mut rest = body;
    let Ok(entries) = rmp::decode::read_map_len(&mut rest) else {
        return true;
    };
    for _ in 0..entries {
        let text = matches!(rest.first(), None | Some(0xa0..=0xbf | 0xd9..=0xdb));
        if !text {
            return false;
        }
        if take_value(&mut rest)
            .and_then(|_| take_value(&mut rest))
            .is_none()
        {
            return true;
        }
    }
    true
}

/// Splits the first value off. No recursion: lengths of lists and maps add to
/// the number of values still to be passed, so depth costs nothing, and a length
/// that lies ends at the end of the bytes.
fn take_value<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let whole = *rest;
    let mut at = 0usize;
    let mut open = 1u64;
    while open > 0 {
        let head = *whole.get(at)?;
        at += 1;
        let number = |width: usize| -> Option<u64> {
            let bytes = whole.get(at..at.checked_add(width)?)?;
            Some(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
        };
        // Bytes after the head (its length field included), values within.
        let (bytes, values) = match head {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0),
            0x80..=0x8f => (0, u64::from(head & 0x0f) * 2),
            0x90..=0x9f => (0, u64::from(head & 0x0f)),
            0xa0..=0xbf => (u64::from(head & 0x1f), 0),
            0xc4 | 0xd9 => (1 + number(1)?, 0),
            0xc5 | 0xda => (2 + number(2)?, 0),
            0xc6 | 0xdb => (4 + number(4)?, 0),
            0xc7 => (2 + number(1)?, 0),
            0xc8 => (3 + number(2)?, 0),
            0xc9 => (5 + number(4)?, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xd4..=0xd8 => (1 + (1 << (head - 0xd4)), 0),
            0xdc => (2, number(2)?),
            0xdd => (4, number(4)?),
            0xde => (2, number(2)? * 2),
            0xdf => (4, number(4)? * 2),
            0xc1 => return None,
        };
        at = at.checked_add(usize::try_from(bytes).ok()?)?;
        open = (open - 1).checked_add(values)?;
    }
    let (value, after) = whole.split_at_checked(at)?;
    *rest = after;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn any_id_goes_through_both_encodings() {
        let deep = (0..100).fold(json!(1), |v, _| json!([v]));
        let ids = [
            json!(7),
            json!(-1),
            json!(1.5),
            json!("a\"b"),
            json!(null),
            json!({"k": [1, {"x": "y"}], "n": "z".repeat(70_000)}),
            json!(vec![300; 40]),
            deep,
        ];
        for id in ids {
            let request = json!({"a": [1, 2], "id": id, "z": {"id": 9}});
            let reply_body = json!({"error": "x", "code": "busy"});

            let text = request.to_string();
            let raw = id_of(Encoding::Json, text.as_bytes());
            let out = reply(Encoding::Json, raw, &reply_body).unwrap();
            let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(out, json!({"id": id, "error": "x", "code": "busy"}));

            let packed = rmp_serde::to_vec_named(&request).unwrap();
            let raw = id_of(Encoding::Msgpack, &packed);
            let out = reply(Encoding::Msgpack, raw, &reply_body).unwrap();
            let out: serde_json::Value = rmp_serde::from_slice(&out).unwrap();
            assert_eq!(out, json!({"id": id, "error": "x", "code": "busy"}));
        }
    }

    #[test]
    fn every_head_is_passed_over() {
        let values: [&[u8]; 16] = [
            &[0xc4, 2, 1, 2],
            &[0xc5, 0, 1, 9],
            &[0xc6, 0, 0, 0, 1, 9],
            &[0xc7, 1, 5, 9],
            &[0xc8, 0, 1, 5, 9],
            &[0xc9, 0, 0, 0, 1, 5, 9],
            &[0xca, 0, 0, 0, 0],
            &[0xcb, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0xd3, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0xd4, 5, 1],
            &[0xd6, 5, 1, 2, 3, 4],
            &[
                0xd8, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
            ],
            &[0xdb, 0, 0, 0, 1, b'x'],
            &[0xdd, 0, 0, 0, 2, 1, 0xc0],
            &[0xdf, 0, 0, 0, 1, 1, 0xc3],
            &[0xe0],
        ];
        for value in values {
            let body = [&[0x82, 0xa1, b'v'], value, b"\xa2id", &[42]].concat();
            assert_eq!(
                id_of(Encoding::Msgpack, &body),
                Some(&[42][..]),
                "{value:x?}"
            );
            let body = [&[0x81][..], b"\xd9\x02id", value].concat();
            assert_eq!(id_of(Encoding::Msgpack, &body), Some(value));
            // Cut short, there is no id and no panic.
            for end in 0..body.len() {
                assert_eq!(id_of(Encoding::Msgpack, &body[..end]), None);
            }
        }
    }

    #[test]
    fn lengths_that_lie_and_depth_are_harmless() {
        let lies: [&[u8]; 4] = [
            &[0xdf, 0xff, 0xff, 0xff, 0xff, 0xdd, 0xff, 0xff, 0xff, 0xff],
            &[0x81, 0xc6, 0xff, 0xff, 0xff, 0xff],
            &[0x81, 0xc1, 0],
            &[],
        ];
        for lie in lies {
            assert_eq!(id_of(Encoding::Msgpack, lie), None);
        }
        let mut nested = vec![0x82, 0xa1, b'v'];
        nested.extend(std::iter::repeat_n(0x91, 1_000_000));
        nested.push(0xc0);
        nested.extend_from_slice(b"\xa2id\x05");
        assert_eq!(id_of(Encoding::Msgpack, &nested), Some(&[5][..]));
    }
}
