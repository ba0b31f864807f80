//! Lookups while events come, and how soon an event is seen.
//!
//! ```text
//! 64 engines ── half of what the daemon drains ──> daemon <── lookup, echo, lookup, …
//! ```
//! The echo is a ROUTER of this process that sends back what it gets, asked in turn with the
//! daemon, over loopback as well: what sockets and a busy machine take by themselves.

use crate::ask::{all_live, name, query};
use crate::load::{Load, Rate};
use crate::measure::warmed;
use crate::peer::Peer;
use crate::report::{As, Beside, Row, number};
use crate::sides::{Component, Plugged};
use crate::stream::Stream;
use anyhow::{Context, Result, anyhow, ensure};
use penstock_event::By;
use penstock_query::client::ZmqClient;
use penstock_testkit::daemon::{Daemon, Setup};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const ENGINES: usize = 64;
/// Blocks that each holds.
const CAPACITY: usize = 8_192;
/// Batches of each, more than are published while this lasts.
const BATCHES: usize = 4_000;
/// Tokens asked for.
const TOKENS: usize = 2_000;
/// How long the maximum is measured, and lookups are.
const MAXIMUM: Duration = Duration::from_secs(3);
const ASKED: Duration = Duration::from_secs(6);
/// Rest between two questions.
const REST: Duration = Duration::from_millis(1);
/// Batches whose way into the index is timed.
const SEEN: usize = 1_000;

/// All rounds.
pub fn run(rounds: usize, peer: &mut Peer) -> Result<Vec<Row>> {
    let stream = Stream::uniform(ENGINES, CAPACITY, BATCHES - CAPACITY / 32);
    let mut rows = under_load(rounds, &stream)?;
    rows.push(in_process(rounds, &stream, peer)?);
    rows.extend(visible(rounds, &stream)?);
    Ok(rows)
}

/// Percentiles of lookups and echoes, in microseconds.
fn under_load(rounds: usize, stream: &Stream) -> Result<Vec<Row>> {
    let (mut ours, mut echoes) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut rates = Vec::new();
    for round in 0..rounds {
        eprintln!("lookup: round {} of {rounds}", round + 1);
        let mut load = Load::open(stream)?;
        let daemon = daemon(&mut load)?;
        let fill = stream.fill as u64;
        load.run(Rate::Drained(&daemon), fill, None)?;
        let begun = Instant::now();
        let most = load.run(Rate::Drained(&daemon), u64::MAX, Some(MAXIMUM))?;
        let rate = most as f64 / begun.elapsed().as_secs_f64() / 2.0;
        rates.push(rate);
        let prompts = prompts(stream);
        let echo = Echo::start()?;
        let stop = Arc::new(AtomicBool::new(false));
        let asker = {
            let (zmq, echo, stop) = (daemon.zmq.clone(), echo.endpoint.clone(), stop.clone());
            std::thread::spawn(move || ask(&zmq, &echo, &prompts, &stop))
        };
        load.run(Rate::Batches(rate), u64::MAX, Some(ASKED))?;
        stop.store(true, Relaxed);
        let asked = asker.join().map_err(|_| anyhow!("the asker panicked"))??;
        echo.stop()?;
        for (to, times) in [(&mut ours, asked.lookups), (&mut echoes, asked.echoes)] {
            to[0].push(percentile(&times, 50.0));
            to[1].push(percentile(&times, 99.0));
        }
        daemon.stop();
    }
    let [p50, p99] = ours;
    let [echo50, echo99] = echoes;
    let row = |name, what: &str, ours, samples| {
        let mut row = Row {
            name,
            what: format!("a lookup of 2,000 tokens, 64 sources, half of the load: {what}"),
            unit: "us",
            ours,
            beside: Some(Beside {
                name: "a ROUTER that echoes".into(),
                samples,
                as_: As::TimesAsMuch,
            }),
            work: stream.work.clone(),
            ..Row::default()
        };
        let batches = rates.iter().copied().map(number).collect();
        row.more.insert("batches_per_s".into(), batches);
        row
    };
    Ok(vec![
        row("lookup-p50", "p50", p50, echo50),
        row("lookup-p99", "p99", p99, echo99),
    ])
}

/// The index's own part, beside the peer's.
fn in_process(rounds: usize, stream: &Stream, peer: &mut Peer) -> Result<Row> {
    let component = Component::load()?;
    let mut side = component.instance()?;
    for source in 0..ENGINES {
        side.join(source)?;
    }
    let mut feeder = crate::feeder::Feeder::default();
    for (at, (source, payload)) in stream.payloads.iter().enumerate() {
        let batch = feeder.decode(&side, *source, at as u64, payload, false)?;
        side.feed(std::slice::from_ref(&batch))?;
    }
    peer.load(stream, 16)?;
    peer.index()?;
    let prompts = prompts(stream);
    let (ours, theirs) = warmed(
        rounds,
        || {
            let mut times = Vec::new();
            for prompt in &prompts {
                let tokens = prompt.clone();
                let begun = Instant::now();
                side.find_tokens(tokens)?;
                times.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            Ok(percentile(&times, 50.0))
        },
        || {
            let found = peer.find(&prompts)?;
            let found: Vec<f64> = found.ns.iter().map(|ns| *ns as f64 / 1e3).collect();
            Ok(percentile(&found, 50.0))
        },
    )?;
    Ok(Row {
        name: "lookup-in-process",
        what: "the index's own part of such a lookup, in wasm; beside find_matches".into(),
        unit: "us",
        ours,
        beside: Some(Beside::times_faster(&peer.version, theirs)),
        work: stream.work.clone(),
        ..Row::default()
    })
}

/// From publishing a batch to the first answer that shows it.
fn visible(rounds: usize, stream: &Stream) -> Result<Vec<Row>> {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        eprintln!("visible: round {} of {rounds}", round + 1);
        let mut load = Load::open(stream)?;
        let daemon = daemon(&mut load)?;
        let mut client = ZmqClient::connect(&daemon.zmq)?;
        let name = name(0);
        let mut times = Vec::new();
        for payload in load.of(0).into_iter().take(SEEN) {
            let begun = Instant::now();
            let sequence = load.one(0, payload)?;
            loop {
                let answer = client.query(None, &query(By::EngineHashes([1].into())))?;
                let at = answer.positions.get(name.as_str()).and_then(|p| p.sequence);
                if at >= Some(sequence) {
                    break;
                }
                ensure!(begun.elapsed() < ASKED, "batch {sequence} is not seen");
            }
            times.push(begun.elapsed().as_secs_f64() * 1e6);
            std::thread::sleep(2 * REST);
        }
        ensure!(times.len() == SEEN, "{} batches are too few", times.len());
        p50.push(percentile(&times, 50.0));
        p99.push(percentile(&times, 99.0));
        daemon.stop();
    }
    let row = |name, what: &str, ours| Row {
        name,
        what: format!("from publishing to an answer that shows it, low load: {what}"),
        unit: "us",
        ours,
        ..Row::default()
    };
    Ok(vec![
        row("visible-p50", "p50", p50),
        row("visible-p99", "p99", p99),
    ])
}

fn daemon(load: &mut Load) -> Result<Daemon> {
    let mut setup = Setup::new().plugin("prefix-index", "prefix-index", "");
    for (n, (stream, replay)) in load.endpoints().enumerate() {
        setup = setup.source(&name(n), stream, replay);
    }
    let daemon = setup.start();
    let end = Instant::now() + ASKED;
    loop {
        if all_live(&daemon, ENGINES)? {
            return Ok(daemon);
        }
        ensure!(Instant::now() < end, "not all sources are live");
        // The daemon asks each whether there was something before.
        load.serve()?;
        std::thread::sleep(REST);
    }
}

/// Prompts that some engine holds the beginning of.
fn prompts(stream: &Stream) -> Vec<Vec<u32>> {
    let filler = |from: usize| (0u32..).skip(from).take(TOKENS - from);
    let all = stream.probes.iter().map(|probe| {
        let from = probe.tokens.len().min(TOKENS);
        probe.tokens[..from]
            .iter()
            .copied()
            .chain(filler(from))
            .collect()
    });
    all.collect()
}

/// How long each took, in microseconds.
struct Asked {
    lookups: Vec<f64>,
    echoes: Vec<f64>,
}

fn ask(zmq: &str, echo: &str, prompts: &[Vec<u32>], stop: &AtomicBool) -> Result<Asked> {
    let mut client = ZmqClient::connect(zmq)?;
    let context = zmq::Context::new();
    let dealer = context.socket(zmq::DEALER)?;
    dealer.set_rcvtimeo(5_000)?;
    dealer.connect(echo)?;
    let mut asked = Asked {
        lookups: Vec::new(),
        echoes: Vec::new(),
    };
    for prompt in prompts.iter().cycle() {
        if stop.load(Relaxed) {
            break;
        }
        let question = query(By::Tokens(prompt.as_slice().into()));
        let begun = Instant::now();
        client.query(None, &question)?;
        asked.lookups.push(begun.elapsed().as_secs_f64() * 1e6);
        std::thread::sleep(REST);
        // As many bytes as a question has.
        let bytes = vec![0u8; 5 * TOKENS];
        let begun = Instant::now();
        dealer.send(&bytes, 0)?;
        dealer.recv_bytes(0).context("no echo")?;
        asked.echoes.push(begun.elapsed().as_secs_f64() * 1e6);
        std::thread::sleep(REST);
    }
    Ok(asked)
}

/// A ROUTER that sends back what it gets.
struct Echo {
    endpoint: String,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Echo {
    fn start() -> Result<Self> {
        let context = zmq::Context::new();
        let router = context.socket(zmq::ROUTER)?;
        router.set_rcvtimeo(100)?;
        router.bind("tcp://127.0.0.1:*")?;
        let endpoint = router.get_last_endpoint()?;
        let endpoint = endpoint.map_err(|_| anyhow!("an endpoint that is not UTF-8"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                match router.recv_multipart(0) {
                    Ok(frames) => router.send_multipart(frames, 0)?,
                    Err(zmq::Error::EAGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        });
        Ok(Self {
            endpoint,
            stop,
            thread,
        })
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the echo panicked"))?
    }
}

fn percentile(times: &[f64], percent: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&times, 50.0), 50.0);
        assert_eq!(percentile(&times, 99.0), 99.0);
        assert_eq!(percentile(&[7.0], 99.0), 7.0);
        assert_eq!(percentile(&[], 99.0), 0.0);
    }
}
