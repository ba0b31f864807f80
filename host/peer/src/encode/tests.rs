use super::*;
use crate::frames::{FramesReader, batch};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

struct Batch {
    ts: f64,
    events: Vec<Event>,
    rank: Option<u32>,
    payload: Vec<u8>,
}

/// A capture's batches as events, read through a generic msgpack reader.
fn recorded(name: &str) -> Vec<Batch> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures");
    FramesReader::open(&path.join(name))
        .unwrap()
        .map(|message| {
            let payload = batch(&message.unwrap()).unwrap().payload;
            let value = read(&mut &payload[..]);
            let rank = value[2].as_u64().map(|r| r as u32);
            let events = value[1].as_array().unwrap().iter().map(event).collect();
            Batch {
                ts: value[0].as_f64().unwrap(),
                events,
                rank,
                payload: payload.to_vec(),
            }
        })
        .collect()
}

fn read(from: &mut &[u8]) -> Value {
    use rmp::Marker::*;
    use rmp::decode;
    let peek = rmp::Marker::from_u8(from[0]);
    match peek {
        Null => {
            decode::read_nil(from).unwrap();
            Value::Null
        }
        F64 => decode::read_f64(from).unwrap().into(),
        FixStr(_) | Str8 | Str16 => {
            let length = decode::read_str_len(from).unwrap() as usize;
            let (text, rest) = from.split_at(length);
            *from = rest;
            std::str::from_utf8(text).unwrap().into()
        }
        FixArray(_) | Array16 => {
            let n = decode::read_array_len(from).unwrap();
            (0..n).map(|_| read(from)).collect()
        }
        FixMap(_) | Map16 => {
            let n = decode::read_map_len(from).unwrap();
            let pairs = (0..n).map(|_| (read(from), read(from)));
            let pairs = pairs.map(|(k, v)| (k.as_str().unwrap().to_owned(), v));
            Value::Object(pairs.collect())
        }
        U64 => decode::read_u64(from).unwrap().into(),
        _ => decode::read_int::<i64, _>(from).unwrap().into(),
    }
}

fn event(value: &Value) -> Event {
    const STORED: [&str; 6] = [
        "type",
        "block_hashes",
        "parent_block_hash",
        "token_ids",
        "block_size",
        "lora_id",
    ];
    let field = |name: &str| match value {
        Value::Object(map) => map.get(name).cloned().unwrap_or(Value::Null),
        array => STORED
            .iter()
            .position(|known| *known == name)
            .map_or(Value::Null, |at| array[at].clone()),
    };
    let hash = |v: &Value| v.as_u64().or_else(|| v.as_i64().map(i64::cast_unsigned));
    let hashes = |v: Value| -> Vec<u64> {
        let list = v.as_array().cloned().unwrap_or_default();
        list.iter().filter_map(hash).collect()
    };
    let text = |v: Value| v.as_str().map(Arc::from);
    let number = |v: Value| v.as_u64().map(|n| n as u32);
    match field("type").as_str().unwrap() {
        "BlockStored" => Event::Stored(Stored {
            hashes: hashes(field("block_hashes")),
            parent: hash(&field("parent_block_hash")),
            tokens: hashes(field("token_ids"))
                .iter()
                .map(|t| *t as u32)
                .collect(),
            block_size: number(field("block_size")).unwrap(),
            lora_id: field("lora_id").as_i64(),
            lora_name: text(field("lora_name")),
            medium: text(field("medium")),
            extra_keys: field("extra_keys").as_array().map(|blocks| {
                let keys = |block: &Value| {
                    let keys = block.as_array()?;
                    let key = |k: &Value| ExtraKey::Text(k.as_str().unwrap().into());
                    Some(keys.iter().map(key).collect())
                };
                blocks.iter().map(keys).collect()
            }),
            group: number(field("group_idx")),
            spec_kind: text(field("kv_cache_spec_kind")),
            sliding_window: number(field("kv_cache_spec_sliding_window")),
            salt: text(field("cache_salt")),
        }),
        "BlockRemoved" => Event::Removed(Removed {
            hashes: hashes(field("block_hashes")),
            medium: text(field("medium")),
            group: number(field("group_idx")),
        }),
        _ => Event::Cleared,
    }
}

#[test]
fn captures_are_reproduced_byte_for_byte() {
    for (name, release) in [
        ("vllm-0.9.2.frames", Release::Vllm0_9),
        ("vllm-0.32.0-engine.frames", Release::Vllm0_26),
        ("sglang-0.5.23.frames", Release::Sglang0_5_23),
    ] {
        let batches = recorded(name);
        assert_eq!(batches.len(), 107, "{name}");
        for (at, batch) in batches.iter().enumerate() {
            let style = Style::of(release);
            let encoded = encode_batch(batch.ts, &batch.events, batch.rank, style);
            assert!(encoded == batch.payload, "{name}: batch {at}");
        }
    }
}

fn sample() -> Vec<Event> {
    vec![
        Event::Stored(Stored {
            hashes: vec![u64::MAX, 2],
            parent: Some(7),
            tokens: vec![1, 2, 300, 70_000],
            block_size: 2,
            lora_id: Some(1),
            lora_name: Some("adapter".into()),
            medium: Some("GPU".into()),
            extra_keys: Some(vec![
                None,
                Some(vec![
                    ExtraKey::Text("salt".into()),
                    ExtraKey::Item("image".into(), -3),
                ]),
            ]),
            group: Some(0),
            salt: Some("salt".into()),
            ..Stored::default()
        }),
        Event::Removed(Removed {
            hashes: vec![u64::MAX],
            medium: Some("GPU".into()),
            group: None,
        }),
        Event::Cleared,
    ]
}

#[test]
fn each_release_has_its_shape() {
    // Elements of the batch, and of each event.
    for (release, batch, shapes) in [
        (Release::Vllm0_9_0, 2, [6, 2, 1]),
        (Release::Vllm0_9, 3, [6, 2, 1]),
        (Release::Vllm0_10, 3, [7, 3, 1]),
        (Release::Vllm0_23, 3, [12, 4, 1]),
        (Release::Vllm0_26, 3, [10, 3, 1]),
        (Release::Sglang0_5_10, 3, [7, 3, 1]),
        (Release::Sglang0_5_18, 3, [8, 3, 1]),
        (Release::Sglang0_5_23, 3, [9, 3, 1]),
    ] {
        let bytes = encode_batch(1.5, &sample(), Some(3), Style::of(release));
        let mut rest = &bytes[..];
        let value = read(&mut rest);
        assert!(rest.is_empty(), "{release:?}");
        assert_eq!(value.as_array().unwrap().len(), batch, "{release:?}");
        let events = value[1].as_array().unwrap();
        let length = |e: &Value| match e {
            Value::Object(map) => map.len(),
            other => other.as_array().unwrap().len(),
        };
        let lengths: Vec<usize> = events.iter().map(length).collect();
        assert_eq!(lengths, shapes, "{release:?}");
        if batch == 3 {
            assert_eq!(value[2], 3, "{release:?}");
        }
        let signed = Style::of(release).hashes == HashForm::Signed;
        let first = match &events[0] {
            Value::Object(map) => &map["block_hashes"][0],
            array => &array[1][0],
        };
        let expected: Value = if signed { (-1).into() } else { u64::MAX.into() };
        assert_eq!(*first, expected, "{release:?}");
    }
}

#[test]
fn extra_keys_are_a_list_a_block() {
    let bytes = encode_batch(0.0, &sample(), None, Style::ARRAY);
    let value = read(&mut &bytes[..]);
    let expected = serde_json::json!([null, ["salt", ["image", -3]]]);
    assert_eq!(value[1][0][8], expected);
    assert_eq!(value[2], Value::Null);
}

#[test]
fn aibrix_batches_are_maps_with_a_list_of_tokens_a_block() {
    let bytes = encode_batch(9.7, &sample(), None, Style::of(Release::Aibrix));
    let value = read(&mut &bytes[..]);
    let first = &value["events"][0];
    assert_eq!(first["type"], "BLOCK_STORED");
    assert_eq!(first["timestamp"], 9);
    assert_eq!(
        first["token_ids"],
        serde_json::json!([[1, 2], [300, 70_000]])
    );
    assert_eq!(value["events"][2]["type"], "ALL_BLOCKS_CLEARED");
}

#[test]
fn headers_and_hashes_take_the_form_asked_for() {
    let cleared = [Event::Cleared];
    let long = encode_batch(0.0, &cleared, None, Style::of(Release::Vllm0_33));
    assert_eq!(long[11..14], [0xde, 0, 1]);
    let style: Style = "map+bytes".parse().unwrap();
    let removed = Event::Removed(Removed {
        hashes: vec![0x0102_0304_0506_0708],
        ..Removed::default()
    });
    let bytes = encode_batch(0.0, &[removed], None, style);
    let at = bytes.windows(2).position(|w| w == [0xc4, 32]).unwrap();
    assert_eq!(bytes[at + 2 + 24..at + 2 + 32], [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn styles_have_names() {
    for (name, release) in RELEASES {
        assert_eq!(name.parse::<Style>().unwrap(), Style::of(release));
        let json = serde_json::to_value(release).unwrap();
        assert_eq!(json, name);
    }
    assert!("vllm".parse::<Style>().is_err());
    assert!("map+hex".parse::<Style>().is_err());
}
