//! Shapes of token lists, and which of them have token hashes.

use super::decode;
use super::write::{V, batch, ints};
use penstock_event::{ColumnSet, Columns, Dictionary, flags};

fn event(blocks: u64, tokens: V, size: Option<u64>) -> V {
    let mut fields = vec![
        ("type", V::S("BlockStored")),
        ("block_hashes", ints(0..blocks)),
        ("token_ids", tokens),
    ];
    fields.extend(size.map(|size| ("block_size", V::U(size))));
    V::M(fields)
}

fn pairs(tokens: &[u64]) -> V {
    V::A(tokens.windows(2).map(|w| ints(w.iter().copied())).collect())
}

fn lists(lists: &[&[u64]]) -> V {
    V::A(lists.iter().map(|l| ints(l.iter().copied())).collect())
}

#[test]
fn shapes_of_token_lists() {
    // blocks, tokens, block size sent -> tokens, block size, bigram, hashed
    type Case = (&'static str, V, Vec<u32>, u32, bool, bool);
    let table: Vec<Case> = vec![
        (
            "flat",
            event(2, ints(1..5), Some(2)),
            vec![1, 2, 3, 4],
            2,
            false,
            true,
        ),
        (
            "sliding window",
            event(1, ints(1..5), Some(2)),
            vec![1, 2, 3, 4],
            2,
            false,
            false,
        ),
        (
            "no blocks",
            event(0, ints(1..5), Some(2)),
            vec![1, 2, 3, 4],
            2,
            false,
            false,
        ),
        (
            "too few",
            event(2, ints(1..4), Some(2)),
            vec![1, 2, 3],
            2,
            false,
            false,
        ),
        (
            "placeholder",
            event(2, ints(0..0), Some(0)),
            vec![],
            0,
            false,
            false,
        ),
        (
            "no block size",
            event(2, ints(1..5), None),
            vec![1, 2, 3, 4],
            0,
            false,
            false,
        ),
        (
            "bigrams",
            event(2, pairs(&[1, 2, 3, 4, 5]), Some(2)),
            vec![1, 2, 3, 3, 4, 5],
            2,
            true,
            true,
        ),
        (
            "bigrams, size 1",
            event(2, pairs(&[1, 2, 3]), Some(1)),
            vec![1, 2, 2, 3],
            1,
            true,
            true,
        ),
        (
            "bigrams, one block",
            event(1, pairs(&[1, 2, 3, 4, 5]), Some(4)),
            vec![1, 2, 3, 4, 5],
            4,
            true,
            true,
        ),
        (
            "bigrams, sliding window",
            event(1, pairs(&[1, 2, 3, 4]), Some(2)),
            vec![1, 2, 3, 3, 4],
            2,
            true,
            false,
        ),
        (
            "a list a block",
            event(2, lists(&[&[1, 2, 3], &[4, 5, 6]]), None),
            vec![1, 2, 3, 4, 5, 6],
            3,
            false,
            true,
        ),
        (
            "a list a block, of two",
            event(2, lists(&[&[1, 2], &[3, 4]]), None),
            vec![1, 2, 3, 4],
            2,
            false,
            true,
        ),
        (
            "a list a block, of two, size sent",
            event(2, lists(&[&[1, 2], &[3, 4]]), Some(2)),
            vec![1, 2, 3, 4],
            2,
            false,
            true,
        ),
        (
            "uneven lists",
            event(2, lists(&[&[1, 2, 3], &[4]]), Some(2)),
            vec![1, 2, 3, 4],
            2,
            false,
            false,
        ),
        (
            "digests within lists",
            event(1, V::A(vec![V::A(vec![V::U(1), V::B(vec![0; 32])])]), None),
            vec![],
            0,
            false,
            false,
        ),
        (
            "every width of integer",
            event(
                1,
                V::A(vec![
                    V::U(1),
                    V::U(200),
                    V::U(60_000),
                    V::U(70_000),
                    V::Raw(vec![0xcf, 0, 0, 0, 0, 0, 0, 0, 9]),
                    V::I(-1),
                    V::I(-100),
                    V::I(-1000),
                    V::I(-100_000),
                    V::I64(12),
                ]),
                Some(10),
            ),
            vec![
                1,
                200,
                60_000,
                70_000,
                9,
                -1i32 as u32,
                -100i32 as u32,
                -1000i32 as u32,
                -100_000i32 as u32,
                12,
            ],
            10,
            false,
            true,
        ),
    ];
    for (name, event, tokens, block_size, bigram, hashed) in table {
        let found = decode(&batch(vec![event])).columns;
        assert_eq!(found.tokens, tokens, "{name}");
        assert_eq!(found.token_ends, [tokens.len() as u32], "{name}");
        let row = found.event(0);
        assert_eq!(row.block_size, block_size, "{name}");
        assert_eq!(row.flags & flags::BIGRAM != 0, bigram, "{name}");
        assert_eq!(row.flags & flags::TOKEN_HASHES != 0, hashed, "{name}");
        assert_eq!(found.token_hashes.len(), found.hashes.len(), "{name}");
        let zeros = found.token_hashes.iter().all(|hash| *hash == 0);
        assert_eq!(zeros, !hashed, "{name}");
    }
}

#[test]
fn widths_mix_over_long_lists() {
    // Runs of one width, and changes at each place of a run.
    let tokens: Vec<u64> = (0..1_000u64)
        .map(|i| match (i * i / 7) % 5 {
            0 => i % 128,
            1 => 128 + i % 128,
            4 => 65_536 + i * 4_000_000,
            _ => 256 + i,
        })
        .collect();
    let payload = batch(vec![event(1, ints(tokens.clone()), Some(1_000))]);
    let found = decode(&payload).columns;
    let tokens: Vec<u32> = tokens.iter().map(|t| *t as u32).collect();
    assert_eq!(found.tokens, tokens);
}

#[test]
fn columns_hold_what_is_wanted_and_say_the_same() {
    let payload = batch(vec![
        event(2, ints(1..5), Some(2)),
        V::A(vec![V::S("BlockRemoved"), ints([1])]),
        V::S("bad"),
        V::A(vec![V::S("AllBlocksCleared")]),
        event(2, pairs(&[1, 2, 3, 4, 5]), Some(2)),
    ]);
    let all = decode(&payload);
    let dictionary = Dictionary::default();
    let mut decoder = crate::Decoder::default();
    for want in (0..0x40).map(ColumnSet) {
        let (mut found, mut skipped) = (Columns::default(), Vec::new());
        decoder
            .decode(&payload, want, &dictionary, &mut found, &mut skipped)
            .unwrap();
        let mut expected = all.columns.clone();
        expected.filled = want;
        if !want.contains(ColumnSet::TOKEN_HASHES) {
            expected.token_hashes.clear();
        }
        if !want.contains(ColumnSet::EXTRA_DIGESTS) {
            expected.extra_digests.clear();
        }
        if !want.contains(ColumnSet::TOKENS) {
            expected.tokens.clear();
            expected.token_ends.clear();
        }
        if !want.contains(ColumnSet::WHOLE_HASHES) {
            expected.whole_hashes.clear();
            expected.whole_hash_ends.clear();
        }
        if !want.contains(ColumnSet::TIMES) {
            expected.times.clear();
        }
        assert_eq!(found, expected);
        assert_eq!(skipped, all.skipped);
    }
    assert_eq!(all.columns.token_hashes.len(), 5);
    assert_eq!(all.columns.extra_digests, [0; 5]);
    assert_eq!(all.columns.times, [0; 4]);
    assert_eq!(all.columns.blocks(3), 3..5);
}
