//! A thousand sources on which nothing happens.

use crate::measure::cpu_time;
use crate::report::Row;
use anyhow::{Result, ensure};
use penstock_peer::Context;
use penstock_peer::publisher::{Publisher, PublisherConfig};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use std::time::{Duration, Instant};

const SOURCES: usize = 1_000;

/// Publishers in one ZeroMQ context, which has room for 1,023 sockets.
const A_CONTEXT: usize = 200;

/// After all are live, before anything is measured; and how long it is.
const SETTLE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(10);

/// One daemon without sources, one with them all.
pub fn run(rounds: usize) -> Result<Vec<Row>> {
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    eprintln!("idle: {SOURCES} publishers");
    let contexts: Vec<Context> = (0..SOURCES.div_ceil(A_CONTEXT))
        .map(|_| Context::new())
        .collect();
    let open = |n: usize| {
        let config = PublisherConfig::new("tcp://127.0.0.1:*");
        Ok(Publisher::open(&contexts[n / A_CONTEXT], config)?)
    };
    let publishers: Vec<Publisher> = (0..SOURCES).map(open).collect::<Result<_>>()?;
    for round in 0..rounds {
        eprintln!("idle: round {} of {rounds}", round + 1);
        let without = start(&[])?;
        std::thread::sleep(SETTLE);
        let base = without.process.memory();
        without.stop();
        let daemon = start(&publishers)?;
        std::thread::sleep(SETTLE);
        let more = daemon.process.memory().saturating_sub(base);
        memory.push(more as f64 / SOURCES as f64 / 1_000.0);
        let (begun, before) = (Instant::now(), cpu_time(daemon.process.pid())?);
        std::thread::sleep(LOOK);
        let used = cpu_time(daemon.process.pid())?.saturating_sub(before);
        cpu.push(used.as_secs_f64() * 100.0 / begun.elapsed().as_secs_f64());
        let status = daemon.stop();
        ensure!(status.success(), "the daemon ended with {status}");
    }
    let row = |name, what: &str, unit, ours| Row {
        name,
        what: format!("{SOURCES} idle sources: {what}"),
        unit,
        ours,
        ..Row::default()
    };
    Ok(vec![
        row("idle-cpu", "the daemon's CPU time", "% of a core", cpu),
        row("idle-memory", "resident memory of each", "kB", memory),
    ])
}

fn start(publishers: &[Publisher]) -> Result<Daemon> {
    let mut setup = Setup::new().plugin("prefix-index", "prefix-index", "");
    for (n, publisher) in publishers.iter().enumerate() {
        setup = setup.source(&format!("engine-{n}"), publisher.endpoint(), None);
    }
    let daemon = setup.start();
    let end = Instant::now() + 2 * PATIENCE;
    loop {
        let sources = daemon.control().sources()?;
        let live = sources
            .iter()
            .filter(|source| source.link == "live")
            .count();
        if live == publishers.len() {
            return Ok(daemon);
        }
        ensure!(Instant::now() < end, "{live} of {SOURCES} sources are live");
        std::thread::sleep(Duration::from_millis(100));
    }
}
