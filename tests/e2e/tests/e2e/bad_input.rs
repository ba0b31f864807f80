//! What no engine and no client should send: counted, told, survived.

mod frames;
mod large;
mod questions;

use crate::rig::{Hand, batch, query, stored};
use penstock_event::By;
use penstock_query::client::ZmqClient;
use penstock_testkit::daemon::{Daemon, PATIENCE};
use penstock_testkit::wait;
use std::sync::Arc;

/// Publishes one good block and waits until lookups find it: the source lives.
fn lives(engine: &Hand, daemon: &Daemon, hash: u64) {
    let sequence = engine.publish(batch(&[stored(&[1, 2, 3, 4], &[hash])]));
    let mut client = ZmqClient::connect(&daemon.zmq).unwrap();
    let answer = wait::until("a good batch after a bad one", PATIENCE, || {
        let by = By::EngineHashes(Arc::new([hash]));
        let answer = client.query(None, &query(by)).ok()?;
        (answer.positions["e"].sequence == Some(sequence)).then_some(answer)
    });
    assert_eq!(answer.instances["e"].blocks.values().sum::<u32>(), 1);
}

/// Gaps that the source reported: first and last batch, and why.
fn gaps(daemon: &Daemon) -> Vec<(u64, u64, String)> {
    let source = daemon.source("e").unwrap();
    let gaps = source.incidents.into_iter().filter(|i| i.kind == "gap");
    gaps.map(|i| (i.first, i.last, i.reason)).collect()
}
