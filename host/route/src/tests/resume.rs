//! A source that goes on from a checkpoint, and lanes that stand elsewhere. The point is
//! batch 10 of epoch 2 throughout.

use super::*;
use penstock_event::Beginning;

/// An engine that tells what it was asked for.
struct Asked {
    engine: Engine,
    log: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Fetch for Asked {
    fn fetch(
        &self,
        source: SourceId,
        first: u64,
        last: u64,
        take: Box<dyn FnMut(Fetched) -> bool + Send>,
    ) {
        self.log.lock().unwrap().push((first, last));
        self.engine.fetch(source, first, last, take);
    }
}

struct Bench {
    router: TestRouter,
    state: Arc<SourceState>,
    asked: Arc<Mutex<Vec<(u64, u64)>>>,
}

/// The source has joined; its engine, not heard yet, holds batches from `oldest` on.
fn bench(oldest: u64, ring: usize) -> Bench {
    let asked: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let engine = Engine {
        oldest: Some(oldest),
        lose: Mutex::default(),
    };
    let log = asked.clone();
    let (router, state) = (router_of(Asked { engine, log }, ring), source());
    state.set_beginning(Beginning {
        lineage: 1,
        epoch: Epoch(2),
        resumed: Some(10),
    });
    router.deliver(&state, Item::Change(Change::Joined(state.clone())));
    Bench {
        router,
        state,
        asked,
    }
}

impl Bench {
    fn newcomer(&self) -> Arc<Lane> {
        lane(&self.router, 1 << 20, WhenFull::CatchUp)
    }

    fn at(&self, epoch: u32, sequence: u64) -> Arc<Lane> {
        lane_at(&self.router, epoch, sequence)
    }

    fn proven(&self) {
        self.router.proven(&self.state);
    }

    fn deliver(&self, epoch: u32, range: std::ops::RangeInclusive<u64>) {
        range.for_each(|s| deliver(&self.router, &self.state, epoch, s));
    }

    fn asked(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[test]
fn each_lane_gets_what_it_does_not_know() {
    for before in [true, false] {
        let b = bench(0, 1 << 20);
        if !before {
            b.proven();
            b.deliver(2, 11..=13);
        }
        let lanes = [b.newcomer(), b.at(2, 4), b.at(2, 10), b.at(2, 12)];
        if before {
            for lane in &lanes {
                assert_eq!(drain(lane), [""; 0], "nobody knows whose batches they are");
                let status = lane.status();
                assert_eq!((status.items, status.detached), (0, 0), "nobody is behind");
                assert!(!lane.behind());
            }
            assert_eq!(b.asked(), []);
            b.proven();
        }
        let mut seen = lanes.each_ref().map(|lane| drain(lane));
        assert_eq!(b.asked(), [(0, 10), (5, 10)]);
        b.deliver(2, if before { 11..=15 } else { 14..=15 });
        for (seen, lane) in seen.iter_mut().zip(&lanes) {
            seen.extend(drain(lane));
        }
        let [newcomer, behind, there, ahead] = seen;
        let joined = words(&["joined"]);
        assert_eq!(newcomer, expect(&[&joined, &batches(2, 0..=15)]));
        assert_eq!(behind, batches(2, 5..=15));
        assert_eq!(there, batches(2, 11..=15));
        assert_eq!(ahead, batches(2, 13..=15));
        assert_eq!(b.asked(), []);
    }
}

#[test]
fn an_idle_engine_is_asked_once_it_is_known() {
    let b = bench(0, 1 << 20);
    let behind = b.at(2, 7);
    b.proven();
    assert_eq!(drain(&behind), batches(2, 8..=10));
}

#[test]
fn what_the_engine_no_longer_holds_is_a_gap_of_that_lane_alone() {
    let b = bench(8, 1 << 20);
    let lanes = [b.newcomer(), b.at(2, 4), b.at(2, 8)];
    b.proven();
    b.deliver(2, 11..=12);
    let rest = batches(2, 8..=12);
    let [newcomer, behind, less] = lanes.map(|lane| drain(&lane));
    let start = words(&["joined", "gap 2/0-7 missed"]);
    assert_eq!(newcomer, expect(&[&start, &rest]));
    assert_eq!(behind, expect(&[&words(&["gap 2/5-7 missed"]), &rest]));
    assert_eq!(less, batches(2, 9..=12));
}

#[test]
fn a_lane_ahead_hears_of_the_unknown_part_of_a_gap() {
    let b = bench(0, 1 << 20);
    let lane = b.at(2, 14);
    b.proven();
    // Read from the ring, and pushed.
    gap(&b.router, &b.state, 2, 11, 12);
    assert_eq!(drain(&lane), [""; 0]);
    gap(&b.router, &b.state, 2, 13, 16);
    b.deliver(2, 17..=17);
    let rest = ["gap 2/15-16 truncated", "2/17"];
    assert_eq!(drain(&lane), rest);
    assert_eq!(drain(&b.at(2, 14)), rest);
}

#[test]
fn a_lane_ahead_is_told_once_whatever_the_ring_keeps() {
    for sequence in [200, 290, 300] {
        let b = bench(0, 2_000);
        b.proven();
        let attached = b.at(2, sequence);
        drain(&attached);
        b.deliver(2, 11..=300);
        let rest = batches(2, sequence + 1..=300);
        assert_eq!(drain(&attached), rest);
        assert_eq!(drain(&b.at(2, sequence)), rest);
    }
}

#[test]
fn a_reset_in_place_of_the_proof_voids_every_position() {
    let life = expect(&[&words(&["reset 3"]), &batches(3, 0..=4)]);
    let open = |b: &Bench| {
        [
            b.newcomer(),
            b.at(2, 4),
            b.at(2, 10),
            b.at(2, 12),
            b.at(1, 99),
        ]
    };
    for before in [true, false] {
        let b = bench(0, 1 << 20);
        let early = before.then(|| open(&b));
        reset(&b.router, &b.state, 3);
        b.deliver(3, 0..=4);
        let lanes = early.unwrap_or_else(|| open(&b));
        let [newcomer, behind, there, ahead, older] = lanes.map(|lane| drain(&lane));
        assert_eq!(newcomer, expect(&[&words(&["joined"]), &life]));
        assert_eq!(behind, expect(&[&words(&["gap 2/5-10 missed"]), &life]));
        assert_eq!(there, life);
        assert_eq!(ahead, life);
        let lost = words(&["reset 2", "gap 2/0-10 missed"]);
        assert_eq!(older, expect(&[&lost, &life]));
        assert_eq!(b.asked(), [], "the engine of that epoch is gone");
    }
}

#[test]
fn a_lane_of_an_older_epoch_begins_the_running_one() {
    let b = bench(0, 1 << 20);
    let lane = b.at(1, 99);
    b.proven();
    b.deliver(2, 11..=12);
    assert_eq!(
        drain(&lane),
        expect(&[&words(&["reset 2"]), &batches(2, 0..=12)])
    );
}

#[test]
fn a_lane_of_a_newer_epoch_begins_anew() {
    let b = bench(0, 1 << 20);
    let lane = b.at(3, 5);
    b.proven();
    b.deliver(2, 11..=12);
    let start = words(&["left", "joined"]);
    assert_eq!(drain(&lane), expect(&[&start, &batches(2, 0..=12)]));
}

#[test]
fn a_source_that_leaves_unheard_is_left_by_those_who_knew_it() {
    let b = bench(0, 1 << 20);
    let (newcomer, restored) = (b.newcomer(), b.at(2, 4));
    let left = Change::Left(SourceId(1));
    b.router.deliver(&b.state, Item::Change(left));
    assert_eq!(drain(&newcomer), [""; 0]);
    assert_eq!(drain(&restored), ["left"]);
    assert_eq!(restored.status().detached, 0);
    assert_eq!(b.asked(), []);
}

#[test]
fn an_instance_that_dies_before_the_proof_joins_after_it() {
    let b = bench(0, 1 << 20);
    let (rebuilt, without_past) = (b.at(2, 4), b.at(2, 4));
    reading(&b.router, &rebuilt).rewind();
    reading(&b.router, &without_past).rejoin();
    b.proven();
    b.deliver(2, 11..=11);
    let joined = words(&["joined"]);
    assert_eq!(drain(&rebuilt), expect(&[&joined, &batches(2, 0..=11)]));
    assert_eq!(
        drain(&without_past),
        expect(&[&joined, &batches(2, 5..=11)])
    );
}

#[test]
fn a_source_that_left_and_came_back_is_fetched_in_its_epoch() {
    let (router, state) = (router(Some(0), 2_000), source());
    state.set_beginning(Beginning {
        lineage: 1,
        epoch: Epoch(3),
        resumed: None,
    });
    (0..=300).for_each(|s| deliver(&router, &state, 3, s));
    let late = drain(&lane(&router, 1 << 20, WhenFull::CatchUp));
    assert_eq!(late, expect(&[&words(&["joined"]), &batches(3, 0..=300)]));
}

#[test]
fn every_batch_carries_its_digest_whichever_way_it_comes() {
    let b = bench(0, 2_000);
    let attached = b.at(2, 10);
    b.proven();
    drain(&attached);
    b.deliver(2, 11..=100);
    for lane in [attached, b.newcomer()] {
        let mut batches = 0;
        while let Some(item) = lane.next() {
            lane.done();
            if let Item::Batch(batch) = item {
                assert_eq!(batch.mark().digest, penstock_event::digest(&batch.payload));
                batches += 1;
            }
        }
        assert!(batches >= 90);
    }
}
