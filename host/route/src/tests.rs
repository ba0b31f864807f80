mod catchup;
mod chains;
mod resume;

use crate::{
    Fetch, Fetched, Filter, Lane, LaneConfig, Reading, Router, RouterConfig, Scope, WhenFull,
};
use bytes::Bytes;
use penstock_event::{
    Batch, Change, ColumnSet, Columns, Epoch, GapReason, Item, Outlet, Position, ResetReason,
    SourceId, SourceInfo, SourceSpec, SourceState,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

/// An engine that still holds batches from `oldest` on, and whose replay loses each
/// of `lose` once.
#[derive(Default)]
struct Engine {
    oldest: Option<u64>,
    lose: Mutex<BTreeSet<u64>>,
}

impl Fetch for Engine {
    fn fetch(
        &self,
        _: SourceId,
        first: u64,
        last: u64,
        mut take: Box<dyn FnMut(Fetched) -> bool + Send>,
    ) {
        if let Some(oldest) = self.oldest {
            for sequence in first.max(oldest)..=last {
                if self.lose.lock().unwrap().remove(&sequence) {
                    continue;
                }
                if !take(Fetched::Batch(sequence, payload(sequence))) {
                    return;
                }
            }
        }
        take(Fetched::End);
    }
}

type TestRouter = Arc<Router>;

fn router(oldest: Option<u64>, ring: usize) -> TestRouter {
    let lose = Mutex::default();
    router_of(Engine { oldest, lose }, ring)
}

fn router_of(engine: impl Fetch + 'static, ring: usize) -> TestRouter {
    let config = RouterConfig {
        ring_bytes: ring,
        ring_total_bytes: 1 << 30,
        lanes_total_bytes: 1 << 30,
        limits: penstock_decode::Limits::default(),
    };
    Arc::new(Router::new(config, Arc::new(engine)))
}

fn lane(router: &TestRouter, bytes: usize, when_full: WhenFull) -> Arc<Lane> {
    router.open(config(bytes, when_full))
}

fn reading(router: &TestRouter, lane: &Arc<Lane>) -> Reading {
    let scope = Scope::of(&lane.config.filter);
    Reading::of(lane.clone(), vec![(router.clone(), scope)])
}

fn config(bytes: usize, when_full: WhenFull) -> LaneConfig {
    LaneConfig {
        name: "p".into(),
        filter: Filter::default(),
        columns: ColumnSet::TOKEN_HASHES,
        bytes,
        when_full,
    }
}

fn source() -> Arc<SourceState> {
    Arc::new(SourceState::new(SourceInfo {
        id: SourceId(1),
        name: "s".into(),
        spec: SourceSpec {
            instance: "s".into(),
            replay: Some("tcp://h:1".into()),
            ..SourceSpec::default()
        },
    }))
}

/// `[1.0, [["BlockRemoved", [sequence]]]]`
fn payload(sequence: u64) -> Bytes {
    removals(&[sequence])
}

/// An event for each of these blocks.
fn removals(hashes: &[u64]) -> Bytes {
    let mut b = Vec::new();
    rmp::encode::write_array_len(&mut b, 2).unwrap();
    rmp::encode::write_f64(&mut b, 1.0).unwrap();
    rmp::encode::write_array_len(&mut b, hashes.len() as u32).unwrap();
    for hash in hashes {
        rmp::encode::write_array_len(&mut b, 2).unwrap();
        rmp::encode::write_str(&mut b, "BlockRemoved").unwrap();
        rmp::encode::write_array_len(&mut b, 1).unwrap();
        rmp::encode::write_u64(&mut b, *hash).unwrap();
    }
    b.into()
}

fn deliver(router: &TestRouter, state: &Arc<SourceState>, epoch: u32, sequence: u64) {
    let wanted = router.wanted(SourceId(1));
    let batch = decoded(state, (epoch, sequence), payload(sequence), wanted);
    router.deliver(state, Item::Batch(Arc::new(batch)));
}

fn decoded(
    state: &SourceState,
    (epoch, sequence): (u32, u64),
    payload: Bytes,
    wanted: ColumnSet,
) -> Batch {
    let (mut columns, mut skipped) = (Columns::default(), Vec::new());
    penstock_decode::Decoder::default()
        .decode(
            &payload,
            wanted,
            &state.dictionary,
            &mut columns,
            &mut skipped,
        )
        .unwrap();
    Batch {
        source: state.info.id,
        epoch: Epoch(epoch),
        sequence,
        rank: None,
        published_us: 0,
        received_us: 0,
        replayed: false,
        dictionary_len: 0,
        columns: columns.into(),
        digest: penstock_event::digest(&payload),
        payload,
        skipped,
    }
}

fn reset(router: &TestRouter, state: &Arc<SourceState>, epoch: u32) {
    let change = Change::Reset {
        source: SourceId(1),
        epoch: Epoch(epoch),
        reason: ResetReason::Backwards,
    };
    router.deliver(state, Item::Change(change));
}

fn gap(router: &TestRouter, state: &Arc<SourceState>, epoch: u32, first: u64, last: u64) {
    let change = Change::Gap {
        source: SourceId(1),
        epoch: Epoch(epoch),
        first,
        last,
        reason: GapReason::Truncated,
    };
    router.deliver(state, Item::Change(change));
}

/// What a lane's thread would see, in words: `0/5` a batch, `gap 0/1-3 lane_full`.
fn drain(lane: &Lane) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(item) = lane.next() {
        lane.done();
        seen.push(match item {
            Item::Batch(batch) => {
                assert_eq!(batch.columns.hashes, [batch.sequence]);
                batch.position().to_string()
            }
            Item::Change(Change::Joined(_)) => "joined".into(),
            Item::Change(Change::Left(_)) => "left".into(),
            Item::Change(Change::Reset { epoch, .. }) => format!("reset {}", epoch.0),
            Item::Change(Change::Gap {
                epoch,
                first,
                last,
                reason,
                ..
            }) => format!("gap {}/{first}-{last} {}", epoch.0, reason.name()),
        });
    }
    seen
}

fn batches(epoch: u32, range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|s| format!("{epoch}/{s}")).collect()
}

fn expect(parts: &[&[String]]) -> Vec<String> {
    parts.concat()
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn an_attached_lane_gets_everything_in_order() {
    let (router, state) = (router(None, 1 << 20), source());
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    router.deliver(&state, Item::Change(Change::Joined(state.clone())));
    assert_eq!(drain(&lane), ["joined"]);
    (0..=4).for_each(|s| deliver(&router, &state, 0, s));
    assert_eq!(drain(&lane), batches(0, 0..=4));
    assert_eq!(lane.status().detached, 0);
}

#[test]
fn a_late_lane_starts_at_the_beginning() {
    let (router, state) = (router(None, 1 << 20), source());
    (0..=200).for_each(|s| deliver(&router, &state, 0, s));
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    assert_eq!(
        drain(&lane),
        expect(&[&words(&["joined"]), &batches(0, 0..=200)])
    );
    deliver(&router, &state, 0, 201);
    assert_eq!(drain(&lane), ["0/201"]);
}

#[test]
fn a_rebuilt_instance_gets_everything_again() {
    let (router, state) = (router(None, 1 << 20), source());
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    (0..=9).for_each(|s| deliver(&router, &state, 0, s));
    drain(&lane);
    (10..=19).for_each(|s| deliver(&router, &state, 0, s));
    reading(&router, &lane).rewind();
    (20..=29).for_each(|s| deliver(&router, &state, 0, s));
    assert_eq!(
        drain(&lane),
        expect(&[&words(&["joined"]), &batches(0, 0..=29)])
    );
}

#[test]
fn a_newcomer_begins_at_the_last_restart() {
    let (router, state) = (router(None, 1 << 20), source());
    (0..=9).for_each(|s| deliver(&router, &state, 0, s));
    reset(&router, &state, 1);
    (0..=3).for_each(|s| deliver(&router, &state, 1, s));
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    assert_eq!(
        drain(&lane),
        expect(&[&words(&["joined", "reset 1"]), &batches(1, 0..=3)])
    );
}

#[test]
fn a_source_that_leaves_is_told_after_its_last_batch() {
    let (router, state) = (router(None, 1 << 20), source());
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    deliver(&router, &state, 0, 0);
    router.deliver(&state, Item::Change(Change::Left(SourceId(1))));
    assert_eq!(drain(&lane), ["joined", "0/0", "left"]);
    router.close(&lane);
    deliver(&router, &state, 0, 1);
    assert!(drain(&lane).is_empty());
}

#[test]
fn gaps_of_the_stream_pass_in_their_place() {
    let (router, state) = (router(None, 1 << 20), source());
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    deliver(&router, &state, 0, 0);
    gap(&router, &state, 0, 1, 4);
    deliver(&router, &state, 0, 5);
    assert_eq!(
        drain(&lane),
        ["joined", "0/0", "gap 0/1-4 truncated", "0/5"]
    );
    assert_eq!(state.incidents().len(), 1);
}

#[test]
fn an_instance_without_a_past_goes_on_where_the_last_one_died() {
    let (router, state) = (router(Some(0), 1 << 20), source());
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    deliver(&router, &state, 0, 0);
    drain(&lane);
    (1..=9).for_each(|s| deliver(&router, &state, 0, s));
    lane.next();
    lane.done();
    // Taken, not done: the batch that killed the instance comes again.
    lane.next();
    reading(&router, &lane).rejoin();
    (10..=12).for_each(|s| deliver(&router, &state, 0, s));
    assert_eq!(
        drain(&lane),
        expect(&[&words(&["joined"]), &batches(0, 2..=12)])
    );
}

#[test]
fn what_waits_with_the_taker_comes_again_after_it_died() {
    let (router, state) = (router(Some(0), 1 << 20), source());
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    (0..=9).for_each(|s| deliver(&router, &state, 0, s));
    for taken in 0..4 {
        lane.next();
        match taken {
            0 | 1 => lane.done(),
            _ => lane.park(),
        }
    }
    reading(&router, &lane).rejoin();
    // Joined and 0 were done, 1 and 2 wait.
    let rest = expect(&[&words(&["joined"]), &batches(0, 1..=9)]);
    assert_eq!(drain(&lane), rest);
    lane.unpark(SourceId(1));
    deliver(&router, &state, 0, 10);
    assert_eq!(drain(&lane), ["0/10"]);
}

/// What a lane gets that goes on after a position.
fn resumed(router: &TestRouter, epoch: u32, sequence: u64) -> Vec<String> {
    drain(&lane_at(router, epoch, sequence))
}

fn lane_at(router: &TestRouter, epoch: u32, sequence: u64) -> Arc<Lane> {
    let position = Position {
        epoch: Epoch(epoch),
        sequence,
    };
    let config = config(1 << 20, WhenFull::CatchUp);
    router.open_from(config, &HashMap::from([(SourceId(1), position)]))
}

#[test]
fn an_instance_with_a_past_goes_on_after_its_position() {
    let (router, state) = (router(Some(0), 1 << 20), source());
    (0..=5).for_each(|s| deliver(&router, &state, 0, s));
    gap(&router, &state, 0, 6, 8);
    (9..=12).for_each(|s| deliver(&router, &state, 0, s));
    reset(&router, &state, 1);
    (0..=3).for_each(|s| deliver(&router, &state, 1, s));
    let life = batches(1, 0..=3);
    let reset = words(&["reset 1"]);
    assert_eq!(resumed(&router, 0, 12), expect(&[&reset, &life]));
    let rest = resumed(&router, 0, 5);
    assert_eq!(rest[..2], ["gap 0/6-8 truncated", "0/9"]);
    assert_eq!(resumed(&router, 0, 8)[..1], ["0/9"], "the gap is known");
    assert_eq!(resumed(&router, 1, 1), batches(1, 2..=3), "so is the reset");
    assert!(resumed(&router, 1, 3).is_empty());
    // Newer batches come.
    let first = lane(&router, 1 << 20, WhenFull::CatchUp).config.clone();
    let at = Position {
        epoch: Epoch(1),
        sequence: 3,
    };
    let lane = router.open_from(first, &HashMap::from([(SourceId(1), at)]));
    deliver(&router, &state, 1, 4);
    assert_eq!(drain(&lane), ["1/4"]);
    let mut other = lane.config.clone();
    other.filter = Filter::new(&["other".to_string()]);
    let lane = router.open_from(other, &HashMap::from([(SourceId(1), at)]));
    deliver(&router, &state, 1, 5);
    assert_eq!(drain(&lane), ["left"], "it is not to get it any more");
    router.deliver(&state, Item::Change(Change::Left(SourceId(1))));
    assert_eq!(resumed(&router, 1, 4), ["left"], "it went meanwhile");
}

#[test]
fn the_last_batches_of_each_source_are_there_to_try_a_plugin_out() {
    let (router, state) = (router(None, 1 << 20), source());
    (0..=5).for_each(|s| deliver(&router, &state, 0, s));
    gap(&router, &state, 0, 6, 8);
    deliver(&router, &state, 0, 9);
    let recent = router.recent(&Scope::of(&Filter::default()), ColumnSet::TOKEN_HASHES, 3);
    let seen: Vec<_> = recent
        .iter()
        .map(|item| match item {
            Item::Batch(batch) => batch.position().to_string(),
            Item::Change(change) => format!("{:?}", std::mem::discriminant(change)),
        })
        .collect();
    assert!(matches!(recent[0], Item::Change(Change::Joined(_))));
    assert_eq!(seen[1..], ["0/4", "0/5", "0/9"]);
    let none = Filter::new(&["other".to_string()]);
    assert!(
        router
            .recent(&Scope::of(&none), ColumnSet::TOKEN_HASHES, 3)
            .is_empty()
    );
}

#[test]
fn a_past_older_than_the_ring_is_filled_up_by_the_engine() {
    let (router, state) = (router(Some(0), 2_000), source());
    (0..=200).for_each(|s| deliver(&router, &state, 0, s));
    assert_eq!(resumed(&router, 0, 10), batches(0, 11..=200));
    assert_eq!(resumed(&router, 0, 199), batches(0, 200..=200));
    assert!(resumed(&router, 0, 200).is_empty());
}

#[test]
fn an_idle_lane_rejoins_without_hearing_anything_twice() {
    let (router, state) = (router(Some(0), 1 << 20), source());
    let lane = lane(&router, 1 << 20, WhenFull::CatchUp);
    (0..=5).for_each(|s| deliver(&router, &state, 0, s));
    drain(&lane);
    reading(&router, &lane).rejoin();
    deliver(&router, &state, 0, 6);
    assert_eq!(drain(&lane), ["joined", "0/6"]);
}

#[test]
fn all_lanes_together_are_bounded() {
    let config = RouterConfig {
        ring_bytes: 1 << 20,
        ring_total_bytes: 1 << 20,
        lanes_total_bytes: 3_000,
        limits: penstock_decode::Limits::default(),
    };
    let router = Arc::new(Router::new(config, Arc::new(Engine::default())));
    let state = source();
    let lanes = [(); 3].map(|()| lane(&router, 1 << 20, WhenFull::CatchUp));
    deliver(&router, &state, 0, 0);
    lanes.iter().for_each(|lane| drop(drain(lane)));
    (1..=100).for_each(|s| deliver(&router, &state, 0, s));
    assert!(router.queued().0 <= 3_000);
    for lane in &lanes {
        assert_eq!(drain(lane), batches(0, 1..=100));
    }
}
