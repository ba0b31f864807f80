//! A runner: fairness, failures, restarts, swaps, the end.

use crate::common::{batch, candidate, joined, query, until};
use penstock_event::{Answer, By, Change, Item, LookupError, SourceId};
use penstock_plugin::{
    Feed, Heirs, Limits, Pen, Reply, Restarts, Role, Runner, RunnerConfig, State, Trail, Waiting,
    hand_over_all,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;

/// A feed that keeps all it was ever given, and gives it again after a rewind.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    all: Vec<Item>,
    queue: VecDeque<Item>,
    taken: bool,
    rewinds: usize,
    runner: Option<Thread>,
}

impl Tape {
    fn push(&self, item: Item) {
        let mut inner = self.0.lock().unwrap();
        inner.all.push(item.clone());
        inner.queue.push_back(item);
        if let Some(runner) = &inner.runner {
            runner.unpark();
        }
    }

    fn batch(&self, sequence: u64) {
        self.push(Item::Batch(batch(1, sequence)));
    }

    fn rewinds(&self) -> usize {
        self.0.lock().unwrap().rewinds
    }
}

impl Feed for Tape {
    fn attach(&mut self, runner: Thread) {
        self.0.lock().unwrap().runner = Some(runner);
    }

    fn next(&mut self) -> Option<Item> {
        let mut inner = self.0.lock().unwrap();
        let item = inner.queue.pop_front()?;
        assert!(!inner.taken, "the item before is neither done nor rewound");
        inner.taken = true;
        Some(item)
    }

    fn done(&mut self) {
        let mut inner = self.0.lock().unwrap();
        assert!(inner.taken, "done twice");
        inner.taken = false;
    }

    fn rewind(&mut self) {
        let mut inner = self.0.lock().unwrap();
        inner.rewinds += 1;
        inner.taken = false;
        inner.queue = inner.all.iter().cloned().collect();
    }

    fn waiting(&self) -> Waiting {
        Waiting {
            items: self.0.lock().unwrap().queue.len(),
            bytes: 0,
        }
    }
}

/// The only instance of its plugin.
fn pen() -> Pen {
    Trail::new(1).pen(0)
}

fn start(limits: Limits, give_up: u32) -> (Runner, Tape) {
    let tape = Tape::default();
    tape.push(Item::Change(joined(1)));
    let config = RunnerConfig {
        max_lookups: 8,
        restarts: Restarts {
            first_ms: 5,
            longest_ms: 20,
            healthy_ms: 60_000,
            give_up,
        },
        ..RunnerConfig::default()
    };
    let candidate = candidate(limits, "{}").unwrap();
    let runner = Runner::start(
        candidate,
        Box::new(tape.clone()),
        config,
        Role::Lead(None),
        pen(),
    )
    .unwrap();
    (runner, tape)
}

fn find(runner: &Runner, deadline: Duration) -> Receiver<Result<Answer, LookupError>> {
    let (send, heard) = channel();
    let mut query = query(By::Tokens([1, 2, 3].into()));
    query.deadline = deadline;
    let reply = move |answer| send.send(answer).unwrap();
    runner.find(
        query,
        Reply::new(reply, || Err(LookupError::Failed("stopped".into()))),
    );
    heard
}

fn ask(runner: &Runner) -> Result<Answer, LookupError> {
    find(runner, Duration::from_secs(10))
        .recv_timeout(Duration::from_secs(20))
        .unwrap()
}

fn batches(runner: &Runner) -> u64 {
    runner.status().batches
}

#[test]
fn answers_name_the_position_they_are_made_at() {
    let (runner, tape) = start(Limits::default(), 0);
    for sequence in 0..5 {
        tape.batch(sequence);
    }
    until("5 batches", || batches(&runner) == 5);
    let answer = ask(&runner).unwrap();
    assert_eq!((answer.rows[0].source, answer.rows[0].tokens), (1, 3));
    let position = &answer.positions[0];
    assert_eq!(position.position.map(|p| p.sequence), Some(4));
    assert!(position.complete && !position.verified);
    assert_eq!((&*position.name, &*position.instance), ("vllm-1", "vllm-1"));
    until("a lookup", || runner.status().lookups == 1);
    let status = runner.status();
    assert_eq!(
        (status.state, status.generation, status.sources),
        (State::Running, 1, 1)
    );
    assert_eq!((status.events, status.blocks, status.lookups), (5, 5, 1));
    assert!(status.ns_per_event > 0.0 && status.memory_bytes >= 20 * 65_536);
    assert_eq!(status.description.name, "hostile");
}

#[test]
fn a_model_nobody_serves_and_an_expired_lookup_are_not_run() {
    let (runner, tape) = start(Limits::default(), 0);
    until("joined", || runner.status().sources == 1);
    let (send, heard) = channel();
    let mut other = query(By::Tokens([1].into()));
    other.model = "other".into();
    runner.find(
        other,
        Reply::new(move |a| send.send(a).unwrap(), || Ok(Answer::default())),
    );
    let no_model = heard.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(no_model, Err(LookupError::NoModel(vec!["m".into()])));
    let expired = find(&runner, Duration::ZERO)
        .recv_timeout(Duration::from_secs(20))
        .unwrap();
    assert_eq!(expired, Err(LookupError::Deadline));
    tape.batch(1);
    until("a batch", || batches(&runner) == 1);
    assert_eq!(
        (runner.status().lookups, runner.status().lookup_errors),
        (0, 2)
    );
}

#[test]
fn more_lookups_than_the_queue_holds_are_busy() {
    // The plugin sleeps; 8 lookups wait, the 9th does not.
    let limits = Limits {
        deadline_ms: 60_000,
        ..Limits::default()
    };
    let (runner, tape) = start(limits, 0);
    until("joined", || runner.status().sources == 1);
    for _ in 0..200 {
        tape.batch(116);
    }
    let mut busy = 0;
    let heard: Vec<_> = (0..400)
        .map(|_| find(&runner, Duration::from_secs(60)))
        .collect();
    for answer in heard {
        match answer.recv_timeout(Duration::from_secs(20)).unwrap() {
            Ok(answer) => assert_eq!(answer.rows.len(), 1),
            Err(LookupError::Busy) => busy += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(busy > 0);
}

#[test]
fn a_trap_costs_the_store_and_nothing_else() {
    let (runner, tape) = start(Limits::default(), 0);
    tape.batch(1);
    tape.batch(100);
    tape.batch(2);
    // It kills twice, is set aside, and the rest arrives.
    until("the third life", || {
        let status = runner.status();
        status.restarts == 2 && status.queue_items == 0 && status.state == State::Running
    });
    assert_eq!(tape.rewinds(), 2);
    let status = runner.status();
    assert_eq!(status.dropped_batches, 1);
    let error = status.last_error.unwrap();
    assert_eq!((error.code, error.call), ("trap", "on-batch"));
    assert!(error.message.contains("about to die"), "{}", error.message);
    let position = &ask(&runner).unwrap().positions[0];
    assert_eq!(position.position.map(|p| p.sequence), Some(2));
    assert!(!position.complete);
}

#[test]
fn a_plugin_that_fails_too_often_stays_down_until_it_is_replaced() {
    let (runner, tape) = start(Limits::default(), 3);
    // Its death comes with a change, which cannot be set aside.
    tape.push(Item::Change(joined(13)));
    until("given up", || runner.status().state == State::Failed);
    let answer = ask(&runner).unwrap();
    assert_eq!(answer.unavailable.len(), 2);
    assert!(answer.rows.is_empty() && answer.positions.is_empty());
}

/// Another build of the same plugin, which follows.
fn follower(leader: &Runner) -> (Runner, Tape) {
    let tape = Tape::default();
    tape.push(Item::Change(joined(1)));
    let next = candidate(Limits::default(), r#"{"other":1}"#).unwrap();
    let role = Role::Follow(leader.trail().clone(), false);
    let config = RunnerConfig::default();
    let runner = Runner::start(next, Box::new(tape.clone()), config, role, pen()).unwrap();
    (runner, tape)
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_follower_stands_where_the_leader_stands_and_takes_over_there() {
    let (old, tape) = start(Limits::default(), 0);
    let (new, other) = follower(&old);
    for sequence in 0..50 {
        other.batch(sequence);
    }
    for sequence in 0..30 {
        tape.batch(sequence);
    }
    until("30 batches", || batches(&old) == 30);
    until("the same 30", || batches(&new) == 30);
    let behind = |a: &Runner, b: &Runner| a.trail().behind(b.trail(), |_| true);
    assert_eq!(behind(&new, &old), Some(0), "and never further");

    assert!(old.play(Role::Hold, SOON));
    tape.batch(30);
    assert!(new.play(Role::Lead(Some(old.trail().clone())), SOON));
    until("the rest", || batches(&new) == 50);
    let answer = ask(&old).unwrap();
    let position = answer.positions[0].position;
    assert_eq!(
        position.map(|p| p.sequence),
        Some(29),
        "it holds, and answers"
    );

    assert!(old.play(Role::Follow(new.trail().clone(), false), SOON));
    until("what it had missed", || batches(&old) == 31);
    assert_eq!(behind(&old, &new), Some(19), "nothing more came to it");
    assert_eq!(tape.rewinds() + other.rewinds(), 0);
}

#[test]
fn what_one_published_is_had_for_all_that_come_after() {
    let (first, tape) = start(Limits::default(), 0);
    for sequence in 0..30 {
        tape.batch(sequence);
    }
    until("30 batches", || batches(&first) == 30);
    // It takes over before it has caught up.
    let (second, slow) = follower(&first);
    for sequence in 0..10 {
        slow.batch(sequence);
    }
    until("10 batches", || batches(&second) == 10);
    assert!(first.play(Role::Hold, SOON));
    assert!(second.play(Role::Lead(Some(first.trail().clone())), SOON));
    let (third, all) = follower(&second);
    for sequence in 0..40 {
        all.batch(sequence);
    }
    until("what the first one had", || batches(&third) == 30);
    assert_eq!(batches(&second), 10);
}

#[test]
fn a_follower_waits_for_a_leader_that_is_down() {
    let (old, tape) = start(Limits::default(), 1);
    tape.batch(0);
    let (new, other) = follower(&old);
    other.batch(0);
    until("one batch", || batches(&new) == 1);
    tape.batch(100);
    until("its end", || old.status().state == State::Failed);
    for sequence in 1..5 {
        other.batch(sequence);
    }
    assert!(new.play(Role::Lead(Some(old.trail().clone())), SOON));
    until("all of them", || batches(&new) == 5);
}

#[test]
fn state_moves_to_a_candidate_while_the_old_one_goes_on() {
    let (old, tape) = start(Limits::default(), 0);
    tape.push(Item::Change(joined(2)));
    for sequence in 0..10 {
        tape.batch(sequence);
    }
    until("10 batches", || batches(&old) == 10);
    let mut next = candidate(Limits::default(), r#"{"other":1}"#).unwrap();
    let past = old.hand_over(&mut next, Duration::from_secs(20)).unwrap();
    let known: Vec<_> = past
        .positions
        .iter()
        .map(|(id, p)| (id.0, p.sequence))
        .collect();
    assert_eq!(known, [(1, 9)], "of 2 nothing was applied");
    assert!(past.anew.is_empty());
    tape.batch(10);
    until("one batch more", || batches(&old) == 11);

    // The other one goes on after its past.
    let rest = Tape::default();
    rest.push(Item::Change(joined(2)));
    rest.batch(10);
    let config = RunnerConfig::default();
    let new = Runner::start(next, Box::new(rest), config, Role::Lead(None), pen()).unwrap();
    until("its batch", || batches(&new) == 1);
    let answer = ask(&new).unwrap();
    let at = |i: usize| answer.positions[i].position.map(|p| p.sequence);
    assert_eq!((at(0), at(1)), (Some(10), None));
    assert!(answer.positions[0].complete);
}

#[test]
fn who_is_down_hands_nothing_over() {
    let (old, tape) = start(Limits::default(), 1);
    tape.batch(100);
    until("its end", || old.status().state == State::Failed);
    let mut next = candidate(Limits::default(), "{}").unwrap();
    let past = old.hand_over(&mut next, Duration::from_secs(20)).unwrap();
    assert!(past.positions.is_empty() && past.anew.is_empty());
}

#[test]
fn refusals_are_counted_by_code_with_their_place() {
    let (runner, tape) = start(Limits::default(), 0);
    tape.batch(104);
    until("a refusal", || runner.status().refusals == 1);
    let status = runner.status();
    assert_eq!(status.refusal_codes.get("7"), Some(&1));
    let recent = &status.recent_refusals[0];
    assert_eq!((recent.source, recent.sequence, recent.event), (1, 104, 0));
    assert!(serde_json::to_value(&status).unwrap()["refusal_codes"]["7"] == 1);
}

#[test]
fn a_source_that_left_is_in_no_answer() {
    let (runner, tape) = start(Limits::default(), 0);
    tape.push(Item::Change(joined(2)));
    until("two sources", || runner.status().sources == 2);
    tape.push(Item::Change(Change::Left(SourceId(1))));
    until("one source", || runner.status().sources == 1);
    let answer = ask(&runner).unwrap();
    assert_eq!(answer.positions.len(), 1);
    assert_eq!(answer.positions[0].source, SourceId(2));
}

#[test]
fn requests_pass_and_the_end_drains_and_answers_everybody() {
    let (runner, tape) = start(Limits::default(), 0);
    let (send, heard) = channel();
    let reply = Reply::new(move |a| send.send(a).unwrap(), || Ok(Vec::new()));
    runner.request(b"ping".as_slice().into(), Duration::from_secs(10), reply);
    assert_eq!(
        heard.recv_timeout(Duration::from_secs(20)).unwrap(),
        Ok(b"ping".to_vec())
    );
    for _ in 0..20 {
        tape.batch(116);
    }
    let waiting: Vec<_> = (0..4)
        .map(|_| find(&runner, Duration::from_secs(60)))
        .collect();
    runner.stop(Duration::from_secs(20));
    assert!(tape.0.lock().unwrap().queue.is_empty());
    for answer in waiting {
        // Answered by the plugin, or told that it is over: never silence.
        answer.recv_timeout(Duration::from_secs(20)).unwrap().ok();
    }
}

#[test]
fn lookups_without_end_do_not_hold_batches_up() {
    let (runner, tape) = start(Limits::default(), 0);
    until("joined", || runner.status().sources == 1);
    let (stop, stopped) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    drop(find(&runner, Duration::from_secs(10)).recv());
                }
                stopped.store(true, Relaxed);
            });
        }
        for sequence in 0..90 {
            tape.batch(sequence);
        }
        until("90 batches", || batches(&runner) == 90);
        assert!(!stopped.load(Relaxed));
        stop.store(true, Relaxed);
    });
    until("lookups", || runner.status().lookups > 0);
}

/// Two instances of one plugin, a source each: 2 and 3.
fn shards(role: &Role) -> (Vec<Runner>, Vec<Tape>) {
    let trail = Trail::new(2);
    let shard = |number: usize| {
        let tape = Tape::default();
        tape.push(Item::Change(joined(2 + number as u32)));
        let candidate = candidate(Limits::default(), r#"{"other":1}"#).unwrap();
        let (config, pen) = (RunnerConfig::default(), trail.pen(number));
        let feed = Box::new(tape.clone());
        let runner = Runner::start(candidate, feed, config, role.clone(), pen).unwrap();
        (runner, tape)
    };
    (0..2).map(shard).unzip()
}

fn feed(tapes: &[Tape], sequences: std::ops::Range<u64>) {
    for (tape, source) in tapes.iter().zip(2..) {
        for sequence in sequences.clone() {
            tape.push(Item::Batch(batch(source, sequence)));
        }
    }
}

#[test]
fn shards_follow_hold_and_lead_as_one() {
    let (old, tapes) = shards(&Role::Lead(None));
    feed(&tapes, 0..5);
    let trail = old[0].trail();
    // Other sources, other instances: who follows does not care.
    let (new, others) = shards(&Role::Follow(trail.clone(), false));
    feed(&others, 0..9);
    until("5 batches each", || new.iter().all(|r| batches(r) == 5));
    assert_eq!(new[0].trail().behind(trail, |_| true), Some(0));
    assert!(Runner::play_all(&old, &Role::Hold, SOON));
    feed(&tapes, 5..9);
    let lead = Role::Lead(Some(trail.clone()));
    assert!(Runner::play_all(&new, &lead, SOON));
    until("the rest", || new.iter().all(|r| batches(r) == 9));
    assert!(old.iter().all(|r| batches(r) == 5), "they hold");
    let follow = Role::Follow(new[0].trail().clone(), false);
    assert!(Runner::play_all(&old, &follow, SOON));
    until("what they missed", || old.iter().all(|r| batches(r) == 9));
}

#[test]
fn state_moves_by_source_from_two_instances_to_three() {
    let (old, tapes) = shards(&Role::Lead(None));
    feed(&tapes, 0..4);
    until("4 batches each", || old.iter().all(|r| batches(r) == 4));
    let make = |_| candidate(Limits::default(), r#"{"other":1}"#).unwrap();
    let mut next: Vec<_> = (0..3).map(make).collect();
    let from: Vec<&Runner> = old.iter().collect();
    let pasts = {
        let heirs = Heirs::new(&mut next, |source| Some(source.id.0 as usize % 3));
        hand_over_all(&from, heirs, SOON).unwrap()
    };
    let known = |i: usize| -> Vec<(u32, u64)> {
        let positions = pasts[i].positions.iter();
        positions.map(|(id, p)| (id.0, p.sequence)).collect()
    };
    assert_eq!((known(0), known(1)), (vec![(3, 3)], vec![]));
    assert_eq!(known(2), [(2, 3)]);
    assert!(pasts.iter().all(|past| past.anew.is_empty()));

    // Nobody is to get 3: it goes with those that had it.
    let mut next: Vec<_> = (0..2).map(make).collect();
    let heirs = Heirs::new(&mut next, |source| (source.id.0 == 2).then_some(1));
    let pasts = hand_over_all(&from, heirs, SOON).unwrap();
    let sources: Vec<_> = pasts.iter().map(|past| past.positions.len()).collect();
    assert_eq!(sources, [0, 1]);
}
