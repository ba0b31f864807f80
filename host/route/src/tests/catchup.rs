//! Lanes that fell behind: from the ring, from the engine, and what neither holds.

use super::*;

#[test]
fn a_full_lane_catches_up_from_the_ring_and_loses_nothing() {
    let (router, state) = (router(None, 1 << 20), source());
    let lane = lane(&router, 1_000, WhenFull::CatchUp);
    deliver(&router, &state, 0, 0);
    let mut seen = drain(&lane);
    (1..=300).for_each(|s| deliver(&router, &state, 0, s));
    assert_eq!(lane.status().detaches, 1);
    assert!(lane.queued() <= 1_000);
    seen.extend(drain(&lane));
    assert_eq!(seen, expect(&[&words(&["joined"]), &batches(0, 0..=300)]));
    assert_eq!(router.queued().0, 0);
}

#[test]
fn a_full_lane_that_drops_is_told_of_the_gap_first() {
    let (router, state) = (router(None, 1 << 20), source());
    let lane = lane(&router, 1_000, WhenFull::Drop);
    deliver(&router, &state, 0, 0);
    drain(&lane);
    (1..=300).for_each(|s| deliver(&router, &state, 0, s));
    let kept = drain(&lane);
    deliver(&router, &state, 0, 301);
    let last: u64 = kept.last().unwrap()[2..].parse().unwrap();
    let gap = format!("gap 0/{}-300 lane_full", last + 1);
    assert_eq!(kept, batches(0, 1..=last));
    assert_eq!(drain(&lane), [gap, "0/301".into()]);
    assert_eq!(lane.status().dropped, 300 - last);
}

#[test]
fn what_the_ring_lost_comes_from_the_engine() {
    let (router, state) = (router(Some(0), 2_000), source());
    (0..=300).for_each(|s| deliver(&router, &state, 0, s));
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    assert_eq!(
        drain(&lane),
        expect(&[&words(&["joined"]), &batches(0, 0..=300)])
    );
}

#[test]
fn a_lane_that_gains_on_the_ring_fetches_until_it_is_there() {
    let (router, state) = (router(Some(0), 2_000), source());
    let mut published = 0..;
    for sequence in published.by_ref().take(1_000) {
        deliver(&router, &state, 0, sequence);
    }
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    let mut seen = Vec::new();
    while let Some(item) = lane.next() {
        lane.done();
        match item {
            Item::Batch(batch) => seen.push(batch.sequence),
            Item::Change(Change::Gap { first, last, .. }) => panic!("a gap: {first} to {last}"),
            Item::Change(_) => {}
        }
        // Nine come while ten are taken.
        if !seen.len().is_multiple_of(10) && seen.len() < 8_000 {
            deliver(&router, &state, 0, published.next().unwrap());
        }
    }
    assert_eq!(seen, (0..published.start).collect::<Vec<_>>());
}

#[test]
fn a_lane_that_the_ring_outruns_misses_nothing_that_the_engine_holds() {
    let (router, state) = (router(Some(0), 2_000), source());
    (0..1_000).for_each(|s| deliver(&router, &state, 0, s));
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    let (mut taken, mut published) = (0, 1_000);
    while let Some(item) = lane.next() {
        lane.done();
        match item {
            Item::Batch(batch) => assert_eq!(batch.sequence, taken),
            Item::Change(Change::Gap { first, last, .. }) => panic!("a gap: {first} to {last}"),
            Item::Change(_) => continue,
        }
        taken += 1;
        // Twice as many come as are taken, for a long time.
        let until = (published + 2).min(200_000);
        (published..until).for_each(|s| deliver(&router, &state, 0, s));
        published = until;
    }
    assert_eq!(taken, published);
}

#[test]
fn a_ring_keeps_more_while_a_lane_fetches() {
    let (router, state) = (router(Some(0), 2_000), source());
    (0..=400).for_each(|s| deliver(&router, &state, 0, s));
    let before = router.kept().0;
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    assert!(matches!(lane.next(), Some(Item::Change(Change::Joined(_)))));
    lane.done();
    (401..=430).for_each(|s| deliver(&router, &state, 0, s));
    assert!(router.kept().0 > before, "nothing was evicted meanwhile");
    assert_eq!(drain(&lane), batches(0, 0..=430));
    deliver(&router, &state, 0, 431);
    assert!(router.kept().0 <= before, "the limit holds again");
    // An instance that dies while it fetches holds nothing up.
    (432..=800).for_each(|s| deliver(&router, &state, 0, s));
    reading(&router, &lane).rewind();
    lane.next();
    router.close(&lane);
    (801..=900).for_each(|s| deliver(&router, &state, 0, s));
    assert!(router.kept().0 <= before);
}

#[test]
fn what_a_replay_lost_is_asked_for_again() {
    let engine = Engine {
        oldest: Some(0),
        // In the middle, and the end.
        lose: Mutex::new(BTreeSet::from([100, 101, 300])),
    };
    let (router, state) = (router_of(engine, 2_000), source());
    (0..=400).for_each(|s| deliver(&router, &state, 0, s));
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    assert_eq!(
        drain(&lane),
        expect(&[&words(&["joined"]), &batches(0, 0..=400)])
    );
}

#[test]
fn what_neither_ring_nor_engine_holds_is_a_gap() {
    let (router, state) = (router(Some(40), 2_000), source());
    (0..=300).for_each(|s| deliver(&router, &state, 0, s));
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    let start = words(&["joined", "gap 0/0-39 missed"]);
    assert_eq!(drain(&lane), expect(&[&start, &batches(0, 40..=300)]));
    assert_eq!(lane.status().missed, 40);
}

#[test]
fn a_lane_that_slept_through_restarts_hears_of_each() {
    let (router, state) = (router(None, 1_000), source());
    let lane = lane(&router, 600, WhenFull::CatchUp);
    deliver(&router, &state, 0, 0);
    drain(&lane);
    (1..=20).for_each(|s| deliver(&router, &state, 0, s));
    reset(&router, &state, 1);
    (0..=20).for_each(|s| deliver(&router, &state, 1, s));
    reset(&router, &state, 2);
    (0..=20).for_each(|s| deliver(&router, &state, 2, s));
    let seen = drain(&lane);
    check_explained(&seen, &[(0, 1, 20), (1, 0, 20), (2, 0, 20)]);
}

/// Every sequence of each epoch once, as a batch or within a gap, in order.
fn check_explained(seen: &[String], epochs: &[(u32, u64, u64)]) {
    let mut next: BTreeMap<u32, u64> = epochs.iter().map(|(e, first, _)| (*e, *first)).collect();
    let mut now = epochs[0].0;
    for word in seen {
        if let Some(epoch) = word.strip_prefix("reset ") {
            now = epoch.parse().unwrap();
            continue;
        }
        let range = word
            .strip_prefix("gap ")
            .map_or(word.as_str(), |gap| gap.split(' ').next().unwrap());
        let (epoch, range) = range.split_once('/').unwrap();
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        assert_eq!(epoch.parse::<u32>().unwrap(), now, "{seen:?}");
        assert_eq!(first.parse::<u64>().unwrap(), next[&now], "{seen:?}");
        next.insert(now, last.parse::<u64>().unwrap() + 1);
    }
    for (epoch, _, last) in epochs {
        assert_eq!(next[epoch], last + 1, "epoch {epoch}: {seen:?}");
    }
}
