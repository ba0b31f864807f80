//! What an operator makes, as those after it get it.

use super::*;
use crate::Derived;
use penstock_event::{Beginning, Emit, Emitted};

struct Chain {
    engines: TestRouter,
    derived: Derived,
    engine: Arc<SourceState>,
}

/// An operator that begins at a position of a source, if at all.
fn chain(beginning: Beginning, past: Option<(u32, u64)>) -> Chain {
    let engines = router(None, 1 << 20);
    let engine = source();
    engine.set_beginning(beginning);
    let derived = Derived::new("operator", &engines);
    derived.join(&engine, past.map(at));
    Chain {
        engines,
        derived,
        engine,
    }
}

fn at((epoch, sequence): (u32, u64)) -> Position {
    Position {
        epoch: Epoch(epoch),
        sequence,
    }
}

impl Chain {
    /// Of events 0, 1 and 2 these are kept.
    fn emit(&self, epoch: u32, sequence: u64, kept: &[u32]) -> Arc<Batch> {
        let hashes = [0, 1, 2].map(|i| 10 * sequence + i);
        let payload = removals(&hashes);
        let wanted = ColumnSet::TOKEN_HASHES;
        let batch = Arc::new(decoded(&self.engine, (epoch, sequence), payload, wanted));
        let emitted = vec![Emitted::Kept(kept.to_vec())];
        self.derived.batch(&batch, emitted);
        batch
    }

    fn reset(&self, epoch: u32) {
        self.derived.change(&Change::Reset {
            source: SourceId(1),
            epoch: Epoch(epoch),
            reason: ResetReason::Backwards,
        });
    }

    fn gap(&self, epoch: u32, first: u64, last: u64) {
        self.derived.change(&Change::Gap {
            source: SourceId(1),
            epoch: Epoch(epoch),
            first,
            last,
            reason: GapReason::PluginFailed,
        });
    }

    fn reader(&self, past: Option<(u32, u64)>) -> Arc<Lane> {
        let from = past.map(|past| (SourceId(1), at(past)));
        let config = config(1 << 20, WhenFull::CatchUp);
        (self.derived.router()).open_from(config, &from.into_iter().collect())
    }
}

fn told(lane: &Lane) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(item) = lane.next() {
        lane.done();
        seen.push(match item {
            Item::Batch(b) => format!("{} {:?}", b.position(), b.columns.hashes),
            Item::Change(Change::Joined(state)) => format!("joined {}", state.is_derived()),
            Item::Change(Change::Left(_)) => "left".into(),
            Item::Change(Change::Reset { epoch, .. }) => format!("reset {}", epoch.0),
            Item::Change(Change::Gap {
                epoch,
                first,
                last,
                reason,
                ..
            }) => {
                format!("gap {}/{first}-{last} {}", epoch.0, reason.name())
            }
        });
    }
    seen
}

#[test]
fn each_batch_is_one_batch_with_what_was_kept() {
    let chain = chain(Beginning::default(), None);
    let early = chain.reader(None);
    assert_eq!(told(&early), ["joined true"]);
    let wanted = chain.engines.wanted(SourceId(1));
    assert_eq!(wanted, ColumnSet::TOKEN_HASHES, "decoded once");
    let whole = chain.emit(0, 0, &[0, 1, 2]);
    let same = std::iter::from_fn(|| early.next()).any(|item| {
        early.done();
        matches!(item, Item::Batch(b) if Arc::ptr_eq(&b, &whole))
    });
    assert!(same, "all of it is the very same batch");
    chain.emit(0, 1, &[2, 0]);
    chain.emit(0, 2, &[]);
    chain.gap(0, 3, 4);
    chain.emit(0, 5, &[1]);
    chain.reset(1);
    chain.emit(1, 0, &[0]);
    let rest = [
        "0/1 [12, 10]",
        "0/2 []",
        "gap 0/3-4 plugin_failed",
        "0/5 [51]",
        "reset 1",
        "1/0 [0]",
    ];
    assert_eq!(told(&early), rest);
    assert_eq!(
        told(&chain.reader(None)),
        ["joined true", "reset 1", "1/0 [0]"]
    );
    chain.derived.only(&Default::default());
    assert_eq!(told(&early), ["left"]);
    // It comes back, and those after it with it.
    chain.derived.join(&chain.engine, None);
    chain.emit(1, 1, &[0]);
    assert_eq!(told(&early), ["joined true", "1/1 [10]"]);
}

#[test]
fn what_was_emitted_is_not_emitted_again() {
    let chain = chain(Beginning::default(), None);
    let lane = chain.reader(None);
    (0..3).for_each(|s| drop(chain.emit(0, s, &[0])));
    // The operator was made anew and reads it all again.
    (0..3).for_each(|s| drop(chain.emit(0, s, &[1])));
    chain.gap(0, 0, 4);
    chain.emit(0, 5, &[0]);
    chain.reset(1);
    chain.reset(1);
    chain.emit(0, 6, &[0]);
    chain.gap(0, 6, 6);
    chain.emit(1, 0, &[0]);
    let expected = [
        "joined true",
        "0/0 [0]",
        "0/1 [10]",
        "0/2 [20]",
        "gap 0/3-4 plugin_failed",
        "0/5 [50]",
        "reset 1",
        "1/0 [0]",
    ];
    assert_eq!(told(&lane), expected);
}

#[test]
fn after_a_crash_a_reader_ahead_of_its_operator_skips_what_it_knows() {
    let resumed = Beginning {
        lineage: 7,
        epoch: Epoch(2),
        resumed: Some(10),
    };
    let chain = chain(resumed, Some((2, 8)));
    let (ahead, level, new) = (
        chain.reader(Some((2, 10))),
        chain.reader(Some((2, 8))),
        chain.reader(None),
    );
    (9..=12).for_each(|s| drop(chain.emit(2, s, &[0])));
    assert_eq!(told(&ahead), ["2/11 [110]", "2/12 [120]"]);
    assert_eq!(told(&level).len(), 4);
    // It has no past, and nobody holds what the operator made before.
    let first = ["joined true", "gap 2/0-8 missed", "2/9 [90]"];
    assert_eq!(told(&new)[..3], first);
    chain.reset(3);
    chain.emit(3, 0, &[0]);
    assert_eq!(told(&ahead), ["reset 3", "3/0 [0]"]);
}

#[test]
fn a_reader_past_a_restart_that_its_operator_has_yet_to_tell_goes_on() {
    let resumed = Beginning {
        lineage: 7,
        epoch: Epoch(3),
        resumed: Some(5),
    };
    let chain = chain(resumed, Some((2, 8)));
    let ahead = chain.reader(Some((3, 5)));
    chain.emit(2, 9, &[0]);
    chain.reset(3);
    (0..=6).for_each(|s| drop(chain.emit(3, s, &[0])));
    assert_eq!(told(&ahead), ["3/6 [60]"]);
}

#[test]
fn an_operator_that_comes_late_begins_in_the_middle() {
    let chain = chain(Beginning::default(), None);
    let early = chain.reader(None);
    assert_eq!(told(&early), ["joined true"]);
    (40..43).for_each(|s| drop(chain.emit(4, s, &[0])));
    assert_eq!(told(&early), ["4/40 [400]", "4/41 [410]", "4/42 [420]"]);
    let late = ["joined true", "4/40 [400]", "4/41 [410]", "4/42 [420]"];
    assert_eq!(told(&chain.reader(None)), late);
}

#[test]
fn a_lane_reads_each_source_from_one_router() {
    let engines = router(None, 1 << 20);
    let (a, b) = (Derived::new("a", &engines), Derived::new("b", &engines));
    let one = source();
    let (some, rest) = (
        Scope::of(&Filter::new(&["x"])),
        Scope::of(&Filter::default()),
    );
    let rest = Scope::all(vec![rest, Scope::none_of(vec![some.clone()])]);
    let from = vec![(a.router().clone(), some), (b.router().clone(), rest)];
    let lane = config(1 << 20, WhenFull::CatchUp);
    let reading = Reading::open(from, lane, &HashMap::new()).unwrap();
    a.join(&one, None);
    b.join(&one, None);
    let payload = removals(&[7]);
    let batch = decoded(&one, (0, 0), payload, ColumnSet::TOKEN_HASHES);
    let batch = Arc::new(batch);
    for derived in [&a, &b] {
        derived.batch(&batch, vec![Emitted::Kept(vec![0])]);
    }
    assert_eq!(told(reading.lane()), ["joined true", "0/0 [7]"]);
    assert_eq!(reading.reads(), [SourceId(1)].into());
    reading.rewind();
    assert_eq!(told(reading.lane()), ["joined true", "0/0 [7]"]);
    reading.rejoin();
    assert_eq!(told(reading.lane()), ["joined true"]);
    assert_eq!(reading.last_batches(SourceId(1), 9).len(), 1);
    reading.close();
    b.only(&Default::default());
    assert!(told(reading.lane()).is_empty());
}

#[test]
fn a_restart_that_the_operator_did_not_see_is_told_all_the_same() {
    let chain = chain(Beginning::default(), None);
    let reader = chain.reader(None);
    chain.emit(0, 0, &[0]);
    chain.emit(1, 4, &[1]);
    chain.gap(2, 0, 1);
    let seen = told(&reader);
    let seen: Vec<_> = seen.iter().map(String::as_str).collect();
    let expected = ["joined true", "0/0 [0]", "reset 1", "1/4 [41]", "reset 2"];
    assert_eq!(seen[..5], expected);
    assert!(seen[5].starts_with("gap 2/0-1"), "{seen:?}");
}
