//! A bad event costs itself alone.

use super::write::{V, batch, good, ints};
use super::{code, decode, lines, try_decode};
use crate::DecodeError;
use penstock_event::Skipped;
use serde_json::json;

/// A good event, unlike those of the tests, with one field replaced.
fn with(field: &'static str, value: V) -> V {
    let V::M(mut fields) = good(100) else {
        unreachable!()
    };
    fields.retain(|(name, _)| *name != field);
    fields.push((field, value));
    let key = V::A(vec![V::S("key")]);
    fields.push(("extra_keys", V::A(vec![key.clone(), key])));
    V::M(fields)
}

#[test]
fn bad_events_have_codes() {
    let pair = |a, b| ints([a, b]);
    let table = [
        (V::Nil, "not_an_event"),
        (V::S("BlockStored"), "not_an_event"),
        (V::A(vec![]), "missing_tag"),
        (V::M(vec![]), "missing_tag"),
        (V::M(vec![("block_hashes", ints([1]))]), "missing_tag"),
        (V::A(vec![V::U(1), ints([1])]), "bad_tag"),
        (with("type", V::U(1)), "bad_tag"),
        (V::A(vec![V::S("BlockPromoted"), ints([1])]), "unknown_tag"),
        (with("type", V::S("BlockPromoted")), "unknown_tag"),
        (V::M(vec![("type", V::S("Ignored"))]), "ignored_tag"),
        (V::A(vec![V::S("Ignored")]), "ignored_tag"),
        // Another kind's fields may be anything: the tag is to blame.
        (
            V::M(vec![("block_hashes", V::S("x")), ("type", V::S("New"))]),
            "unknown_tag",
        ),
        (V::A(vec![V::S("BlockStored")]), "missing_block_hashes"),
        (V::A(vec![V::S("BlockRemoved")]), "missing_block_hashes"),
        (
            V::M(vec![("type", V::S("BlockRemoved"))]),
            "missing_block_hashes",
        ),
        (V::A(vec![V::S("BlockStored"), ints([1])]), "missing_field"),
        (
            V::A(vec![V::S("BlockStored"), ints([1]), V::Nil, ints([1])]),
            "missing_field",
        ),
        (with("block_hashes", V::U(5)), "bad_block_hashes"),
        (with("block_hashes", V::Nil), "bad_block_hashes"),
        (
            with("block_hashes", V::A(vec![V::S("x")])),
            "bad_block_hashes",
        ),
        (
            with("block_hashes", V::A(vec![V::B(vec![])])),
            "bad_block_hashes",
        ),
        (
            with("block_hashes", V::A(vec![V::B(vec![1; 33])])),
            "bad_block_hashes",
        ),
        (
            with("block_hashes", V::A(vec![ints([1])])),
            "bad_block_hashes",
        ),
        (with("parent_block_hash", V::S("x")), "bad_parent"),
        (with("token_ids", V::U(1)), "bad_token_ids"),
        (with("token_ids", V::A(vec![V::F(1.0)])), "bad_token_ids"),
        (
            with("token_ids", V::A(vec![V::U(1 << 32)])),
            "bad_token_ids",
        ),
        (
            with("token_ids", V::A(vec![V::I(-(1 << 40))])),
            "bad_token_ids",
        ),
        (
            with("token_ids", V::A(vec![V::U(1), ints([2])])),
            "bad_token_ids",
        ),
        (
            with("token_ids", V::A(vec![ints([2]), V::U(1)])),
            "bad_token_ids",
        ),
        (
            with(
                "token_ids",
                V::A(vec![pair(1, 2), pair(9, 3), pair(3, 4), pair(4, 5)]),
            ),
            "bad_token_ids",
        ),
        (with("block_size", V::I(-1)), "bad_block_size"),
        (with("block_size", V::F(2.0)), "bad_block_size"),
        (with("lora_id", V::F(1.0)), "bad_lora"),
        (with("lora_name", V::U(1)), "bad_lora"),
        (with("lora_name", V::Raw(vec![0xa1, 0xff])), "bad_lora"),
        (with("lora_name", V::Own("x".repeat(1_025))), "bad_lora"),
        (with("cache_salt", V::U(1)), "bad_cache_salt"),
        (
            with("cache_salt", V::Raw(vec![0xa1, 0xff])),
            "bad_cache_salt",
        ),
        (with("model_name", V::U(1)), "bad_model_name"),
        (with("medium", V::A(vec![])), "bad_medium"),
        (with("group_idx", V::I(-1)), "bad_group_idx"),
        (with("timestamp", V::S("noon")), "bad_timestamp"),
        (with("timestamp", V::A(vec![])), "bad_timestamp"),
    ];
    for (event, expected) in table {
        assert_eq!(code(event.clone()), expected, "{event:?}");
    }
}

#[test]
fn the_rest_of_the_batch_goes_on() {
    // These fail late: one with hashes and tokens read, one with all but its row.
    let text = || V::Raw(vec![0xa1, 0xff]);
    let (lora, medium) = (with("lora_name", text()), with("medium", text()));
    let payload = batch(vec![good(1), lora, good(3), V::Nil, medium, good(5)]);
    let found = decode(&payload);
    let expected = decode(&batch(vec![good(1), good(3), good(5)]));
    assert_eq!(found.columns, expected.columns);
    assert_eq!(found.head, expected.head);
    let at = |event, code| Skipped {
        event,
        lost: 1,
        code,
    };
    assert_eq!(
        found.skipped,
        [
            at(1, "bad_lora"),
            at(3, "not_an_event"),
            at(4, "bad_medium")
        ]
    );
    let lines = lines(&payload);
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["stored", "error", "stored", "error", "error", "stored"]
    );
    assert_eq!(lines[3]["error"], "not_an_event");
    assert_eq!(lines[5]["hashes"], json!(["5", "6"]));
}

#[test]
fn broken_msgpack_keeps_what_came_before() {
    let whole = batch(vec![good(1), good(3), good(5)]);
    let cut = decode(&whole[..whole.len() - 20]);
    assert_eq!(cut.columns.hashes, [1, 2, 3, 4]);
    assert_eq!(
        cut.skipped,
        [Skipped {
            event: 2,
            lost: 1,
            code: "truncated"
        }]
    );

    // Cut in the first of three: all three are lost.
    let cut = decode(&whole[..20]);
    let skipped = cut.skipped[0];
    assert_eq!((cut.columns.len(), skipped.event, skipped.lost), (0, 0, 3));

    let invalid = V::A(vec![V::F(1.5), V::A(vec![good(1), V::Raw(vec![0xc1])])]);
    let found = decode(&invalid.bytes());
    assert_eq!(found.columns.hashes, [1, 2]);
    assert_eq!(
        found.skipped,
        [Skipped {
            event: 1,
            lost: 1,
            code: "invalid_marker"
        }]
    );
    assert_eq!(lines(&invalid.bytes())[1]["error"], "invalid_marker");
}

#[test]
fn trouble_after_the_events_is_reported_beside_them() {
    let mut trailing = batch(vec![good(1)]);
    trailing.push(0);
    let cut = V::A(vec![V::F(1.5), V::A(vec![good(1)]), V::Raw(vec![])]).bytes();
    let map = V::M(vec![
        ("events", V::A(vec![good(1)])),
        ("note", V::Raw(vec![0xc1])),
    ]);
    for (payload, code) in [
        (trailing, "trailing_bytes"),
        (cut, "truncated"),
        (map.bytes(), "invalid_marker"),
    ] {
        let found = decode(&payload);
        assert_eq!(found.columns.hashes, [1, 2]);
        let expected = Skipped {
            event: 1,
            lost: 0,
            code,
        };
        assert_eq!(found.skipped, [expected]);
        assert_eq!(lines(&payload)[1]["error"], code);
    }
}

#[test]
fn payloads_that_are_no_batch() {
    let table = [
        (vec![], "truncated"),
        (V::Nil.bytes(), "not_a_batch"),
        (V::A(vec![]).bytes(), "not_a_batch"),
        (V::A(vec![V::F(1.5)]).bytes(), "not_a_batch"),
        (V::A(vec![V::F(1.5), V::Nil]).bytes(), "no_events"),
        (V::A(vec![V::F(1.5), V::M(vec![])]).bytes(), "no_events"),
        (V::M(vec![]).bytes(), "no_events"),
        (V::M(vec![("events", V::Nil)]).bytes(), "no_events"),
        (V::M(vec![("ts", V::F(1.5))]).bytes(), "no_events"),
        (vec![0xc1], "invalid_marker"),
        (b"{\"events\": []}".to_vec(), "not_a_batch"),
    ];
    for (payload, code) in table {
        let Err(e) = try_decode(&payload) else {
            panic!("{payload:?} decoded");
        };
        assert_eq!(e.code(), code, "{payload:?}");
        assert!(!e.too_large());
        let lines = lines(&payload);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["kind"], "error");
        assert_eq!(lines[0]["error"], code);
    }
}

#[test]
fn errors_hold_the_offset() {
    let Err(e) = try_decode(&V::A(vec![V::U(1), V::Nil]).bytes()) else {
        panic!("decoded");
    };
    assert_eq!(e, DecodeError::NoEvents { at: 2 });
    assert_eq!(e.to_string(), "no list of events at byte 2");
}
