//! Block hashes in all their forms, and token hashes against a plain computation.

use super::decode;
use super::write::{V, batch, ints};
use penstock_event::flags;
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[test]
fn hashes_of_every_kind() {
    let long: Vec<u8> = (1..=32).collect();
    let tail = u64::from_be_bytes([25, 26, 27, 28, 29, 30, 31, 32]);
    let table: Vec<(V, u64, Vec<u8>)> = vec![
        (V::U(0), 0, vec![0; 8]),
        (V::U(5), 5, 5u64.to_be_bytes().to_vec()),
        (V::U(300), 300, 300u64.to_be_bytes().to_vec()),
        (V::U(u64::MAX), u64::MAX, vec![0xff; 8]),
        (V::I(-1), u64::MAX, vec![0xff; 8]),
        (
            V::I(-40_000),
            -40_000i64 as u64,
            (-40_000i64).to_be_bytes().to_vec(),
        ),
        (
            V::I64(i64::MIN),
            1 << 63,
            (1u64 << 63).to_be_bytes().to_vec(),
        ),
        (V::B(long.clone()), tail, long),
        (V::B(vec![1, 2, 3]), 0x01_0203, vec![1, 2, 3]),
        (V::B(vec![9; 8]), 0x0909_0909_0909_0909, vec![9; 8]),
    ];
    let list = V::A(table.iter().map(|(v, ..)| v.clone()).collect());
    let found = decode(&batch(vec![V::A(vec![V::S("BlockRemoved"), list])])).columns;
    let ids: Vec<u64> = table.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(found.hashes, ids);
    let mut start = 0;
    for ((_, _, whole), end) in table.iter().zip(&found.whole_hash_ends) {
        assert_eq!(&found.whole_hashes[start..*end as usize], whole);
        start = *end as usize;
    }
    assert_eq!(start, found.whole_hashes.len());
}

#[test]
fn a_parent_of_zero_is_a_parent() {
    for (parent, flag, hash) in [
        (V::U(0), flags::PARENT, 0),
        (V::Nil, 0, 0),
        (V::B(vec![0, 7]), flags::PARENT, 7),
        (V::I(-1), flags::PARENT, u64::MAX),
    ] {
        let event = V::M(vec![
            ("type", V::S("BlockStored")),
            ("block_hashes", ints([1])),
            ("parent_block_hash", parent),
        ]);
        let found = decode(&batch(vec![event])).columns;
        assert_eq!(found.event(0).flags, flag);
        assert_eq!(found.parents, [hash]);
    }
}

/// A block's hash, computed as the definition reads.
fn reference(tokens: &[u32], adapter: &str, salt: &str, images: &[u64]) -> u64 {
    let mut seed = 1337u64;
    if !adapter.is_empty() {
        seed = seed.wrapping_add(xxh3_64_with_seed(adapter.as_bytes(), 0));
    }
    if !salt.is_empty() {
        seed = seed.wrapping_add(xxh3_64_with_seed(salt.as_bytes(), 1));
    }
    let mut bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
    let mut images = images.to_vec();
    images.sort_unstable();
    bytes.extend(images.iter().flat_map(|i| i.to_le_bytes()));
    xxh3_64_with_seed(&bytes, seed)
}

fn event(tokens: V, size: u64, lora: V, salt: V, extra: V) -> V {
    V::M(vec![
        ("extra_keys", extra),
        ("cache_salt", salt),
        ("lora_name", lora),
        ("token_ids", tokens),
        ("block_size", V::U(size)),
        ("block_hashes", ints([1, 2])),
        ("type", V::S("BlockStored")),
    ])
}

#[test]
fn token_hashes_equal_a_plain_computation() {
    // Beyond 240 bytes XXH3 takes another way: both sizes.
    for size in [2usize, 100] {
        let tokens: Vec<u32> = (0..2 * size as u32).map(|t| t * 977).collect();
        let list = || ints(tokens.iter().map(|t| u64::from(*t)));
        for (lora, salt) in [("", ""), ("ada", ""), ("", "tenant"), ("ada", "tenant")] {
            let event = event(list(), size as u64, V::S(lora), V::S(salt), V::Nil);
            let found = decode(&batch(vec![event])).columns;
            let expected: Vec<u64> = tokens
                .chunks(size)
                .map(|block| reference(block, lora, salt, &[]))
                .collect();
            assert_eq!(found.token_hashes, expected, "{lora} {salt}");
        }
    }
}

#[test]
fn a_number_stands_for_its_decimal_name() {
    let event = V::M(vec![
        ("type", V::S("BlockStored")),
        ("block_hashes", ints([1])),
        ("token_ids", ints([1, 2])),
        ("block_size", V::U(2)),
        ("lora_id", V::U(12)),
    ]);
    let found = decode(&batch(vec![event.clone(), event])).columns;
    let hash = reference(&[1, 2], "12", "", &[]);
    assert_eq!(found.token_hashes, [hash, hash]);
}

#[test]
fn bigram_windows_are_hashed_whole() {
    let pairs = V::A((1..5).map(|t| ints([t, t + 1])).collect());
    let found = decode(&batch(vec![event(pairs, 2, V::Nil, V::Nil, V::Nil)])).columns;
    let expected = [
        reference(&[1, 2, 3], "", "", &[]),
        reference(&[3, 4, 5], "", "", &[]),
    ];
    assert_eq!(found.token_hashes, expected);
}

#[test]
fn images_are_appended_sorted() {
    let digest = "00000000000000ff".repeat(4);
    let image = |id: V, offset| V::A(vec![id, V::I(offset)]);
    let extra = V::A(vec![
        V::A(vec![image(V::Own(digest), -3), image(V::U(7), 0)]),
        V::A(vec![image(V::S("not-hexadecimal"), 0)]),
    ]);
    let found = decode(&batch(vec![event(ints(1..5), 2, V::Nil, V::Nil, extra)])).columns;
    let expected = [
        reference(&[1, 2], "", "", &[0xff, 7]),
        reference(&[3, 4], "", "", &[]),
    ];
    assert_eq!(found.token_hashes, expected);
    assert!(found.extra_digests.iter().all(|digest| *digest != 0));
    assert_ne!(found.event(0).flags & flags::EXTRA_KEYS, 0);
}
