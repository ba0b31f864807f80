//! What shards answer is what one instance would.

use super::{index, names};
use crate::rig::{CALM, GRANTS, Hand, batch, ctl, query, refused, run, series, stored};
use penstock_event::{By, Query};
use penstock_query::client::{HttpClient, ZmqClient};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::{plugin_file, wait};
use std::sync::Arc;
use std::time::Duration;

/// A prompt of eight blocks.
const PROMPT: [u32; 32] = {
    let mut prompt = [0; 32];
    let mut at = 0;
    while at < 32 {
        prompt[at] = at as u32 + 1;
        at += 1;
    }
    prompt
};

/// Engines that hold one block more of the prompt, each than the one before.
fn engines() -> Vec<Hand> {
    let engine = |i: usize| {
        let hand = Hand::start();
        let hashes: Vec<u64> = (0..=i as u64).collect();
        hand.store(&PROMPT[..4 * (i + 1)], &hashes);
        hand
    };
    (0..5).map(engine).collect()
}

fn start(engines: &[Hand]) -> Daemon {
    let setup = Setup::new()
        .variable("PENSTOCK_QUERY__LOOKUP", "one")
        .plugin("one", "prefix-index", CALM)
        .plugin("two", "prefix-index", &index(2))
        .plugin("many", "prefix-index", &index(9));
    let named = engines.iter().zip(names(engines.len()));
    let setup = named.fold(setup, |setup, (hand, name)| hand.source(setup, &name));
    let daemon = setup.start();
    for name in names(engines.len()) {
        daemon.wait_for(&name, 0, 0);
    }
    daemon
}

fn questions() -> Vec<Query> {
    let tokens = |end: usize| query(By::Tokens(PROMPT[..end].into()));
    let mut questions: Vec<_> = (0..=32).step_by(4).map(tokens).collect();
    for hash in 0..6 {
        questions.push(query(By::EngineHashes(Arc::new([hash]))));
    }
    questions
}

#[test]
fn they_answer_as_one_instance_would() {
    let engines = engines();
    let daemon = start(&engines);
    let mut client = ZmqClient::connect(&daemon.zmq).unwrap();
    for plugin in ["two", "many"] {
        for question in questions() {
            let right = wait::until("all positions", PATIENCE, || {
                let answer = client.query(Some("one"), &question).ok()?;
                let known = answer.positions.values().filter(|p| p.sequence.is_some());
                (known.count() == 5).then_some(answer)
            });
            // It may be behind for a moment.
            let same = wait::within(PATIENCE, || {
                (client.query(Some(plugin), &question).unwrap() == right).then_some(())
            });
            let answer = client.query(Some(plugin), &question);
            assert!(same.is_some(), "{plugin}: {answer:?} is not {right:?}");
        }
        let mut other = query(By::Tokens(PROMPT.into()));
        other.model = "unknown".into();
        let told = |plugin| HttpClient::new(&daemon.http).query(Some(plugin), &other);
        let (one, all) = (told("one").unwrap_err(), told(plugin).unwrap_err());
        assert_eq!(one.to_string(), all.to_string());
    }
    let holds = client.query(Some("two"), &query(By::Tokens(PROMPT.into())));
    assert_eq!(holds.unwrap().scores.len(), 5, "a comparison of nothing");
}

#[test]
fn they_are_shown_as_one_plugin() {
    let engines = engines();
    let daemon = start(&engines);
    let client = HttpClient::new(&daemon.http);
    for _ in 0..3 {
        let asked = client.query(Some("two"), &query(By::Tokens(PROMPT.into())));
        asked.unwrap();
    }
    let status = wait::until("all batches", PATIENCE, || {
        let two = daemon.plugin("two")?;
        (two.batches == 5 && two.lookups == 3).then_some(two)
    });
    let one = daemon.plugin("one").unwrap();
    assert_eq!((one.shards, status.shards), (1, 2));
    assert_eq!(status.memory_limit, 2 * one.memory_limit);
    assert!(status.memory_bytes > one.memory_bytes, "of both");
    assert_eq!((&*status.state, status.events), ("running", one.events));
    assert!(ctl(&daemon, &["plugins"]).contains("shards"));
    let metric = |name: &str| series(&daemon, name, &["plugin=\"two\""]);
    assert_eq!(metric("penstock_plugin_batches_total"), 5.0);
    assert_eq!(metric("penstock_plugin_up"), 1.0);
    let limit = metric("penstock_plugin_memory_limit_bytes");
    assert_eq!(limit, status.memory_limit as f64);
    // Its own gauges do not hide one another.
    wait::until("its own gauge, of each", PATIENCE, || {
        let blocks = |more: &str| {
            let labels = ["plugin=\"two\"", more];
            series(&daemon, "penstock_plugin_custom_blocks", &labels)
        };
        let (first, second) = (blocks("shard=\"1\""), blocks("shard=\"2\""));
        (first > 0.0 && second > 0.0 && first + second == blocks("")).then_some(())
    });
}

#[test]
fn one_that_is_stuck_is_waited_for_no_longer_than_the_asker_waits() {
    let engines = engines();
    let daemon = start(&engines);
    let client = HttpClient::new(&daemon.http);
    let mut question = query(By::Tokens(PROMPT.into()));
    question.deadline = Duration::from_millis(80);
    // Much more than can be indexed in that time.
    let batches: Vec<_> = (0..4).map(huge).collect();
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            for batch in batches {
                engines[1].publish(batch);
            }
        });
        wait::until("an answer without its sources", PATIENCE, || {
            // None from either is an error, on a busy machine.
            let answer = client.query(Some("two"), &question).ok()?;
            let of_one = answer.unavailable == ["e1".into(), "e3".into()];
            of_one.then_some(answer)
        })
    });
    assert_eq!(answer.positions.len(), 3, "{answer:?}");
    assert!(answer.positions.contains_key("e0") && !answer.positions.contains_key("e1"));
}

fn huge(number: u64) -> Vec<u8> {
    let first = 1_000_000 * (number + 1);
    let hashes: Vec<u64> = (first..first + 300_000).collect();
    let tokens: Vec<u32> = (0..1_200_000).map(|t| t + number as u32).collect();
    batch(&[stored(&tokens, &hashes)])
}

#[test]
fn what_cannot_be_shared_is_refused_with_what_to_do() {
    let sharded = format!("shards = 2\n{GRANTS}");
    let daemon = Setup::new()
        .plugin("faulty", "faulty", &sharded)
        .plugin("index", "prefix-index", &index(0))
        .start();
    let status = refused(&daemon, "faulty", "shards = 2: it exports `request`");
    assert!(status.load_error.unwrap().contains("leave `shards` out"));
    refused(&daemon, "index", "must be between 1 and 64, not 0");

    let home = daemon.home.path();
    let wasm = plugin_file("faulty");
    let toml = daemon.path("plugins.d/faulty.toml");
    let (wasm, toml) = (wasm.to_str().unwrap(), toml.to_str().unwrap());
    let output = run(home, &["plugin", "check", wasm, "--toml", toml]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot be merged"), "{told}");
    let output = run(home, &["check", "--config", "penstock.toml"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("it exports `request`"), "{told}");

    // A file with shards does for the other commands, which have one instance.
    let wasm = plugin_file("prefix-index");
    let toml = daemon.path("index.toml");
    std::fs::write(&toml, index(3)).unwrap();
    let (wasm, toml) = (wasm.to_str().unwrap(), toml.to_str().unwrap());
    let output = run(home, &["plugin", "check", wasm, "--toml", toml]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
