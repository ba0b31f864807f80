use super::{gaps, lives};
use crate::rig::{CALM, Hand, healthy, query, series};
use penstock_event::By;
use penstock_query::client::HttpClient;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::wait;
use std::sync::Arc;

fn start(engine: &Hand) -> Daemon {
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine.source(setup, "e").start();
    engine.wait_subscribers(1);
    lives(engine, &daemon, 1);
    daemon
}

fn counted(daemon: &Daemon, stage: &str, code: &str) -> f64 {
    let labels = [format!("stage=\"{stage}\""), format!("code=\"{code}\"")];
    let labels = labels.each_ref().map(String::as_str);
    series(daemon, "penstock_source_errors_total", &labels)
}

#[test]
fn malformed_messages_are_counted_and_the_source_lives() {
    let engine = Hand::start();
    let daemon = start(&engine);
    let seq = 9u64.to_be_bytes();
    let cases: &[(&[&[u8]], &str)] = &[
        (&[b"alone"], "frames"),
        (&[b"", &seq], "frames"),
        (&[b"", &seq, b"\x90", b"", b""], "frames"),
        (&[b"", &seq[..7], b"\x90"], "sequence"),
        (&[b"", b"", b"\x90"], "sequence"),
        (&[b"", &[0; 9], b"\x90"], "sequence"),
    ];
    for (at, (frames, _)) in cases.iter().enumerate() {
        engine.raw(frames);
        lives(&engine, &daemon, 2 + at as u64);
    }
    for code in ["frames", "sequence"] {
        let wanted = cases.iter().filter(|(_, c)| *c == code).count();
        assert_eq!(counted(&daemon, "frame", code), wanted as f64, "{code}");
    }
    let source = daemon.source("e").unwrap();
    assert_eq!(source.totals["malformed"], cases.len() as u64);
    assert!(source.complete, "no batch of the sequence was concerned");
    assert_eq!(gaps(&daemon), []);
}

#[test]
fn malformed_payloads_are_gaps_and_the_source_lives() {
    let engine = Hand::start();
    let daemon = start(&engine);
    let nested = [b"\x92".as_slice(), &[0x91; 2_000], b"\xc0\x90"].concat();
    let cases: &[(Vec<u8>, &str)] = &[
        (vec![0xc1; 100], "invalid_marker"),
        (vec![], "truncated"),
        (b"\xa5hello".to_vec(), "not_a_batch"),
        (b"\x92\x01\xc0".to_vec(), "no_events"),
        (vec![0xdd, 0xff, 0xff, 0xff, 0xff], "truncated"),
        (b"\x93\x01\xdd\xff\xff\xff\xff".to_vec(), "truncated"),
        (nested, "too_deep"),
    ];
    let mut expected = Vec::new();
    for (at, (payload, code)) in cases.iter().enumerate() {
        let before = counted(&daemon, "decode", code);
        let sequence = engine.publish(payload.clone());
        lives(&engine, &daemon, 2 + at as u64);
        expected.push((sequence, sequence, "undecodable".to_string()));
        assert_eq!(gaps(&daemon), expected, "case {at}, {code}");
        assert_eq!(counted(&daemon, "decode", code), before + 1.0, "case {at}");
    }
    let source = daemon.source("e").unwrap();
    assert!(!source.complete, "something is missing now");
    assert_eq!(source.totals["missing"], cases.len() as u64);
    assert!(healthy(&daemon));
    assert_eq!(daemon.plugin("index").unwrap().restarts, 0);
}

#[test]
fn one_bad_event_costs_nothing_but_itself() {
    let engine = Hand::start();
    let daemon = start(&engine);
    let nested = [&[0x91; 2_000], b"\xc0".as_slice()].concat();
    let unknown = [b"\x92\xa1x", nested.as_slice()].concat();
    let deep = [b"\x92\xacBlockRemoved", nested.as_slice()].concat();
    // Between two good events; where a length lies, nothing can be read behind it.
    // With a tag unknown here, nothing known of the cache is missing.
    let events: &[(&[u8], &str, u64)] = &[
        (b"\x91\xabBlockMelted", "unknown_tag", 2),
        (&unknown, "unknown_tag", 2),
        (b"\x91\xabBlockStored", "missing_block_hashes", 2),
        (b"\x07", "not_an_event", 2),
        (&deep, "bad_block_hashes", 2),
        (b"\x92\xacBlockRemoved\xdd\x7f\xff\xff\xff", "truncated", 1),
        (
            b"\x92\xacBlockRemoved\x91\xc6\xff\xff\xff\xff",
            "truncated",
            1,
        ),
    ];
    let good = |hash: u8| [b"\x92\xacBlockRemoved\x91".as_slice(), &[hash]].concat();
    for (event, code, read) in events {
        let parts = [b"\x93\x01\x93", &*good(1), event, &good(2), b"\xc0"];
        let before = daemon.source("e").unwrap();
        let of_code = counted(&daemon, "event", code);
        let sequence = engine.publish(parts.concat());
        daemon.wait_for("e", 0, sequence);
        let after = daemon.source("e").unwrap();
        let more = |name: &str| after.totals[name] - before.totals[name];
        let counts = (more("events"), more("skipped_events"));
        assert_eq!(counts, (*read, 3 - *read), "{code}");
        let foreign = *code == "unknown_tag";
        assert_eq!(after.complete, foreign, "{code}");
        assert_eq!(counted(&daemon, "event", code), of_code + 1.0, "{code}");
    }
    lives(&engine, &daemon, 9);
    assert_eq!(gaps(&daemon), [], "no batch is missing");
    let complete = || {
        let client = HttpClient::new(&daemon.http);
        let answer = client.query(None, &query(By::EngineHashes(Arc::new([1]))));
        let at = answer.unwrap().positions["e"].clone();
        (daemon.source("e").unwrap().complete, at.complete)
    };
    assert_eq!(complete(), (false, false), "a removal may be among them");
    let clear = engine.publish(b"\x93\x01\x91\x91\xb0AllBlocksCleared\xc0".to_vec());
    daemon.wait_for("e", 0, clear);
    wait::until("word of it in answers", PATIENCE, || {
        (complete() == (true, true)).then_some(())
    });
}
