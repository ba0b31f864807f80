//! Each release's format, built from what it is known to send.

use super::write::{V, batch, good, ints};
use super::{decode, line, lines};
use crate::Decoder;
use penstock_event::{ColumnSet, Columns, Dictionary, NameKind};
use serde_json::{Value, json};

/// Elements of a stored event of two blocks of two tokens, in array order, from
/// the hashes to the LoRA id; `more` follows.
fn stored(more: &[V]) -> V {
    let mut fields = vec![
        V::S("BlockStored"),
        ints([10, 11]),
        V::U(9),
        ints([1, 200, 60_000, 100_000]),
        V::U(2),
        V::Nil,
    ];
    fields.extend_from_slice(more);
    V::A(fields)
}

fn removed(more: &[V]) -> V {
    let mut fields = vec![V::S("BlockRemoved"), ints([10, 11])];
    fields.extend_from_slice(more);
    V::A(fields)
}

/// The same stored event as a map; fields at their default are left out.
fn stored_map(more: Vec<(&'static str, V)>) -> Vec<(&'static str, V)> {
    let mut fields = vec![
        ("type", V::S("BlockStored")),
        ("block_hashes", ints([10, 11])),
        ("parent_block_hash", V::U(9)),
        ("token_ids", ints([1, 200, 60_000, 100_000])),
        ("block_size", V::U(2)),
    ];
    fields.extend(more);
    fields
}

fn removed_map(more: Vec<(&'static str, V)>) -> V {
    let mut fields = vec![
        ("type", V::S("BlockRemoved")),
        ("block_hashes", ints([10, 11])),
    ];
    fields.extend(more);
    V::M(fields)
}

/// What every stored event above decodes to, but for `change`.
fn is_stored(change: Value) -> Value {
    let mut all = json!({
        "kind": "stored", "hashes": ["10", "11"], "parent": "9",
        "tokens": [1, 200, 60_000, 100_000], "block_size": 2,
        "medium": null, "lora": null, "group": null, "salt": null,
    });
    overlay(&mut all, change);
    all
}

fn is_removed(change: Value) -> Value {
    let mut all = json!({
        "kind": "removed", "hashes": ["10", "11"], "medium": null, "group": null,
    });
    overlay(&mut all, change);
    all
}

fn overlay(all: &mut Value, change: Value) {
    for (key, value) in change.as_object().unwrap() {
        all[key] = value.clone();
    }
}

fn check(name: &str, found: &Value, expected: &Value) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&found[key], value, "{name}: {key} in {found}");
    }
}

fn nils(n: usize) -> Vec<V> {
    vec![V::Nil; n]
}

/// `known` after so many nils.
fn after(n: usize, known: &[V]) -> Vec<V> {
    let mut all = nils(n);
    all.extend_from_slice(known);
    all
}

#[test]
fn array_events_of_every_release() {
    let gpu = V::S("GPU");
    let table = [
        ("vllm 0.9.0", stored(&[]), is_stored(json!({}))),
        (
            "vllm 0.10.2",
            stored(std::slice::from_ref(&gpu)),
            is_stored(json!({"medium": "gpu"})),
        ),
        (
            "vllm 0.14",
            stored(&[gpu.clone(), V::S("ada")]),
            is_stored(json!({"medium": "gpu", "lora": "ada"})),
        ),
        (
            "vllm 0.16, trailing nils",
            stored(&[gpu.clone(), V::Nil, V::Nil]),
            is_stored(json!({"medium": "gpu"})),
        ),
        (
            "vllm 0.20",
            stored(&[gpu.clone(), V::Nil, V::A(nils(2)), V::U(3)]),
            is_stored(json!({"medium": "gpu", "group": 3})),
        ),
        (
            "vllm 0.22",
            stored(&after(3, &[V::U(0), V::S("sliding_window"), V::U(4096)])),
            is_stored(json!({"group": 0})),
        ),
        (
            "a later array",
            stored(&after(6, &[V::S("REMOTE"), V::A(nils(3)), V::M(vec![])])),
            is_stored(json!({"remote": true})),
        ),
        ("sglang, six", stored(&[]), is_stored(json!({}))),
        (
            "sglang 0.5.18, a map for the eighth",
            stored(&[
                gpu.clone(),
                V::M(vec![
                    ("cache_salt", V::S("tenant")),
                    ("session_id", V::A(vec![V::Nil])),
                ]),
            ]),
            is_stored(json!({"medium": "gpu", "salt": "tenant"})),
        ),
        (
            "sglang 0.5.18, an empty map",
            stored(&[V::S("CPU"), V::M(vec![])]),
            is_stored(json!({"medium": "cpu"})),
        ),
        ("vllm 0.9.0 removed", removed(&[]), is_removed(json!({}))),
        (
            "vllm 0.10.2 removed",
            removed(std::slice::from_ref(&gpu)),
            is_removed(json!({"medium": "gpu"})),
        ),
        (
            "vllm 0.20 removed",
            removed(&[gpu.clone(), V::U(1)]),
            is_removed(json!({"medium": "gpu", "group": 1})),
        ),
        (
            "a later removed array",
            removed(&[V::Nil, V::Nil, V::S("REMOTE"), V::S("owner"), V::U(5)]),
            is_removed(json!({"remote": true})),
        ),
        (
            "cleared",
            V::A(vec![V::S("AllBlocksCleared")]),
            json!({"kind": "cleared"}),
        ),
        (
            "cleared, grown",
            V::A(vec![V::S("AllBlocksCleared"), V::Nil, V::U(1)]),
            json!({"kind": "cleared"}),
        ),
    ];
    for (name, event, expected) in table {
        check(name, &line(event), &expected);
    }
}

#[test]
fn map_events_of_every_release() {
    let table = [
        (
            "sglang 0.5.20",
            V::M(stored_map(vec![])),
            is_stored(json!({})),
        ),
        (
            "sglang 0.5.22",
            V::M(stored_map(vec![
                ("cache_salt", V::S("tenant")),
                ("session_id", V::S("s")),
                ("lora_name", V::S("ada")),
            ])),
            is_stored(json!({"salt": "tenant", "lora": "ada"})),
        ),
        (
            "vllm 0.26",
            V::M(stored_map(vec![
                ("medium", V::S("GPU")),
                ("locality", V::S("LOCAL")),
                ("group_idx", V::U(0)),
                ("kv_cache_spec_kind", V::S("full_attention")),
            ])),
            is_stored(json!({"medium": "gpu", "group": 0, "remote": null})),
        ),
        (
            "vllm 0.30, remote",
            V::M(stored_map(vec![
                ("locality", V::S("REMOTE")),
                ("ownership", V::M(vec![("who", ints([1, 2]))])),
                ("session_id", V::S("s")),
            ])),
            is_stored(json!({"remote": true})),
        ),
        (
            "vllm 0.33, non-minimal header",
            V::M16(stored_map(vec![("lookahead_token_ids", ints([7, 8, 9]))])),
            is_stored(json!({})),
        ),
        (
            "mooncake",
            V::M(vec![
                ("event_type", V::S("BlockStored")),
                ("type", V::S("kv")),
                ("block_hashes", ints([10, 11])),
                ("token_ids", V::Nil),
                ("block_size", V::U(2)),
            ]),
            is_stored(json!({"parent": null, "tokens": [], "token_hashes": null})),
        ),
        (
            "tensorrt-llm, a string among the tokens",
            V::M(vec![
                ("type", V::S("BlockStored")),
                ("block_hashes", ints([10, 11])),
                ("parent_block_hash", V::U(9)),
                (
                    "token_ids",
                    V::A(vec![V::U(1), V::S("digest"), V::U(3), V::U(4)]),
                ),
                ("block_size", V::U(2)),
            ]),
            is_stored(json!({"tokens": [], "token_hashes": null})),
        ),
        (
            "removed",
            removed_map(vec![
                ("medium", V::S("GPU")),
                ("group_idx", V::U(2)),
                ("locality", V::S("REMOTE")),
                ("ownership", V::Nil),
            ]),
            is_removed(json!({"medium": "gpu", "group": 2, "remote": true})),
        ),
        (
            "cleared",
            V::M(vec![("type", V::S("AllBlocksCleared"))]),
            json!({"kind": "cleared"}),
        ),
    ];
    for (name, event, expected) in table {
        check(name, &line(event), &expected);
    }
}

#[test]
fn map_keys_come_in_any_order() {
    let fields = stored_map(vec![
        ("lora_name", V::S("ada")),
        ("extra_keys", V::A(vec![V::Nil, V::A(vec![V::S("x")])])),
        (
            "unheard_of",
            V::M(vec![("a", V::A(vec![V::Nil, V::F(1.0)]))]),
        ),
    ]);
    let expected = line(V::M(fields.clone()));
    assert_eq!(expected["extra_digests"][0], "0");
    for turn in 1..fields.len() {
        let mut turned = fields.clone();
        turned.rotate_left(turn);
        assert_eq!(line(V::M(turned.clone())), expected);
        turned.reverse();
        assert_eq!(line(V::M(turned)), expected);
    }
}

#[test]
fn aibrix_batches_are_maps() {
    let event = |tag, time, more: Vec<(&'static str, V)>| {
        let mut fields = vec![
            ("type", V::S(tag)),
            ("timestamp", time),
            ("model_name", V::S("llama")),
        ];
        fields.extend(more);
        V::M(fields)
    };
    let stored = vec![
        ("block_hashes", V::A(vec![V::I64(-2), V::I(5)])),
        (
            "token_ids",
            V::A(vec![V::A(vec![V::I(-1), V::I(2)]), ints([3, 4])]),
        ),
        ("parent_block_hash", V::I(-3)),
    ];
    let payload = V::M(vec![
        ("note", V::M(vec![("nested", V::A(vec![V::Nil]))])),
        (
            "events",
            V::A(vec![
                event("BLOCK_STORED", V::U(1_700_000_000), stored.clone()),
                event("BlockStored", V::F(1_700_000_000.5), stored),
                event(
                    "BLOCK_REMOVED",
                    V::Ext(-1, 1_700_000_001u32.to_be_bytes().to_vec()),
                    vec![("block_hashes", ints([5]))],
                ),
                event("ALL_BLOCKS_CLEARED", V::S("2023-11-14T22:13:22Z"), vec![]),
            ]),
        ),
    ])
    .bytes();
    let found = lines(&payload);
    let minus = |v: i64| (v as u64).to_string();
    let expected = [
        json!({
            "kind": "stored", "hashes": [minus(-2), "5"], "parent": minus(-3),
            "tokens": [u32::MAX, 2, 3, 4], "block_size": 2, "model": "llama",
            "bigram": null, "time_us": 1_700_000_000_000_000i64,
        }),
        json!({"kind": "stored", "time_us": 1_700_000_000_500_000i64, "block_size": 2}),
        json!({"kind": "removed", "hashes": ["5"], "time_us": 1_700_000_001_000_000i64}),
        json!({"kind": "cleared", "time_us": 1_700_000_002_000_000i64, "model": "llama"}),
    ];
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        check("aibrix", found, expected);
    }
    assert!(found[0]["token_hashes"].is_array());
    assert_eq!(decode(&payload).head.published_us, 1_700_000_000_000_000);
}

#[test]
fn envelopes() {
    let events = || V::A(vec![good(1)]);
    let table = [
        ("two elements", vec![V::F(1.5), events()], 1_500_000, None),
        (
            "three",
            vec![V::F(1.5), events(), V::U(3)],
            1_500_000,
            Some(3),
        ),
        (
            "no rank",
            vec![V::F(1.5), events(), V::Nil],
            1_500_000,
            None,
        ),
        (
            "grown",
            vec![
                V::F(1.5),
                events(),
                V::U(3),
                V::M(vec![("a", V::Nil)]),
                V::U(9),
            ],
            1_500_000,
            Some(3),
        ),
        (
            "mooncake's milliseconds",
            vec![V::U(1_700_000_000_123), events(), V::U(0)],
            1_700_000_000_123_000,
            Some(0),
        ),
        ("no time", vec![V::Nil, events(), V::U(0)], 0, Some(0)),
        (
            "odd time",
            vec![V::A(nils(2)), events(), V::U(0)],
            0,
            Some(0),
        ),
    ];
    for (name, elements, published_us, rank) in table {
        let decoded = decode(&V::A(elements).bytes());
        assert_eq!(decoded.columns.len(), 1, "{name}");
        assert_eq!(decoded.skipped, [], "{name}");
        assert_eq!(decoded.head.published_us, published_us, "{name}");
        assert_eq!(decoded.head.rank, rank, "{name}");
    }
}

#[test]
fn media_names_in_any_case() {
    let table = [
        ("GPU DEVICE gpu Device", "gpu"),
        ("CPU CPU_PINNED CPU_TIER1 cpu_pinned", "cpu"),
        ("CPU_TIER2 DISK NVME STORAGE FS fs", "disk"),
        ("EXTERNAL NETWORK REMOTE SHARED OBJ obj", "external"),
        ("TAPE CPU_TIER3 GPU0", "unknown"),
    ];
    for (names, expected) in table {
        for name in names.split(' ') {
            let found = line(removed_map(vec![("medium", V::Own(name.into()))]));
            assert_eq!(found["medium"], expected, "{name}");
            let raw = if expected == "unknown" {
                json!(name)
            } else {
                Value::Null
            };
            assert_eq!(found["medium_name"], raw, "{name}");
        }
    }
    assert_eq!(line(removed(&[V::S("")]))["medium"], Value::Null);
    let numbered = line(removed(&[V::U(2)]));
    assert_eq!(numbered["medium"], "unknown");
    assert_eq!(numbered["medium_name"], "2");
}

#[test]
fn adapters_by_name_or_number() {
    let table = [
        (V::U(7), V::Nil, json!("7")),
        (V::I(-7), V::Nil, json!("-7")),
        (V::U(7), V::S(""), json!("7")),
        (V::U(7), V::S("ada"), json!("ada")),
        (V::S("uuid"), V::Nil, json!("uuid")),
        (V::S("uuid"), V::S("ada"), json!("ada")),
        (V::S("uuid"), V::S(""), json!("uuid")),
        (V::Nil, V::S(""), Value::Null),
    ];
    for (id, name, expected) in table {
        let event = stored_map(vec![("lora_id", id), ("lora_name", name)]);
        assert_eq!(line(V::M(event.clone()))["lora"], expected);
        let reversed = event.into_iter().rev().collect();
        assert_eq!(line(V::M(reversed))["lora"], expected);
    }
}

#[test]
fn names_keep_their_codes_among_many() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let event = |name| {
        V::M(stored_map(vec![
            ("lora_name", V::S(name)),
            ("medium", V::S(name)),
        ]))
    };
    let twice: Vec<V> = names
        .iter()
        .chain(names.iter().rev())
        .map(|n| event(n))
        .collect();
    let payload = batch(twice);
    // A decoder serves many sources: codes are those of the dictionary at hand.
    let used = Dictionary::default();
    used.code(NameKind::Salt, "first");
    let mut decoder = Decoder::default();
    for dictionary in [Dictionary::default(), used] {
        let (mut columns, mut skipped) = (Columns::default(), Vec::new());
        decoder
            .decode(
                &payload,
                ColumnSet::TOKEN_HASHES,
                &dictionary,
                &mut columns,
                &mut skipped,
            )
            .unwrap();
        for (i, name) in names.iter().chain(names.iter().rev()).enumerate() {
            let row = columns.event(i);
            assert_eq!(row.adapter, dictionary.code(NameKind::Adapter, name));
            assert_eq!(row.medium_name, dictionary.code(NameKind::Medium, name));
            let blocks = columns.blocks(i);
            let twin = columns.blocks(2 * names.len() - 1 - i);
            assert_eq!(columns.token_hashes[blocks], columns.token_hashes[twin]);
        }
        assert_ne!(columns.token_hashes[0], columns.token_hashes[2]);
    }
}
