use super::*;
use crate::endpoint::Side;
use crate::frames::{FramesReader, Message, batch};
use crate::replay::Framing;
use crate::subscriber::{Subscriber, fetch};
use crate::trace::{TraceConfig, WorkloadConfig};
use std::path::Path;

const LONG: Duration = Duration::from_secs(20);

fn capture_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/captures/vllm-0.9.2.frames")
}

fn recorded(numbering: Numbering, rounds: u64) -> Source {
    Source::Frames {
        path: capture_file(),
        numbering,
        rounds,
    }
}

fn trace() -> Source {
    Source::Trace {
        path: Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/traces/mooncake_trace_1000.jsonl"),
        workload: WorkloadConfig::default(),
        config: TraceConfig::default(),
    }
}

fn config(source: Source) -> EngineConfig {
    let mut config = EngineConfig::new("tcp://127.0.0.1:*", source);
    config.publisher.replay = Some("tcp://127.0.0.1:*".into());
    config.publisher.linger = Duration::from_millis(500);
    config
}

fn subscribe(context: &zmq::Context, engines: &Engines, engine: usize) -> Subscriber {
    let endpoint = engines.progress().engines[engine].endpoint.clone();
    Subscriber::open(context, &endpoint, &[], Side::Auto, 100_000).unwrap()
}

fn receive(subscriber: &Subscriber, count: usize) -> Vec<Message> {
    let next = || {
        subscriber
            .receive(LONG)
            .unwrap()
            .expect("no message in time")
    };
    (0..count).map(|_| next()).collect()
}

fn sequences(messages: &[Message]) -> Vec<u64> {
    messages
        .iter()
        .map(|m| batch(m).unwrap().sequence)
        .collect()
}

#[test]
fn a_recording_is_published_as_it_was_recorded() {
    let context = zmq::Context::new();
    let mut config = config(recorded(Numbering::Recorded, 1));
    config.wait_subscribers = 1;
    config.publisher.framing = Framing::Old;
    let engines = Engines::start(config).unwrap();
    let subscriber = subscribe(&context, &engines, 0);
    let messages = receive(&subscriber, 107);
    let expected = FramesReader::open(&capture_file()).unwrap();
    let expected: Vec<Message> = expected.collect::<Result<_>>().unwrap();
    assert_eq!(messages, expected);
    // It stays, and answers replay requests after its last batch.
    assert!(engines.wait(LONG, |all| all.engines[0].state == State::Serving));
    let replay = engines.progress().engines[0].replay_endpoint.clone();
    let fetched = fetch(&context, &replay.unwrap(), 100, LONG).unwrap();
    assert!(fetched.complete);
    assert_eq!(fetched.framing, Some(Framing::Old));
    assert_eq!(fetched.batches.len(), 7);
    let summary = engines.stop().unwrap();
    assert_eq!((summary.batches, summary.events), (107, 545));
    assert_eq!(summary.engines[0].publisher.replay.completed, 1);
}

#[test]
fn a_recording_can_be_renumbered_and_repeated() {
    let mut config = config(recorded(Numbering::Fresh, 2));
    config.wait_subscribers = 1;
    config.publisher.topic = "mine".into();
    config.publisher.first_sequence = 1;
    let engines = Engines::start(config).unwrap();
    let subscriber = subscribe(&zmq::Context::new(), &engines, 0);
    let messages = receive(&subscriber, 214);
    assert_eq!(sequences(&messages), (1..=214).collect::<Vec<_>>());
    assert!(messages.iter().all(|m| m[0] == "mine"));
    assert_eq!(messages[0][2], messages[107][2]);
    engines.stop().unwrap();
}

#[test]
fn a_recorded_restart_empties_the_replay() {
    let mut config = config(recorded(Numbering::Recorded, 2));
    config.batches = Some(110);
    let engines = Engines::start(config).unwrap();
    assert!(engines.wait(LONG, |all| all.engines[0].state == State::Serving));
    let replay = engines.progress().engines[0].replay_endpoint.clone();
    let fetched = fetch(&zmq::Context::new(), &replay.unwrap(), 0, LONG).unwrap();
    let held: Vec<u64> = fetched.batches.iter().map(|(s, _)| *s).collect();
    assert_eq!(held, [0, 1, 2]);
    engines.stop().unwrap();
}

#[test]
fn several_engines_share_a_trace_and_log_what_they_publish() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.jsonl");
    let context = zmq::Context::new();
    let mut config = config(trace());
    config.engines = 2;
    config.rank = Some(0);
    config.batches = Some(30);
    config.wait_subscribers = 1;
    config.log = Some(log.clone());
    config.record = Some(dir.path().join("out.frames"));
    config.publisher.faults.drop_live = "3-4".parse().unwrap();
    config.publisher.faults.hide_from_replay = "4".parse().unwrap();
    let engines = Engines::start(config).unwrap();
    let subscribers = [0, 1].map(|n| subscribe(&context, &engines, n));
    let received = subscribers.map(|s| receive(&s, 28));
    assert_ne!(received[0][0][2], received[1][0][2]);
    assert!(engines.wait(LONG, |all| all.batches == 60));
    let summary = engines.stop().unwrap();
    assert_eq!((summary.batches, summary.dropped), (60, 4));
    let text = std::fs::read_to_string(&log).unwrap();
    let entries: Vec<LogEntry> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(entries.len(), 62);
    let mut blocks_logged = 0;
    for (number, received) in received.iter().enumerate() {
        let path = dir.path().join(format!("out-{number}.frames"));
        let record: Vec<Message> = FramesReader::open(&path)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(sequences(&record), (0..30).collect::<Vec<_>>());
        let mut at = received.iter();
        for entry in &entries {
            let LogEntry::Batch {
                engine,
                sequence,
                digest,
                sent,
                hidden,
                blocks,
                ..
            } = entry
            else {
                continue;
            };
            if *engine != number {
                continue;
            }
            blocks_logged += blocks.unwrap();
            let recorded = &record[*sequence as usize];
            assert_eq!(*digest, penstock_event::digest(&recorded[2]));
            assert_eq!(
                (*sent, *hidden),
                (!(3..=4).contains(sequence), *sequence == 4)
            );
            if *sent {
                assert_eq!(at.next(), Some(recorded));
            }
        }
    }
    assert_eq!(blocks_logged, summary.blocks);
}

#[test]
fn an_engine_pauses_bursts_dies_and_comes_back() {
    let context = zmq::Context::new();
    let mut config = config(trace());
    config.rate = 2_000.0;
    config.wait_subscribers = 1;
    let engines = Engines::start(config).unwrap();
    let subscriber = subscribe(&context, &engines, 0);
    receive(&subscriber, 5);
    engines.command(0, Command::Pause).unwrap();
    assert!(engines.wait(LONG, |all| all.engines[0].state == State::Paused));
    let paused = engines.progress().batches;
    engines.command(0, Command::Burst(70)).unwrap();
    assert!(engines.wait(LONG, |all| all.batches >= paused + 70));
    // Everything up to here has come, and not one batch more.
    let rest = receive(&subscriber, (paused + 70 - 5) as usize);
    assert_eq!(sequences(&rest).last(), Some(&(paused + 69)));
    let raw = vec![Bytes::from_static(b"odd")];
    engines.command(0, Command::Raw(raw.clone())).unwrap();
    assert_eq!(receive(&subscriber, 1), [raw]);
    let before = engines.progress().engines[0].clone();
    engines.command(0, Command::Kill).unwrap();
    assert!(engines.wait(LONG, |all| all.engines[0].state == State::Dead));
    let restart = Command::Restart {
        first_sequence: 0,
        wait_subscribers: 1,
    };
    engines.command(0, restart).unwrap();
    engines.command(0, Command::Resume).unwrap();
    // The same socket connects again and sees the sequence start over.
    assert_eq!(sequences(&receive(&subscriber, 3)), [0, 1, 2]);
    let after = engines.progress().engines[0].clone();
    assert_eq!(after.endpoint, before.endpoint);
    assert_eq!(after.replay_endpoint, before.replay_endpoint);
    assert_eq!(after.restarts, 1);
    assert!(after.next_request >= before.next_request);
    engines.stop().unwrap();
}

#[test]
fn run_ends_by_itself_unless_told_to_stay() {
    let mut ending = config(recorded(Numbering::Recorded, 1));
    ending.stay = false;
    let mut calls = 0;
    let summary = run(ending, &AtomicBool::new(false), |_| calls += 1).unwrap();
    assert_eq!(summary.batches, 107);
    assert_eq!(summary.engines[0].state, State::Ended);
    assert!(calls > 0);
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["engines"][0]["state"], "ended");
    let staying = config(recorded(Numbering::Recorded, 1));
    let stop = AtomicBool::new(false);
    let summary = run(staying, &stop, |all| {
        stop.store(all.engines[0].state == State::Serving, Relaxed);
    });
    assert_eq!(summary.unwrap().batches, 107);
}

#[test]
fn mistakes_are_errors_at_the_start_and_name_their_cause() {
    let message = |change: &dyn Fn(&mut EngineConfig)| {
        let mut config = config(recorded(Numbering::Recorded, 1));
        change(&mut config);
        Engines::start(config).unwrap_err().to_string()
    };
    assert!(message(&|c| c.engines = 0).contains("engines"));
    assert!(message(&|c| c.rate = f64::NAN).contains("rate"));
    assert!(message(&|c| c.publisher.endpoint = "tcp://*:99999".into()).contains("99999"));
    let missing = |c: &mut EngineConfig| {
        c.source = Source::Frames {
            path: "no/such.frames".into(),
            numbering: Numbering::Fresh,
            rounds: 1,
        };
    };
    assert!(message(&missing).contains("no/such.frames"));
    let mut lonely = config(recorded(Numbering::Recorded, 1));
    lonely.wait_subscribers = 2;
    lonely.wait_timeout = Some(Duration::from_millis(20));
    let error = run(lonely, &AtomicBool::new(false), |_| {}).unwrap_err();
    assert!(matches!(
        error,
        PeerError::NoSubscribers {
            wanted: 2,
            found: 0,
            ..
        }
    ));
}
