//! Which blocks count as having extra keys.

use super::write::{V, batch, ints};
use super::{code, decode};
use penstock_event::flags;

fn event(more: Vec<(&'static str, V)>) -> V {
    let mut fields = vec![
        ("type", V::S("BlockStored")),
        ("block_hashes", ints([1, 2])),
        ("token_ids", ints(1..5)),
        ("block_size", V::U(2)),
    ];
    fields.extend(more);
    V::M(fields)
}

fn list(keys: &[V]) -> V {
    V::A(keys.to_vec())
}

#[test]
fn the_names_of_adapter_and_salt_are_no_extra_keys() {
    let lora = || ("lora_name", V::S("ada"));
    let ada = || V::S("ada");
    let other = || V::S("other");
    // fields -> which blocks have a digest
    let table = [
        (vec![("extra_keys", V::Nil)], [false, false]),
        (vec![("extra_keys", list(&[]))], [false, false]),
        (
            vec![("extra_keys", list(&[V::Nil, V::Nil]))],
            [false, false],
        ),
        (
            vec![("extra_keys", list(&[V::Nil, list(&[])]))],
            [false, false],
        ),
        (
            vec![("extra_keys", list(&[V::Nil, list(&[other()])]))],
            [false, true],
        ),
        (
            vec![
                lora(),
                ("extra_keys", list(&[list(&[ada()]), list(&[ada()])])),
            ],
            [false, false],
        ),
        (
            vec![
                lora(),
                (
                    "extra_keys",
                    list(&[list(&[ada(), other()]), list(&[ada()])]),
                ),
            ],
            [true, false],
        ),
        // Without the adapter the same string is a key.
        (
            vec![("extra_keys", list(&[list(&[ada()]), V::Nil]))],
            [true, false],
        ),
        (
            vec![
                ("cache_salt", V::S("s")),
                ("extra_keys", list(&[list(&[V::S("s")]), V::Nil])),
            ],
            [false, false],
        ),
        (
            vec![
                ("lora_id", V::U(4)),
                ("extra_keys", list(&[list(&[V::U(4)]), list(&[V::S("4")])])),
            ],
            [false, false],
        ),
        (
            vec![(
                "extra_keys",
                list(&[V::Nil, list(&[list(&[V::S("img"), V::U(0)])])]),
            )],
            [false, true],
        ),
        (
            vec![(
                "mm_keys",
                list(&[
                    list(&[V::M(vec![("hash", V::S("ab")), ("start_offset", V::U(0))])]),
                    V::Nil,
                ]),
            )],
            [true, false],
        ),
        // Lists that do not match the blocks: whose they are is unknown.
        (
            vec![("extra_keys", list(&[list(&[other()])]))],
            [true, true],
        ),
        (vec![("extra_keys", list(&[other(), V::Nil]))], [true, true]),
        (
            vec![("extra_keys", list(&[V::Nil, V::Nil, V::Nil]))],
            [false, false],
        ),
    ];
    for (fields, expected) in table {
        let found = decode(&batch(vec![event(fields.clone())])).columns;
        let digests: Vec<bool> = found.extra_digests.iter().map(|d| *d != 0).collect();
        assert_eq!(digests, expected, "{fields:?}");
        let flag = found.event(0).flags & flags::EXTRA_KEYS != 0;
        assert_eq!(flag, expected.contains(&true), "{fields:?}");
        assert_ne!(found.event(0).flags & flags::TOKEN_HASHES, 0, "{fields:?}");
    }
}

#[test]
fn digests_tell_keys_apart_and_repeat() {
    let one = |key| event(vec![("extra_keys", list(&[list(&[key]), V::Nil]))]);
    let found = decode(&batch(vec![one(V::S("a")), one(V::S("b")), one(V::S("a"))])).columns;
    let digest = &found.extra_digests;
    assert_ne!(digest[0], digest[2]);
    assert_eq!(digest[0], digest[4]);
}

#[test]
fn keys_of_another_type_are_an_error() {
    assert_eq!(code(event(vec![("extra_keys", V::U(1))])), "bad_extra_keys");
    assert_eq!(code(event(vec![("mm_keys", V::S("x"))])), "bad_extra_keys");
}
