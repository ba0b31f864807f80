//! Three hundred engines in one daemon: every batch arrives, on a few threads and
//! about four descriptors a source.

use penstock_testkit::daemon::{PATIENCE, Setup};
use penstock_testkit::judge::{judge, prefixes};
use penstock_testkit::publish::{Publish, oracle};
use penstock_testkit::{trace, wait};
use std::collections::{BTreeMap, BTreeSet};

const ENGINES: usize = 300;
const BATCHES: u64 = 30;

/// What the daemon may use beside its sources.
const DESCRIPTORS: usize = 150;
const THREADS: usize = 40;

fn port(endpoint: &str) -> u16 {
    endpoint.rsplit(':').next().unwrap().parse().unwrap()
}

/// Ports of the peers of established connections whose keepalive timer runs, in the
/// network namespace of a process.
fn keepalive(pid: u32) -> BTreeSet<u16> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (peer, state, timer) = (words.get(2)?, words.get(3)?, words.get(5)?);
        let port = u16::from_str_radix(peer.split(':').nth(1)?, 16).ok()?;
        (*state == "01" && timer.starts_with("02:")).then_some(port)
    };
    table.lines().filter_map(row).collect()
}

#[test]
fn three_hundred_engines_fit_into_one_daemon() {
    let home = tempfile::tempdir().unwrap();
    let (log, record) = (home.path().join("log"), home.path().join("r.frames"));
    let text = |path: &std::path::Path| path.display().to_string();
    let batches = BATCHES.to_string();
    let arguments = [
        ["--trace", &text(&trace())],
        ["--batches", &batches],
        ["--rate", "10"],
        ["--wait-subscribers", "1"],
        ["--capacity", "500"],
        ["--drop", "p:0.05:3"],
        ["--log", &text(&log)],
        ["--record", &text(&record)],
    ];
    let engines = Publish::start(ENGINES, arguments.as_flattened());
    let names: Vec<_> = (0..ENGINES).map(|n| format!("engine-{n}")).collect();
    let mut setup = Setup::new().plugin("prefix-index", "prefix-index", "");
    for (name, (stream, replay)) in names.iter().zip(&engines.endpoints) {
        setup = setup.source(name, stream, replay.as_deref());
    }
    let daemon = setup.start();

    let count = |what: &str| {
        let path = format!("/proc/{}/{what}", daemon.process.pid());
        std::fs::read_dir(path).unwrap().count()
    };
    let (mut descriptors, mut threads) = (0, 0);
    let sources = wait::until("every engine's last batch", 3 * PATIENCE, || {
        descriptors = descriptors.max(count("fd"));
        threads = threads.max(count("task"));
        let sources = daemon.control().sources().unwrap();
        let done = |at: u64| at + 1 == BATCHES;
        let all = sources
            .iter()
            .all(|s| s.position.is_some_and(|p| done(p.sequence)));
        (all && sources.len() == ENGINES).then_some(sources)
    });

    wait::until("every batch at the plugin", PATIENCE, || {
        let all = ENGINES as u64 * BATCHES;
        (daemon.plugin("prefix-index")?.batches == all).then_some(())
    });

    let mut totals = BTreeMap::<String, u64>::new();
    for source in &sources {
        assert_eq!(source.link, "live", "{source:?}");
        assert!(source.complete && source.verified, "{source:?}");
        assert_eq!(source.totals["batches"], BATCHES, "{source:?}");
        for (name, count) in &source.totals {
            *totals.entry(name.clone()).or_default() += count;
        }
    }
    assert!(totals["gaps"] > 0, "{totals:?}");
    assert_eq!(totals["gaps_filled"], totals["gaps"], "{totals:?}");
    assert_eq!(totals["missing"] + totals["restarts"], 0, "{totals:?}");
    assert!(descriptors > ENGINES, "they were not counted");
    assert!(
        descriptors <= 4 * ENGINES + DESCRIPTORS,
        "{descriptors} descriptors"
    );
    assert!(threads <= THREADS, "{threads} threads");

    // Idle connections are probed, so that an engine whose host died is missed.
    let ports = engines.endpoints.iter().map(|(stream, _)| port(stream));
    let ports: BTreeSet<_> = ports.collect();
    wait::until("keepalive on every connection", PATIENCE, || {
        let probed = keepalive(daemon.process.pid());
        probed.is_superset(&ports).then_some(())
    });

    let mut oracle = oracle(&log, &record, &names);
    for name in ["engine-0", "engine-150", "engine-299"] {
        let asked = prefixes(&oracle, name, 100);
        judge(&daemon, &mut oracle, name, &asked).assert_equal(50);
    }
    assert!(daemon.stop().success());
}
