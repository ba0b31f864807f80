use crate::Dedupe;
use penstock_sdk::testing::{self, Emitted, Host, StoredBuilder, batch, change, stored};
use penstock_sdk::{Medium, RawChange};
use proptest::prelude::*;
use std::collections::HashMap;

fn host() -> Host<Dedupe> {
    limited(1_000)
}

fn limited(blocks: usize) -> Host<Dedupe> {
    let mut host = Host::start(&format!(r#"{{"max_blocks": {blocks}}}"#)).unwrap();
    host.join(1, "vllm-0", "llama");
    drop(testing::emitted());
    host
}

fn gap(host: &mut Host<Dedupe>) {
    let gap = RawChange {
        last: 4,
        reason: 2,
        ..change(1, 3)
    };
    host.change(gap);
}

/// Whether the only event of a batch passes as it came.
fn store(host: &mut Host<Dedupe>, event: StoredBuilder) -> bool {
    host.send(batch(1).stored(event));
    match testing::emitted().as_slice() {
        [] => false,
        [Emitted::Kept(0)] => true,
        other => panic!("{other:?}"),
    }
}

/// The blocks of a removed event that pass.
fn remove(host: &mut Host<Dedupe>, hashes: &[u64]) -> Vec<u64> {
    host.send(batch(1).removed(Medium::Gpu, 0, hashes));
    match testing::emitted().as_slice() {
        [] => Vec::new(),
        [Emitted::Kept(0)] => hashes.to_vec(),
        [
            Emitted::Removed {
                medium: Medium::Gpu,
                hashes,
            },
        ] => hashes.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_changes_something_passes() {
    let mut host = host();
    assert!(store(&mut host, stored(16, &[1, 2])));
    assert!(!store(&mut host, stored(16, &[1, 2])), "all of it is held");
    assert!(!store(&mut host, stored(16, &[2]).parent(1)));
    assert!(store(&mut host, stored(16, &[2, 3]).parent(1)), "3 is new");
    assert!(
        store(&mut host, stored(16, &[1, 2]).medium(Medium::Cpu)),
        "elsewhere"
    );
    assert!(store(&mut host, stored(16, &[1, 2]).group(1)));
    assert!(store(&mut host, stored(16, &[1, 2]).model("other")));
    assert!(!store(&mut host, stored(16, &[])));
    assert!(remove(&mut host, &[7]).is_empty());
    host.send(batch(1).cleared());
    assert_eq!(testing::emitted(), [Emitted::Kept(0)]);
    assert!(store(&mut host, stored(16, &[1, 2])), "forgotten");
    host.tick();
    let counts = [
        "passed_events",
        "dropped_stored",
        "dropped_removed",
        "dropped_empty",
    ];
    assert_eq!(counts.map(testing::counter), [7, 2, 1, 1]);
    assert_eq!(testing::gauge("held_blocks"), Some(2.0));
}

#[test]
fn a_block_stored_twice_is_held_until_it_is_removed_twice() {
    let mut host = host();
    store(&mut host, stored(16, &[1, 2]));
    store(&mut host, stored(16, &[1]));
    // Told once of each: the first remove of 1 says nothing new.
    assert_eq!(remove(&mut host, &[1, 2]), [2]);
    assert_eq!(remove(&mut host, &[1]), [1]);
    assert!(remove(&mut host, &[1]).is_empty());
    // Told twice of 1, since 3 was new: each remove is news.
    store(&mut host, stored(16, &[1]));
    store(&mut host, stored(16, &[1, 3]));
    assert_eq!(remove(&mut host, &[1]), [1]);
    assert_eq!(remove(&mut host, &[1]), [1]);
}

#[test]
fn below_a_parent_that_is_not_held_all_passes() {
    let mut host = host();
    assert!(store(&mut host, stored(16, &[2]).parent(1)));
    assert!(
        store(&mut host, stored(16, &[2]).parent(1)),
        "an index may have refused it"
    );
    store(&mut host, stored(16, &[1]));
    assert!(
        store(&mut host, stored(16, &[2]).parent(1)),
        "now it is held for certain"
    );
    assert!(!store(&mut host, stored(16, &[2]).parent(1)));
}

#[test]
fn after_a_gap_what_is_uncertain_passes() {
    let mut host = host();
    store(&mut host, stored(16, &[1, 2]));
    gap(&mut host);
    assert!(store(&mut host, stored(16, &[1])), "it may have gone");
    assert!(!store(&mut host, stored(16, &[1])));
    assert_eq!(remove(&mut host, &[2, 1, 9]), [2, 9]);
    host.reset(1, 1);
    assert!(
        remove(&mut host, &[9]).is_empty(),
        "a restart leaves no doubt"
    );
    host.send(batch(1).skipped(1).stored(stored(16, &[1])));
    drop(testing::emitted());
    assert_eq!(
        remove(&mut host, &[9]),
        [9],
        "what was left out is a gap as well"
    );
    host.send(batch(1).cleared());
    drop(testing::emitted());
    assert!(remove(&mut host, &[9]).is_empty());
}

#[test]
fn beyond_its_memory_all_passes() {
    let mut host = limited(2);
    assert!(store(&mut host, stored(16, &[1, 2, 3])));
    assert!(store(&mut host, stored(16, &[3])), "not known");
    assert!(!store(&mut host, stored(16, &[1, 2])));
    assert_eq!(remove(&mut host, &[3]), [3]);
    remove(&mut host, &[1]);
    assert_eq!(remove(&mut host, &[1]), [1]);
    assert!(store(&mut host, stored(16, &[4])), "there is room again");
    assert!(!store(&mut host, stored(16, &[4])));
    host.tick();
    assert_eq!(testing::counter("untracked_blocks"), 2);
}

#[test]
fn the_next_build_knows_what_this_one_knew() {
    let mut old = host();
    store(&mut old, stored(16, &[1, 2]));
    store(&mut old, stored(16, &[1]));
    store(&mut old, stored(16, &[5]).parent(4));
    store(&mut old, stored(16, &[1]).medium(Medium::Cpu));
    let mut new = host();
    assert!(new.take_over(&mut old, 1, 40).unwrap() > 1);
    assert!(!store(&mut new, stored(16, &[1, 2])));
    assert!(!store(&mut new, stored(16, &[1]).medium(Medium::Cpu)));
    assert!(store(&mut new, stored(16, &[5]).parent(4)));
    assert!(remove(&mut new, &[1, 2, 7]).is_empty());
    assert_eq!(remove(&mut new, &[2]), [2]);
    let mut small = limited(1);
    small.take_over(&mut old, 1, 1 << 20).unwrap();
    assert_eq!(remove(&mut small, &[7]), [7], "it has no room for all");
    let mut broken = host();
    assert!(broken.instance().restore(1, 2, b"").is_err());
}

#[test]
fn a_source_that_left_is_forgotten() {
    let mut host = host();
    store(&mut host, stored(16, &[1]));
    host.leave(1);
    host.join(1, "vllm-0", "llama");
    assert!(store(&mut host, stored(16, &[1])));
}

#[derive(Clone, Debug)]
enum Step {
    Store(Vec<u64>),
    Remove(Vec<u64>),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let hashes = || prop::collection::vec(0u64..6, 1..4);
    prop_oneof![
        8 => hashes().prop_map(Step::Store),
        8 => hashes().prop_map(Step::Remove),
        1 => Just(Step::Clear),
    ]
}

/// Blocks and how often each is held, by whoever counts.
#[derive(Default)]
struct Counter(HashMap<u64, u32>);

impl Counter {
    fn store(&mut self, hashes: &[u64]) {
        hashes
            .iter()
            .for_each(|hash| *self.0.entry(*hash).or_default() += 1);
    }

    fn remove(&mut self, hashes: &[u64]) {
        for hash in hashes {
            if let Some(count) = self.0.get_mut(hash) {
                *count = count.saturating_sub(1);
            }
        }
    }

    fn held(&self) -> Vec<u64> {
        let held = self.0.iter().filter(|(_, count)| **count > 0);
        let mut held: Vec<_> = held.map(|(hash, _)| *hash).collect();
        held.sort_unstable();
        held
    }
}

proptest! {
    /// Whoever counts what passes holds what the engine holds, after every event.
    #[test]
    fn those_after_hold_what_the_engine_holds(steps in prop::collection::vec(step(), 1..60)) {
        let mut host = host();
        let (mut engine, mut after) = (Counter::default(), Counter::default());
        for step in steps {
            match &step {
                Step::Store(hashes) => {
                    engine.store(hashes);
                    if store(&mut host, stored(16, hashes)) {
                        after.store(hashes);
                    }
                }
                Step::Remove(hashes) => {
                    engine.remove(hashes);
                    after.remove(&remove(&mut host, hashes));
                }
                Step::Clear => {
                    host.send(batch(1).cleared());
                    drop(testing::emitted());
                    (engine, after) = (Counter::default(), Counter::default());
                }
            }
            prop_assert_eq!(engine.held(), after.held(), "{:?}", step);
        }
    }
}
