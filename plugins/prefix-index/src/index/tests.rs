//! The index against its naive twin, its inner consistency, and its bound.

use super::naive::Naive;
use super::worker::Life;
use super::*;
use penstock_sdk::Row;
use proptest::prelude::*;
use std::collections::HashSet;

#[derive(Clone, Debug)]
struct Event {
    source: u32,
    rank: Option<u32>,
    model: Option<usize>,
    medium: Medium,
    group: u32,
    act: Act,
}

#[derive(Clone, Debug)]
enum Act {
    Stored {
        parent: Option<u64>,
        /// Engine hash, what is in the block, and its extra keys.
        blocks: Vec<(u64, u32, u64)>,
        size: u32,
        bigram: bool,
        hashed: bool,
    },
    Removed(Vec<u64>),
    Cleared,
    Reset,
    EndBatch,
}

const MODELS: [&str; 2] = ["llama", "qwen"];

fn window(content: u32, size: u32, bigram: bool) -> Vec<u32> {
    vec![content; size as usize + usize::from(bigram)]
}

fn act() -> impl Strategy<Value = Act> {
    let hash = || 0..12u64;
    let extra = prop_oneof![9 => Just(0u64), 1 => 1..3u64];
    let blocks = prop::collection::vec((hash(), 0..2u32, extra), 0..5);
    let size = prop_oneof![6 => Just(4u32), 2 => Just(2), 1 => Just(0)];
    let stored = (
        prop::option::weighted(0.4, hash()),
        blocks,
        size,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.85),
    );
    let stored = stored.prop_map(|(parent, blocks, size, bigram, hashed)| Act::Stored {
        parent,
        blocks,
        size,
        bigram,
        hashed: hashed && size > 0,
    });
    prop_oneof![
        12 => stored,
        6 => prop::collection::vec(hash(), 1..5).prop_map(Act::Removed),
        1 => Just(Act::Cleared),
        1 => Just(Act::Reset),
        3 => Just(Act::EndBatch),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let medium = prop_oneof![4 => Just(Medium::Gpu), 2 => prop::sample::select(&Medium::ALL[..])];
    (
        0..3u32,
        prop::option::weighted(0.3, 0..2u32),
        prop::option::weighted(0.1, 0..2usize),
        medium,
        prop_oneof![3 => Just(0u32), 1 => Just(70)],
        act(),
    )
        .prop_map(|(source, rank, model, medium, group, act)| Event {
            source,
            rank,
            model,
            medium,
            group,
            act,
        })
}

/// Sources 0 and 1 serve llama, 2 serves qwen; source 1 has rank 1.
fn own(source: u32) -> (u32, usize) {
    (u32::from(source == 1), usize::from(source == 2))
}

fn apply(index: &mut Index, naive: &mut Naive, event: &Event) {
    let (own_rank, own_model) = own(event.source);
    let rank = event.rank.unwrap_or(own_rank);
    let model = MODELS[event.model.unwrap_or(own_model)];
    let mut place = index.place(event.source, event.rank);
    if event.model.is_some() {
        place = place.of_model(model);
    }
    match &event.act {
        Act::Stored {
            parent,
            blocks,
            size,
            bigram,
            hashed,
        } => {
            let hashes: Vec<u64> = blocks.iter().map(|b| b.0).collect();
            let token_hash = |b: &(u64, u32, u64)| {
                hash::token_hash(&window(b.1, *size, *bigram), hash::token_seed("", ""))
            };
            let token_hashes: Vec<u64> = blocks.iter().map(token_hash).collect();
            let extra: Vec<u64> = blocks.iter().map(|b| b.2).collect();
            let stored = Stored {
                medium: event.medium,
                group: event.group,
                block_size: *size,
                bigram: *bigram,
                parent: *parent,
                hashes: &hashes,
                token_hashes: hashed.then_some(&token_hashes),
                extra_digests: &extra,
            };
            index.apply_stored(place, &stored);
            if !hashes.is_empty() {
                naive.stored(event.source, rank, model, &stored);
            }
        }
        Act::Removed(hashes) => {
            index.apply_removed(place.of_model(model), event.medium, event.group, hashes);
            naive.removed(
                (event.source, rank, model),
                event.medium,
                event.group,
                hashes,
            );
        }
        Act::Cleared => {
            index.apply_cleared(place);
            naive.cleared(event.source, rank);
        }
        Act::Reset => {
            index.forget(event.source);
            naive.forget(event.source);
        }
        Act::EndBatch => index.end_batch(),
    }
}

fn joined(max_bytes: u64) -> Index {
    let mut index = Index::new(max_bytes);
    for source in 0..3 {
        let (rank, model) = own(source);
        index.join(source, rank, MODELS[model]);
    }
    index
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable();
    rows
}

/// Asks both by tokens, token hashes and engine hashes; answers blocks found.
fn compare(index: &mut Index, naive: &Naive, contents: &[u32]) -> Result<u32, TestCaseError> {
    let seed = hash::token_seed("", "");
    let mut found = 0;
    for size in [4, 2] {
        let tokens: Vec<u32> = contents
            .iter()
            .flat_map(|c| window(*c, size, false))
            .collect();
        let hashes: Vec<u64> = tokens
            .chunks(size as usize)
            .map(|w| hash::token_hash(w, seed))
            .collect();
        let engine: Vec<u64> = contents.iter().map(|c| u64::from(*c) * 5 + 1).collect();
        for model in MODELS {
            for prefix in [
                Prefix::Tokens(&tokens, seed),
                Prefix::TokenHashes(&hashes),
                Prefix::EngineHashes(&engine),
            ] {
                let rows = sorted(index.find(model, prefix));
                let expected = sorted(naive.find(model, prefix));
                prop_assert_eq!(&rows, &expected, "{} {:?}", model, prefix);
                found += rows.iter().map(|r| r.blocks).sum::<u32>();
            }
        }
    }
    Ok(found)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn it_answers_as_its_naive_twin() {
    let events = prop::collection::vec(event(), 1..60);
    let queries = prop::collection::vec(prop::collection::vec(0..2u32, 1..6), 1..6);
    let found = std::cell::Cell::new(0u64);
    let mut runner = proptest::test_runner::TestRunner::new(config(400));
    runner
        .run(&(events, queries), |(events, queries)| {
            let (mut index, mut naive) = (joined(1 << 30), Naive::default());
            for (i, event) in events.iter().enumerate() {
                apply(&mut index, &mut naive, event);
                if i % 7 == 0 {
                    compare(&mut index, &naive, &queries[0])?;
                }
            }
            for query in &queries {
                let blocks = compare(&mut index, &naive, query)?;
                found.set(found.get() + u64::from(blocks));
            }
            index.check();
            prop_assert_eq!(index.sizes().blocks as usize, naive.blocks());
            for _ in 0..4 {
                index.end_batch();
            }
            index.check();
            prop_assert_eq!(index.nodes.len() as usize, naive.blocks());
            Ok(())
        })
        .unwrap();
    assert!(
        found.get() > 2_000,
        "too few blocks were found: {}",
        found.get()
    );
}

#[test]
fn a_tight_bound_holds_under_any_events() {
    let events = prop::collection::vec(event(), 1..200);
    let bound = 2_500;
    let evicted = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(config(200));
    runner
        .run(&events, |events| {
            let (mut index, mut naive) = (joined(bound), Naive::default());
            for event in &events {
                apply(&mut index, &mut naive, event);
                index.check();
                let workers = index.workers.numbers() as u64 * WORKER_BYTES;
                let lots = index.lots.len() as u64 * LOT_BYTES;
                prop_assert!(index.bytes() <= bound.max(workers + lots));
                index.find(MODELS[0], Prefix::EngineHashes(&[1, 6]));
            }
            evicted.set(evicted.get() + index.counts().evicted);
            Ok(())
        })
        .unwrap();
    assert!(evicted.get() > 0);
}

fn store_one(index: &mut Index, source: u32, hash: u64, token_hash: u64) {
    let place = index.place(source, None);
    store_at(index, place, hash, token_hash);
}

fn store_at(index: &mut Index, place: Place, hash: u64, token_hash: u64) {
    index.apply_stored(
        place,
        &Stored {
            medium: Medium::Gpu,
            group: 0,
            block_size: 16,
            bigram: false,
            parent: None,
            hashes: &[hash],
            token_hashes: Some(&[token_hash]),
            extra_digests: &[],
        },
    );
    index.end_batch();
}

#[test]
fn ranks_for_which_there_is_no_room_are_not_kept() {
    let mut index = joined(1 << 30);
    for rank in 0..70_000 {
        let place = index.place(0, Some(rank));
        store_at(&mut index, place, rank.into(), rank.into());
    }
    assert_eq!(index.sizes().workers, 65_536);
    assert_eq!(index.counts().refused, 70_000 - 65_536);
    assert!(index.workers.numbers() < 65_600);
}

#[test]
fn the_least_recently_used_goes_first_and_lookups_count_as_use() {
    let mut index = joined(WORKER_BYTES + LOT_BYTES + 10 * (NODE_BYTES + CHAIN_BYTES));
    let held = |index: &mut Index, hash: u64| {
        !index.find("llama", Prefix::TokenHashes(&[hash])).is_empty()
    };
    for hash in 0..10 {
        store_one(&mut index, 0, hash, hash);
    }
    assert_eq!(index.sizes().blocks, 10);
    assert!(held(&mut index, 0));
    store_one(&mut index, 0, 1, 1);
    store_one(&mut index, 0, 10, 10);
    store_one(&mut index, 0, 11, 11);
    assert_eq!(index.counts().evicted, 2);
    let engine: HashSet<u64> = (0..12)
        .filter(|h| !index.find("llama", Prefix::EngineHashes(&[*h])).is_empty())
        .collect();
    let expected: HashSet<u64> = (0..12).filter(|h| ![2, 3].contains(h)).collect();
    assert_eq!(engine, expected);
}

#[test]
fn memory_stays_within_the_price() {
    let bound = 2 << 20;
    let mut index = joined(bound);
    let mut state = 1u64;
    for i in 0..200_000u64 {
        state = mix::mix64(state.wrapping_add(i));
        // A third is shared by all sources, a third comes again, a third is new.
        let token_hash = match i % 3 {
            0 => i / 30,
            1 => state % 1_000,
            _ => state,
        };
        let hash = if i % 3 == 1 { state % 1_000 } else { state };
        store_one(
            &mut index,
            (i % 3 == 0) as u32 * (i / 3 % 3) as u32,
            hash,
            token_hash,
        );
        if i % 5 == 0 {
            index.find("llama", Prefix::TokenHashes(&[token_hash]));
        }
        assert!(index.bytes() <= bound);
    }
    index.check();
    assert!(index.counts().evicted > 50_000);
    let tables = index.node_table.allocated() + index.chain_table.allocated();
    let slabs = index.nodes.allocated() + index.chains.allocated();
    let allocated = (tables + slabs) as u64 + index.lists.bytes();
    // One chunk of each slab may be open.
    assert!(
        allocated <= bound + (128 << 10),
        "{allocated} above {bound}"
    );
}

#[test]
fn what_was_cleared_is_swept_and_its_memory_used_again() {
    let mut index = joined(1 << 30);
    for round in 1..5u64 {
        let hashes: Vec<u64> = (0..10_000).map(|i| i * round).collect();
        let place = index.place(0, None);
        let stored = Stored {
            medium: Medium::Gpu,
            group: 0,
            block_size: 16,
            bigram: false,
            parent: None,
            hashes: &hashes,
            token_hashes: Some(&hashes),
            extra_digests: &[],
        };
        index.apply_stored(place, &stored);
        let found = index.find("llama", Prefix::TokenHashes(&hashes[..50]));
        assert_eq!(found[0].blocks, 50);
        index.apply_cleared(place);
        assert_eq!(index.sizes().blocks, 0);
        assert!(
            index
                .find("llama", Prefix::TokenHashes(&hashes[..50]))
                .is_empty()
        );
        let mut batches = 0;
        while index.nodes.len() > 0 {
            index.end_batch();
            batches += 1;
            assert!(batches < 100, "the sweep does not end");
        }
        index.check();
    }
    assert!(index.lots.numbers() <= 2 && index.workers.numbers() <= 2);
    assert_eq!(index.bytes(), index.workers.numbers() as u64 * WORKER_BYTES);
}

#[test]
fn counts_stop_at_their_limit() {
    let mut index = joined(1 << 30);
    for _ in 0..70_000 {
        store_one(&mut index, 0, 1, 1);
    }
    let place = index.place(0, None);
    index.apply_removed(place, Medium::Gpu, 0, &vec![1; 65_535]);
    assert_eq!(index.sizes().blocks, 0);
}

impl Index {
    /// Everything points where it should.
    fn check(&self) {
        let mut by_worker = vec![0; self.workers.numbers()];
        let (mut live, mut dead, mut rich) = (0, 0, 0);
        let mut linked: HashMap<u32, Vec<Holder>> = HashMap::new();
        for at in 0..self.nodes.high_water() {
            let node = *self.nodes.get(at);
            if !node.is_held() {
                continue;
            }
            live += 1;
            let worker = self.lots.get(node.lot()).worker;
            by_worker[worker as usize] += 1;
            dead += u32::from(self.workers.get(worker).life == Life::Dead);
            assert_ne!(self.workers.get(worker).life, Life::Free);
            assert_eq!(self.node(node.lot(), node.key), Some(at));
            assert_eq!(self.block(at).media(), node.media());
            rich += usize::from(node.references().is_none());
            if node.chain() != NONE {
                let holder = Holder::new(worker, node.media());
                linked.entry(node.chain()).or_default().push(holder);
            }
        }
        assert_eq!((live, dead), (self.nodes.len(), self.workers.dead_nodes));
        assert_eq!(rich, self.rich.len());
        for (worker, nodes) in by_worker.iter().enumerate() {
            assert_eq!(self.workers.get(worker as u32).nodes, *nodes);
        }
        assert_eq!(self.chains.len() as usize, linked.len());
        for at in 0..self.chains.high_water() {
            let chain = self.chains.get(at);
            let Some(expected) = linked.get_mut(&at) else {
                assert!(!chain.is_held());
                continue;
            };
            let by = |h: &Holder| (h.worker(), h.media());
            let mut holders = self.lists.get(&chain.holders()).to_vec();
            holders.sort_by_key(by);
            expected.sort_by_key(by);
            assert_eq!(&holders, expected);
            assert_eq!(self.any_chain(chain.hash), Some(at));
        }
    }
}

/// Everything that `index` holds, in another index, by way of pieces.
fn moved(index: &Index, schema: u32, max_bytes: usize) -> Index {
    let mut other = joined(1 << 30);
    let sources: std::collections::BTreeSet<u32> =
        index.workers.alive().map(|(_, w)| w.key.source).collect();
    for source in sources {
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let (piece, next) = index.snapshot_as(schema, source, at, max_bytes).unwrap();
            assert!(piece.len() <= max_bytes);
            other.restore(source, schema, &piece).unwrap();
            cursor = next;
        }
    }
    other
}

#[test]
fn its_state_moves_to_another_index_and_goes_on_there() {
    let events = || prop::collection::vec(event(), 1..40);
    let queries = prop::collection::vec(prop::collection::vec(0..2u32, 1..6), 1..6);
    let found = std::cell::Cell::new(0u64);
    let mut runner = proptest::test_runner::TestRunner::new(config(300));
    runner
        .run(
            &(events(), events(), queries, 1..=2u32, 200..2_000usize),
            |(before, after, queries, schema, max_bytes)| {
                let (mut index, mut naive) = (joined(1 << 30), Naive::default());
                for event in &before {
                    apply(&mut index, &mut naive, event);
                }
                let mut index = moved(&index, schema, max_bytes);
                index.check();
                prop_assert_eq!(index.sizes().blocks as usize, naive.blocks());
                for event in after.iter().take(20) {
                    compare(&mut index, &naive, &queries[0])?;
                    apply(&mut index, &mut naive, event);
                }
                for query in &queries {
                    let blocks = compare(&mut index, &naive, query)?;
                    found.set(found.get() + u64::from(blocks));
                }
                index.check();
                Ok(())
            },
        )
        .unwrap();
    assert!(found.get() > 1_000, "too few blocks: {}", found.get());
}

#[test]
fn damaged_pieces_are_refused() {
    let mut index = joined(1 << 30);
    for i in 0..50 {
        store_one(&mut index, 1, 100 + i, 200 + i);
    }
    let (piece, next) = index.snapshot(1, 0, 1 << 20).unwrap();
    assert_eq!(next, None);
    let taken = |schema, bytes: &[u8]| joined(1 << 30).restore(1, schema, bytes);
    taken(super::SCHEMA, &piece).unwrap();
    assert!(taken(7, &piece).unwrap_err().contains("schema 7"));
    for cut in 0..piece.len() {
        assert!(taken(super::SCHEMA, &piece[..cut]).is_err(), "{cut}");
    }
    let mut longer = piece.clone();
    longer.push(0);
    assert!(taken(super::SCHEMA, &longer).is_err());
    let mut other = joined(1 << 30);
    store_one(&mut other, 1, 1, 1);
    let refused = other.restore(1, super::SCHEMA, &piece).unwrap_err();
    assert!(refused.contains("another index"), "{refused}");
    assert!(index.snapshot(1, 0, 40).is_err(), "nothing fits");
    let (none, next) = index.snapshot(9, 0, 1 << 20).unwrap();
    assert_eq!(next, None);
    taken(super::SCHEMA, &none).unwrap();
}
