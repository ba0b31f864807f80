//! What can be seen without a sandbox around it.

use super::*;
use penstock_sdk::By;
use penstock_sdk::testing::{self, Host, batch};

fn query() -> Query {
    Query {
        model: String::new(),
        adapter: String::new(),
        salt: String::new(),
        by: By::Tokens(vec![]),
    }
}

#[test]
fn without_a_fault_it_behaves() {
    let mut host = Host::<Faulty>::start("{}").unwrap();
    for _ in 0..3 {
        assert_eq!(host.send(batch(1).cleared()), []);
    }
    assert_eq!(host.find(&query()).unwrap()[0].blocks, 3);
    assert_eq!(host.instance().handle(b"hello").unwrap(), b"hello");
    let piece = host.instance().snapshot(1, 0, 1_024).unwrap();
    let mut next = Host::<Faulty>::start("{}").unwrap();
    next.instance().restore(1, SCHEMA, &piece.bytes).unwrap();
    assert_eq!(next.find(&query()).unwrap()[0].blocks, 3);
    assert!(next.instance().restore(1, 9, &piece.bytes).is_err());
    assert_eq!(next.instance().interval_ms(), 50);
}

#[test]
fn unknown_names_list_the_known() {
    for (config, known) in [
        (r#"{"fault": "explode"}"#, "flood-log"),
        (r#"{"in": "onbatch"}"#, "on-batch"),
        (r#"{"when": 1}"#, "after"),
    ] {
        let error = Host::<Faulty>::start(config).err().unwrap();
        assert!(error.contains(known), "{error}");
    }
    let error = Host::<Faulty>::start(r#"{"fault": "error", "in": "init"}"#).err();
    assert_eq!(error.as_deref(), Some("told to"));
}

#[test]
fn a_fault_shows_in_its_place_after_its_batches() {
    let mut host = Host::<Faulty>::start(r#"{"fault": "error", "after": 2}"#).unwrap();
    let sent: Vec<usize> = (0..3)
        .map(|_| host.send(batch(1).cleared()).len())
        .collect();
    assert_eq!(sent, [0, 0, 1]);
    assert!(host.find(&query()).is_ok());

    let ask = br#"{"fault": "error", "in": "find", "after": 1}"#;
    assert_eq!(host.instance().handle(ask).unwrap(), b"ok");
    assert!(host.find(&query()).is_ok());
    assert_eq!(host.send(batch(1).cleared()), []);
    assert_eq!(host.find(&query()).unwrap_err(), "told to");
    assert!(host.instance().handle(br#"{"fault": "?"}"#).is_err());
}

#[test]
fn lies_are_lies() {
    let start = |fault, place| {
        let config = format!(r#"{{"fault": "{fault}", "in": "{place}"}}"#);
        Host::<Faulty>::start(&config).unwrap()
    };
    assert!(start("lie-rows-length", "find").find(&query()).is_err());
    let rows = start("lie-rows-unknown", "find").find(&query()).unwrap();
    assert!(rows.iter().all(|r| r.source > 1_000));
    let refused = start("lie-refusals", "on-batch").send(batch(1).cleared());
    assert!(refused.contains(&(u32::MAX, 1)));
    let mut host = start("lie-piece-endless", "snapshot");
    assert_eq!(host.instance().snapshot(1, 7, 8).unwrap().next, Some(7));
    let mut host = start("lie-piece-huge", "snapshot");
    assert!(host.instance().snapshot(1, 0, 8).unwrap().bytes.len() > 8);
    assert_eq!(
        start("lie-interval", "interval").instance().interval_ms(),
        0
    );
    let mut host = start("flood-metrics", "tick");
    host.instance().tick();
    assert_eq!(testing::counter("series_99999"), 1);
}

#[test]
fn every_fault_is_documented() {
    let docs = concat!(include_str!("faults.rs"), include_str!("lies.rs"));
    for (name, _) in Fault::ALL {
        assert!(docs.contains(&format!("//! | `{name}` |")), "{name}");
    }
}
