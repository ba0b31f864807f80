//! The whole path: publishers, TCP loopback, the daemon with `prefix-index`.
//!
//! ```text
//! ready: subscribed, joined │ clock and CPU start │ all published, a window ahead
//!                                                  │ the plugin has applied the last
//!                                                    batch of each engine: clock and
//!                                                    CPU stop
//! ```
//!
//! The peer is a process that only receives the same messages; its clock stops
//! when it has the last. Each round starts both anew. The publishers run on the
//! same cores as what is measured, on both sides.

use crate::ask::{all_live, name, query};
use crate::measure::{cpu_time, in_turn};
use crate::publish::{Publishers, WINDOW};
use crate::receive::{Received, Receiver};
use crate::report::{As, Beside, Row, Work};
use crate::workload::Workload;
use anyhow::{Context, Result, anyhow, bail, ensure};
use penstock_event::By;
use penstock_query::AnswerBody;
use penstock_query::client::HttpClient;
use penstock_testkit::daemon::{Daemon, Setup};
use std::time::{Duration, Instant};

/// One round of one side.
struct Sample {
    time: Duration,
    cpu: Duration,
}

/// Ours, and those of the process that only receives.
type Samples = (Vec<Sample>, Vec<Sample>);

/// Longest round.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time between two looks at the daemon, which cost it some CPU time;
/// at full speed the publishers' window lasts for several.
const LOOK: Duration = Duration::from_millis(40);

const PLUGIN: &str = "grants = [\"log\", \"metrics\"]\n";

/// Both sides in turn, on each workload.
pub fn run(rounds: usize) -> Result<Vec<Row>> {
    let workloads = [
        (["path-uniform", "path-uniform-rate"], Workload::synthetic()),
        (["path-mooncake", "path-mooncake-rate"], Workload::trace()?),
    ];
    let mut rows = Vec::new();
    for (names, workload) in &workloads {
        eprintln!("{}: {rounds} rounds", names[0]);
        let pairs = in_turn(rounds, || daemon(workload), || receiver(workload))?;
        rows.extend(report(*names, workload, &pairs));
    }
    Ok(rows)
}

fn report(names: [&'static str; 2], workload: &Workload, (ours, theirs): &Samples) -> [Row; 2] {
    let blocks: u64 = workload.blocks.iter().sum();
    let messages = workload.messages() as f64;
    let row = |name, what: &str, unit, as_, of: &dyn Fn(&Sample) -> f64| Row {
        name,
        what: format!("path: {}, {what}", workload.what),
        unit,
        ours: ours.iter().map(of).collect(),
        beside: Some(Beside {
            name: "a process that only receives".into(),
            samples: theirs.iter().map(of).collect(),
            as_,
        }),
        work: Work {
            blocks,
            removes: blocks - workload.held,
            ..Work::default()
        },
        ..Row::default()
    };
    let cpu = |s: &Sample| s.cpu.as_secs_f64() * 1e6 / messages;
    let rate = |s: &Sample| messages / s.time.as_secs_f64();
    [
        row(
            names[0],
            "CPU of all threads",
            "us/message",
            As::TimesAsMuch,
            &cpu,
        ),
        row(names[1], "drained", "messages/s", As::Aside, &rate),
    ]
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
    let mut received = receiver.received()?;
    while received.messages < workload.messages() {
        publishers.handled(received.messages);
        received = receiver.received()?;
    }
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
        Ok(all_live(&daemon, workload.engines.len())? && publishers.subscribed())
    })?;
    let pid = daemon.process.pid();
    let cpu = cpu_time(pid)?;
    let begun = publishers.go();
    // Any lookup tells how far the plugin is.
    let look = query(By::EngineHashes([1].into()));
    let names: Vec<String> = (0..workload.engines.len()).map(name).collect();
    let applied = |answer: &AnswerBody| -> u64 {
        let at = |source: &String| answer.positions.get(source.as_str())?.sequence;
        names.iter().filter_map(at).map(|last| last + 1).sum()
    };
    let all = workload.messages();
    let end = Instant::now() + PATIENCE;
    let drained = loop {
        let done = applied(&http.query(None, &look)?);
        publishers.handled(done);
        if done >= all {
            break Ok(());
        }
        if Instant::now() >= end {
            break Err(anyhow!(
                "{done} of {all} batches applied after {PATIENCE:?}"
            ));
        }
        // Towards the end more often: the clock stops when nothing is left.
        let near = all - done <= WINDOW;
        std::thread::sleep(if near { LOOK / 10 } else { LOOK });
    };
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
    let batches = daemon.metric("penstock_plugin_batches_total");
    ensure!(
        batches == workload.messages() as f64,
        "the plugin got {batches} batches of {}",
        workload.messages()
    );
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
    let held = || daemon.metric("penstock_plugin_custom_blocks");
    let told = until("the number of blocks held", || {
        Ok(held() == workload.held as f64)
    });
    told.with_context(|| format!("{} blocks told, {} held by engines", held(), workload.held))
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
