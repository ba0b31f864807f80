//! The whole path: publishers, TCP loopback, the daemon with `prefix-index`.
//!
//! ```text
//! ready: subscribed, joined │ clock and CPU start │ all published │ the plugin has
//!                                                    applied the last batch of each
//!                                                    engine: clock and CPU stop
//! ```
//!
//! The peer is a process that only receives the same messages; its clock stops
//! when it has the last. Each round starts both anew. The publishers run on the
//! same cores as what is measured, on both sides.

use crate::measure::{Spread, cpu_time};
use crate::publish::Publishers;
use crate::receive::{Received, Receiver};
use crate::report::{PROFILE, Row, Side};
use crate::workload::Workload;
use anyhow::{Context, Result, bail, ensure};
use penstock_event::{By, Query};
use penstock_query::AnswerBody;
use penstock_query::client::HttpClient;
use penstock_testkit::daemon::{Daemon, Setup};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One round of one side.
struct Sample {
    time: Duration,
    cpu: Duration,
}

/// Longest round.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time between two looks at the daemon, which cost it some CPU time.
const LOOK: Duration = Duration::from_millis(20);

const PLUGIN: &str = "grants = [\"log\", \"metrics\"]\n";

/// Two rows for each workload: speed and CPU time.
pub fn run(rounds: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for make in [|| Ok(Workload::synthetic()), Workload::trace] {
        let workload = make()?;
        let (messages, blocks) = (workload.messages(), workload.blocks.iter().sum::<u64>());
        eprintln!("{}: {messages} messages, {blocks} blocks", workload.name);
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            eprintln!("{}: round {} of {rounds}", workload.name, round + 1);
            if round % 2 == 0 {
                ours.push(daemon(&workload)?);
                peers.push(receiver(&workload)?);
            } else {
                peers.push(receiver(&workload)?);
                ours.push(daemon(&workload)?);
            }
        }
        rows.extend(two(&workload, &ours, &peers));
    }
    Ok(rows)
}

fn two(workload: &Workload, ours: &[Sample], peers: &[Sample]) -> [Row; 2] {
    let blocks: u64 = workload.blocks.iter().sum();
    let messages = workload.messages();
    let row = |name: String, what: String, unit, of: &dyn Fn(&Sample) -> f64| Row {
        name,
        what,
        unit,
        ours: Side::new(
            "penstock with prefix-index, drained",
            Spread::of(ours.iter().map(of)),
        ),
        peer: Some(Side::new(
            "a loop that only receives",
            Spread::of(peers.iter().map(of)),
        )),
        limit: None,
        limit_on: "ours",
        ratio: Spread::of(ours.iter().zip(peers).map(|(a, b)| of(a) / of(b))),
        samples: ours.len(),
        blocks,
        profile: format!("{PROFILE}; prefix-index: plugin (release + fat lto)"),
        more: [
            ("messages".into(), messages as f64),
            ("bytes".into(), workload.bytes() as f64),
        ]
        .into(),
    };
    let micros = |s: &Sample| s.cpu.as_secs_f64() * 1e6 / messages as f64;
    let cpu = row(
        format!("{}/cpu", workload.name),
        format!("CPU time of all threads for a message: {}", workload.what),
        "us/message",
        &micros,
    );
    let mut speed = row(
        workload.name.into(),
        workload.what.clone(),
        "blocks/s",
        &|s| blocks as f64 / s.time.as_secs_f64(),
    );
    let a_second = messages as f64 / blocks as f64;
    speed.more.extend([
        (
            "messages_per_s".to_owned(),
            speed.ours.spread.median * a_second,
        ),
        ("cpu_us_per_message".to_owned(), cpu.ours.spread.median),
        (
            "cpu_us_per_message_peer".to_owned(),
            Spread::of(peers.iter().map(micros)).median,
        ),
        ("cpu_ratio".to_owned(), cpu.ratio.median),
    ]);
    [speed, cpu]
}

/// The same messages into a loop that only receives.
fn receiver(workload: &Workload) -> Result<Sample> {
    let publishers = Publishers::open(&workload.engines)?;
    let endpoints: Vec<&str> = publishers
        .endpoints
        .iter()
        .map(|e| e.stream.as_str())
        .collect();
    let mut receiver = Receiver::start(workload.messages(), &endpoints)?;
    until("subscriptions", || Ok(publishers.subscribed()))?;
    let cpu = cpu_time(receiver.pid())?;
    let begun = publishers.go();
    let received = receiver.received()?;
    let time = begun.elapsed();
    let cpu = cpu_time(receiver.pid())?.saturating_sub(cpu);
    let expected = Received {
        messages: workload.messages(),
        bytes: workload.bytes(),
    };
    ensure!(
        received == expected,
        "received {received:?}, published {expected:?}"
    );
    receiver.stop()?;
    publishers.stop()?;
    Ok(Sample { time, cpu })
}

/// The messages through the daemon into the index.
fn daemon(workload: &Workload) -> Result<Sample> {
    let publishers = Publishers::open(&workload.engines)?;
    let mut setup = Setup::new().plugin("prefix-index", "prefix-index", PLUGIN);
    for (n, at) in publishers.endpoints.iter().enumerate() {
        setup = setup.source(&name(n), &at.stream, Some(&at.replay));
    }
    let daemon = setup.start();
    let http = HttpClient::new(&daemon.http);
    until("the sources to join", || {
        let sources = daemon.control().sources()?;
        let live = sources
            .iter()
            .filter(|s| s.link == "live" && s.order_state == "live");
        Ok(live.count() == workload.engines.len() && publishers.subscribed())
    })?;
    let pid = daemon.process.pid();
    let cpu = cpu_time(pid)?;
    let begun = publishers.go();
    // Any lookup tells how far the plugin is.
    let look = query(By::EngineHashes([1].into()));
    let last: BTreeMap<String, u64> = (workload.engines.iter().enumerate())
        .map(|(n, payloads)| (name(n), payloads.len() as u64 - 1))
        .collect();
    let applied = |answer: &AnswerBody| {
        let at = |source: &str| answer.positions.get(source)?.sequence;
        last.iter().all(|(source, last)| at(source) == Some(*last))
    };
    let drained = until("the last batch to be applied", || {
        Ok(applied(&http.query(None, &look)?))
    });
    let time = begun.elapsed();
    let cpu = cpu_time(pid)?.saturating_sub(cpu);
    if let Err(error) = drained {
        let sources = serde_json::to_string(&daemon.control().sources()?)?;
        return Err(error.context(format!("the daemon's sources: {sources}")));
    }
    check(workload, &daemon, &http)?;
    let status = daemon.stop();
    ensure!(status.success(), "the daemon ended with {status}");
    publishers.stop()?;
    Ok(Sample { time, cpu })
}

/// Everything arrived live and once, and the index holds what the engines hold.
fn check(workload: &Workload, daemon: &Daemon, http: &HttpClient) -> Result<()> {
    for (n, blocks) in workload.blocks.iter().enumerate() {
        let source = daemon.source(&name(n)).context("a source is gone")?;
        let total = |key: &str| source.totals.get(key).copied().unwrap_or(0);
        let found = [
            "messages",
            "blocks",
            "missing",
            "restarts",
            "skipped_events",
        ]
        .map(total);
        let messages = workload.engines[n].len() as u64;
        ensure!(
            found == [messages, *blocks, 0, 0, 0] && source.complete,
            "{}: {found:?} messages, blocks, missing, restarts, skipped events; published \
             {messages} and {blocks}",
            name(n)
        );
        if total("replayed") > 0 {
            eprintln!("{}: {} batches came by replay", name(n), total("replayed"));
        }
    }
    for (at, probe) in workload.probes.iter().enumerate() {
        let answer = http.query(None, &query(By::Tokens(probe.tokens.as_slice().into())))?;
        for (engine, held) in &probe.held {
            let of_engine = answer.instances.get(name(*engine).as_str());
            let found = of_engine
                .and_then(|i| i.blocks.values().max())
                .copied()
                .unwrap_or(0);
            ensure!(
                found == *held,
                "prompt {at}: {found} blocks found, {} holds {held}",
                name(*engine)
            );
        }
    }
    // The plugin tells its size once a second.
    until("the number of blocks held", || {
        Ok(daemon.metric("penstock_plugin_custom_blocks") == workload.held as f64)
    })
}

fn query(by: By) -> Query {
    Query {
        model: "m".into(),
        adapter: String::new(),
        salt: String::new(),
        by,
        deadline: Duration::from_secs(5),
        include_stale: true,
    }
}

fn name(engine: usize) -> String {
    format!("engine-{engine}")
}

fn until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !condition()? {
        if Instant::now() >= end {
            bail!("waited {PATIENCE:?} for {what}");
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
