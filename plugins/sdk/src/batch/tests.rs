use super::*;
use crate::testing;
use crate::{Block, Kind, Medium};

fn more(batch: &mut RawBatch) -> &mut MoreColumns {
    batch.more.as_mut().unwrap()
}

fn raw() -> (testing::Names, RawBatch) {
    let mut names = testing::Names::default();
    let raw = testing::batch(3)
        .rank(2)
        .skipped(6)
        .stored(
            testing::stored(2, &[10, 11])
                .tokens(&[1, 2, 3, 4])
                .medium(Medium::Cpu)
                .group(5)
                .adapter("sql")
                .salt("s")
                .model("m")
                .extra(1, 77),
        )
        .removed(Medium::Unknown, 1, &[12])
        .cleared()
        .stored(
            testing::stored(2, &[13])
                .tokens(&[9, 9])
                .parent(11)
                .time_us(8),
        )
        .build(&mut names);
    (names, raw)
}

#[test]
fn every_field_comes_through() {
    let (names, raw) = raw();
    let batch = names.view(&raw);
    assert_eq!((batch.rank(), batch.len()), (Some(2), 4));
    assert_eq!(batch.skipped(), 6);
    let events: Vec<_> = batch.events().collect();
    let kinds: Vec<_> = events.iter().map(Event::kind).collect();
    use Kind::{Cleared, Removed, Stored};
    assert_eq!(kinds, [Stored, Removed, Cleared, Stored]);

    let Event::Stored(first) = &events[0] else {
        panic!("not stored")
    };
    assert_eq!(first.medium(), Medium::Cpu);
    assert_eq!((first.group(), first.block_size()), (5, 2));
    assert_eq!(first.adapter(), Name::Known("sql"));
    assert_eq!(first.salt(), Name::Known("s"));
    assert_eq!(first.model(), Name::Known("m"));
    assert_eq!(first.parent(), None);
    assert_eq!(first.tokens(), [1, 2, 3, 4]);
    assert_eq!(first.whole_hash(1), 11u64.to_be_bytes());
    let seed = crate::hash::token_seed("sql", "s");
    let blocks: Vec<_> = first.blocks().collect();
    assert_eq!(
        blocks[1],
        Block {
            hash: 11,
            token_hash: Some(crate::hash::token_hash(&[3, 4], seed)),
            extra_digest: 77,
        }
    );
    assert_eq!(blocks[0].extra_digest, 0);

    let Event::Stored(last) = &events[3] else {
        panic!("not stored")
    };
    assert_eq!((last.parent(), last.time_us()), (Some(11), Some(8)));
    assert_eq!((last.index(), last.hashes()), (3, &[13][..]));
    assert_eq!(last.tokens(), [9, 9]);
}

#[test]
fn contradicting_columns_read_as_empty() {
    let (names, good) = raw();
    let end_of = |event: usize| event * EVENT_STRIDE + EVENT_STRIDE - 1;
    let breaks: [fn(&mut RawBatch); 9] = [
        |b| b.events[7] = u32::MAX,
        |b| b.events[15] = 0,
        |b| b.hashes.truncate(1),
        |b| more(b).token_ends[0] = 1_000,
        |b| more(b).token_ends.truncate(2),
        |b| more(b).whole_hash_ends[1] = u32::MAX,
        |b| b.parents.clear(),
        |b| b.more = None,
        |b| b.token_hashes.truncate(1),
    ];
    for (i, broken) in breaks.iter().enumerate() {
        let mut raw = good.clone();
        broken(&mut raw);
        let batch = names.view(&raw);
        let mut seen = 0;
        for event in batch.events() {
            seen += event.common().hashes().len();
            let _ = event.common().whole_hash(1);
            if let Event::Stored(s) = event {
                assert!(s.blocks().count() <= 2, "case {i}");
                let _ = (s.parent(), s.tokens(), s.adapter());
            }
        }
        assert!(seen <= good.hashes.len(), "case {i}");
    }
    let mut odd = good.clone();
    odd.events[end_of(0)] = 99;
    let first = names.view(&odd).events().next();
    assert!(first.is_some_and(|e| e.common().hashes().is_empty()));
    odd.events.truncate(11);
    assert_eq!(names.view(&odd).events().count(), 1);
}

#[test]
fn unknown_kinds_are_left_out_and_keep_their_place() {
    let (names, mut raw) = raw();
    raw.events[EVENT_STRIDE] |= 200;
    let kinds: Vec<_> = names
        .view(&raw)
        .events()
        .map(|e| e.common().index())
        .collect();
    assert_eq!(kinds, [0, 2, 3]);
    let last = names.view(&raw).events().last();
    assert_eq!(last.map(|e| e.common().hashes().to_vec()), Some(vec![13]));
}

#[test]
fn codes_without_a_name_are_present_but_unlisted() {
    let (names, mut raw) = raw();
    raw.events[3] = u32::MAX;
    let Some(Event::Stored(s)) = names.view(&raw).events().next() else {
        panic!("not stored")
    };
    assert_eq!(s.adapter(), Name::Unlisted);
    assert!(!s.adapter().is_none());
}
