//! Payloads made to hurt.

use super::captures::payloads;
use super::write::{V, batch, good, ints};
use super::{decode, lines, try_decode};
use crate::{Decoder, Limits};
use penstock_event::{ColumnSet, Columns, Dictionary};
use proptest::prelude::*;

/// Header of an array of `len` values.
fn array32(len: u32) -> Vec<u8> {
    let mut bytes = vec![0xdd];
    bytes.extend(len.to_be_bytes());
    bytes
}

fn refused(payload: &[u8]) -> &'static str {
    let Err(e) = try_decode(payload) else {
        panic!("decoded");
    };
    assert!(e.too_large());
    e.code()
}

#[test]
fn two_thousand_levels_of_nesting() {
    for level in [vec![0x91], vec![0x81, 0xa1, b'k'], vec![0xdc, 0, 1]] {
        let mut nested = level.repeat(2_000);
        nested.push(0xc0);
        let deep = || V::Raw(nested.clone());
        let mut field = vec![("type", V::S("BlockRemoved")), ("x", deep())];
        field.push(("block_hashes", ints([1])));
        let found = decode(&batch(vec![good(1), V::M(field), good(3)]));
        assert_eq!(found.columns.hashes, [1, 2, 3, 4]);
        assert_eq!(found.skipped[0].code, "too_deep");
        // As an event, as a token, as the batch, and in place of the time.
        let found = decode(&batch(vec![deep(), good(3)]));
        assert_eq!(found.columns.hashes, [3, 4]);
        assert!(try_decode(&nested).is_err());
        let Err(e) = try_decode(&V::A(vec![deep(), V::A(vec![])]).bytes()) else {
            panic!("decoded");
        };
        assert_eq!(e.code(), "too_deep");
    }
}

#[test]
fn nesting_up_to_the_limit_is_skipped_over() {
    for (levels, good) in [(32, true), (33, false)] {
        let mut nested = vec![0x91; levels];
        nested.push(0xc0);
        let event = V::M(vec![
            ("x", V::Raw(nested)),
            ("type", V::S("AllBlocksCleared")),
        ]);
        assert_eq!(decode(&batch(vec![event])).skipped.is_empty(), good);
    }
}

#[test]
fn lengths_that_lie() {
    let lies: [Vec<u8>; 6] = [
        array32(u32::MAX),
        array32(1_000_000),
        vec![0xdf, 0xff, 0xff, 0xff, 0xff],
        vec![0xdb, 0xff, 0xff, 0xff, 0xff],
        vec![0xc6, 0xff, 0xff, 0xff, 0xff],
        vec![0xc9, 0xff, 0xff, 0xff, 0xff, 1],
    ];
    for lie in lies {
        assert!(try_decode(&lie).is_err());
        for field in ["block_hashes", "token_ids", "extra_keys", "medium", "x"] {
            let liar = V::M(vec![
                ("type", V::S("BlockStored")),
                (field, V::Raw(lie.clone())),
            ]);
            let found = decode(&batch(vec![good(1), liar, good(3)]));
            assert_eq!(found.columns.hashes, [1, 2], "{field}");
            assert_eq!(found.skipped.len(), 1, "{field}");
            assert!(found.columns.tokens.capacity() < 1_000, "{field}");
            assert!(found.columns.hashes.capacity() < 1_000, "{field}");
        }
        let events = V::A(vec![V::F(1.5), V::Raw(lie)]).bytes();
        assert!(try_decode(&events).is_err());
    }
}

#[test]
fn batches_beyond_the_limits() {
    let cleared = V::A(vec![V::S("AllBlocksCleared")]);
    let most = decode(&batch(vec![cleared.clone(); 65_536]));
    assert_eq!(most.columns.len(), 65_536);
    assert_eq!(refused(&batch(vec![cleared; 65_537])), "too_many_events");

    let removed = |n| V::A(vec![V::S("BlockRemoved"), ints(0..n)]);
    let most = decode(&batch(vec![removed(400_000), removed(600_000)]));
    assert_eq!(most.columns.hashes.len(), 1_000_000);
    let more = batch(vec![removed(400_000), removed(600_001)]);
    assert_eq!(refused(&more), "too_many_blocks");
    assert_eq!(lines(&more)[0]["error"], "too_many_blocks");

    let mut decoder = Decoder::new(Limits {
        max_tokens: 7,
        ..Limits::default()
    });
    for want in [ColumnSet::default(), ColumnSet::ALL] {
        let (mut columns, mut skipped) = (Columns::default(), Vec::new());
        let e = decoder
            .decode(
                &batch(vec![good(1), good(2)]),
                want,
                &Dictionary::default(),
                &mut columns,
                &mut skipped,
            )
            .unwrap_err();
        assert_eq!(e.code(), "too_many_tokens");
        assert_eq!(columns, Columns::default());
    }
}

/// Decodes and checks what must hold whatever the bytes.
fn survive(payload: &[u8]) -> Result<(), TestCaseError> {
    for want in [
        ColumnSet::ALL,
        ColumnSet::TOKEN_HASHES,
        ColumnSet::default(),
    ] {
        let (mut columns, mut skipped) = (Columns::default(), Vec::new());
        let dictionary = Dictionary::default();
        let done =
            Decoder::default().decode(payload, want, &dictionary, &mut columns, &mut skipped);
        // A hash of one byte takes 8 in each of four columns and 4 in a fifth.
        let events = columns.len() + skipped.len();
        prop_assert!(columns.bytes() <= 40 * payload.len() + 60 * events);
        prop_assert!(events <= payload.len() + 2);
        if done.is_err() {
            prop_assert_eq!(&columns, &Columns::default());
            prop_assert!(skipped.is_empty());
            continue;
        }
        for i in 0..columns.len() {
            let blocks = columns.blocks(i);
            prop_assert!(blocks.start <= blocks.end && blocks.end <= columns.hashes.len());
            let _ = columns.tokens_of(i);
        }
        if want == ColumnSet::ALL {
            prop_assert_eq!(columns.token_hashes.len(), columns.hashes.len());
            prop_assert_eq!(columns.extra_digests.len(), columns.hashes.len());
            prop_assert_eq!(columns.whole_hash_ends.len(), columns.hashes.len());
            prop_assert_eq!(columns.times.len(), columns.len());
            prop_assert_eq!(columns.token_ends.len(), columns.len());
        }
    }
    let _ = lines(payload);
    Ok(())
}

/// Payloads to start from: real ones, and one with every odd field.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = ["vllm-0.9.2", "vllm-0.32.0-engine", "sglang-0.5.23"]
        .iter()
        .flat_map(|name| payloads(name).into_iter().take(8))
        .map(|(_, payload)| payload)
        .collect();
    let odd = V::M(vec![
        (
            "token_ids",
            V::A((1..5).map(|t| ints([t, t + 1])).collect()),
        ),
        (
            "extra_keys",
            V::A(vec![V::Nil, V::A(vec![V::A(vec![V::S("ab"), V::U(1)])])]),
        ),
        (
            "mm_keys",
            V::A(vec![V::A(vec![V::M(vec![("hash", V::S("ab"))])]), V::Nil]),
        ),
        ("block_hashes", V::A(vec![V::B(vec![1; 32]), V::I64(-1)])),
        ("medium", V::S("TAPE")),
        ("timestamp", V::S("2023-11-14T22:13:22Z")),
        ("lora_name", V::M(vec![("cache_salt", V::S("s"))])),
        ("block_size", V::U(2)),
        ("type", V::S("BlockStored")),
    ]);
    seeds.push(V::M(vec![("events", V::A(vec![odd.clone(), good(1)]))]).bytes());
    seeds.push(batch(vec![odd, good(1)]));
    seeds
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_do_no_harm(payload in prop::collection::vec(any::<u8>(), 0..400)) {
        survive(&payload)?;
        // The same as the events of a batch.
        let mut framed = vec![0x93, 0xc0, 0xdc, 0, 40];
        framed.extend(payload);
        survive(&framed)?;
    }

    #[test]
    fn mutated_payloads_do_no_harm(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let seeds = SEEDS.get_or_init(seeds);
        let mut payload = pick.get(seeds).clone();
        for (at, byte) in edits {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        }
        survive(&payload)?;
    }
}

static SEEDS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
