//! What answers say: positions, links, adapters and salts.

use crate::rig::{CALM, Hand, query, run};
use penstock_event::{By, Query};
use penstock_peer::encode::{Style, encode_batch};
use penstock_peer::event::{Event, Stored};
use penstock_query::client::{HttpClient, ZmqClient};
use penstock_query::{AnswerBody, Rank};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::wait;
use std::sync::Arc;

const PROMPT: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn by_tokens() -> Query {
    query(By::Tokens(Arc::new(PROMPT)))
}

fn tokens(answer: &AnswerBody, source: &str) -> Option<u32> {
    answer.scores.get(source)?.get(&Rank(0)).copied()
}

/// Asks until the source has been applied up to a batch.
fn at(daemon: &Daemon, question: &Query, source: &str, sequence: u64) -> AnswerBody {
    let client = HttpClient::new(&daemon.http);
    wait::until("an answer at a position", PATIENCE, || {
        let answer = client.query(None, question).ok()?;
        let applied = answer.positions.get(source)?.sequence;
        (applied == Some(sequence)).then_some(answer)
    })
}

#[test]
fn each_source_says_how_far_it_is() {
    let (first, second) = (Hand::start(), Hand::start());
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let setup = first.source(setup, "a");
    let setup = second.source(setup, "b");
    let daemon = setup.source("c", "tcp://127.0.0.1:9", None).start();
    first.store(&PROMPT, &[1, 2]);
    first.store(&[9; 4], &[3]);
    let last = second.store(&PROMPT[..4], &[1]);
    at(&daemon, &by_tokens(), "b", last);
    let answer = at(&daemon, &by_tokens(), "a", 1);
    assert_eq!(tokens(&answer, "a"), Some(8));
    assert_eq!(tokens(&answer, "b"), Some(4));
    assert_eq!(tokens(&answer, "c"), None);
    for (name, sequence, link, verified) in [
        ("a", Some(1), "live", true),
        ("b", Some(0), "live", true),
        ("c", None, "connecting", false),
    ] {
        let p = &answer.positions[name];
        let found = (p.sequence, &*p.link, p.verified, p.complete);
        let reached = link == "live";
        assert_eq!(found, (sequence, link, verified, reached), "{name}");
        assert_eq!(p.epoch, sequence.map(|_| 0), "{name}");
    }
    let other = Query {
        model: "other".into(),
        ..by_tokens()
    };
    let refused = HttpClient::new(&daemon.http).query(None, &other);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("m"), "the models there are: {refused}");
}

#[test]
fn stale_sources_are_left_out_unless_asked_for() {
    let (stays, goes) = (Hand::start(), Hand::start());
    let setup = Setup::new()
        .config("[ingest]\nstale_after_ms = 300\nleave_after_ms = 3000\n")
        .plugin("index", "prefix-index", CALM);
    let daemon = goes.source(stays.source(setup, "stays"), "goes").start();
    stays.store(&PROMPT, &[1, 2]);
    goes.store(&PROMPT, &[1, 2]);
    at(&daemon, &by_tokens(), "stays", 0);
    let answer = at(&daemon, &by_tokens(), "goes", 0);
    assert_eq!(tokens(&answer, "goes"), Some(8));

    drop(goes);
    let mut client = ZmqClient::connect(&daemon.zmq).unwrap();
    wait::until("its disappearance", PATIENCE, || {
        let answer = client.query(None, &by_tokens()).unwrap();
        assert_eq!(tokens(&answer, "stays"), Some(8));
        let left_out = !answer.positions.contains_key("goes");
        assert_eq!(tokens(&answer, "goes").is_none(), left_out);
        left_out.then_some(())
    });
    let shown = Query {
        include_stale: true,
        ..by_tokens()
    };
    let answer = client.query(None, &shown).unwrap();
    assert_eq!(tokens(&answer, "goes"), Some(8));
    assert_eq!(answer.positions["goes"].link, "stale");
    assert!(daemon.ready(), "readiness is not about engines");

    wait::until("the end of its grace period", PATIENCE, || {
        let answer = client.query(None, &shown).unwrap();
        (!answer.scores.contains_key("goes")).then_some(())
    });
    assert_eq!(daemon.source("goes").unwrap().link, "left");
}

#[test]
fn adapters_and_salts_are_kept_apart() {
    let engine = Hand::start();
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine.source(setup, "e").start();
    let style: Style = "sglang-0.5.23".parse().unwrap();
    let variants = [
        ("", "", 1),
        ("adapter", "", 2),
        ("", "salt", 3),
        ("adapter", "salt", 4),
        // The same letters, cut elsewhere.
        ("adapters", "alt", 5),
    ];
    let name = |text: &str| (!text.is_empty()).then(|| Arc::<str>::from(text));
    let mut last = 0;
    // Each holds as many blocks as its number says, up to two.
    for (adapter, salt, number) in variants {
        let blocks = if number % 2 == 0 { 1 } else { 2 };
        let event = Event::Stored(Stored {
            hashes: (0..blocks as u64).map(|b| number * 10 + b).collect(),
            tokens: PROMPT[..4 * blocks].to_vec(),
            block_size: 4,
            lora_id: name(adapter).map(|_| 1),
            lora_name: name(adapter),
            salt: name(salt),
            medium: name("GPU"),
            ..Stored::default()
        });
        let payload = encode_batch(1.0, &[event], None, style);
        last = engine.publish(payload);
    }
    at(&daemon, &by_tokens(), "e", last);
    for (adapter, salt, number) in variants {
        let question = Query {
            adapter: adapter.into(),
            salt: salt.into(),
            ..by_tokens()
        };
        let answer = at(&daemon, &question, "e", last);
        let right = if number % 2 == 0 { 4 } else { 8 };
        assert_eq!(tokens(&answer, "e"), Some(right), "{adapter:?} {salt:?}");
    }
    for (adapter, salt) in [("other", ""), ("", "other"), ("salt", "adapter")] {
        let question = Query {
            adapter: adapter.into(),
            salt: salt.into(),
            ..by_tokens()
        };
        let answer = at(&daemon, &question, "e", last);
        assert_eq!(tokens(&answer, "e"), None, "{adapter:?} {salt:?}");
    }
}

#[test]
fn the_command_asks_either_door() {
    let engine = Hand::start();
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine.source(setup, "e").start();
    let last = engine.store(&PROMPT, &[u64::MAX, 7]);
    at(&daemon, &by_tokens(), "e", last);
    let home = daemon.home.path();
    std::fs::write(home.join("prompt.json"), "[1,2,3,4,5,6,7,8]").unwrap();
    let max = format!("{},7", u64::MAX);
    for door in [["--http", &daemon.http], ["--zmq", &daemon.zmq]] {
        for (by, value) in [
            ("--tokens", "1,2,3,4,5,6,7,8,9"),
            ("--tokens-file", "prompt.json"),
            ("--engine-hashes", &max),
        ] {
            let question = ["query", "--model", "m", by, value, "--deadline", "10000"];
            let arguments = [&question, &door[..], &["--json"]].concat();
            let output = run(home, &arguments);
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {told}");
            let answer: AnswerBody = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(answer.instances["e"].blocks[&Rank(0)], 2, "{arguments:?}");
        }
        let question = ["query", "--model", "m", "--tokens", "1,2,3,4"];
        let people = run(home, &[&question, &door[..]].concat());
        let text = String::from_utf8(people.stdout).unwrap();
        let row = text.lines().find(|l| l.contains(" e ")).unwrap();
        assert!(row.contains('4') && row.contains("0/0"), "{text}");
        let unknown = ["query", "--model", "who", "--tokens", "1"];
        let refused = run(home, &[&unknown, &door[..]].concat());
        assert_eq!(refused.status.code(), Some(1));
    }
}
