//! The judge: another process, which sees the publishers' log and the plugin's sink.
//!
//! ```text
//! publishers ── log ──> its input ─┐
//!                                  ├─ ledger ──> its output: how far it is, the verdict
//! daemon ── PUSH sink ──> PULL ────┘
//! ```
//! Nothing that the daemon counts takes part. It ends when its input has ended and
//! everything has come out, or nothing has for a while.

use crate::ledger::{Arrived, Ledger};
use crate::log::Entry;
use crate::options::JudgeArgs;
use crate::waits::{Longest, Phase, Waits, now};
use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Names of sources begin with it; their numbers follow.
pub const SOURCE: &str = "engine-";

/// Messages that may wait in its socket.
const HWM: i32 = 100_000;
/// How often it says how far it is.
const WORD: Duration = Duration::from_millis(5);
/// After the log's end: no batch for so long means that no more will come.
const SILENCE: Duration = Duration::from_secs(15);
/// All are there; doubled ones may still come.
const LINGER: Duration = Duration::from_millis(500);

/// What the judge says, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// Where its socket is.
    Endpoint(String),
    /// Batches of the log that came out so far.
    Delivered(u64),
    /// The end.
    Verdict(Box<Verdict>),
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    pub published: u64,
    pub delivered: u64,
    pub lost: u64,
    pub doubled: u64,
    pub wrong: u64,
    pub examples: Vec<String>,
    /// From publishing to coming out, 99th percentile without swaps, in ms.
    pub calm_p99_ms: f64,
    /// The same while swaps go on.
    pub swaps_p99_ms: f64,
    /// The longest ones, over time.
    pub longest: Longest,
}

/// The judge, seen from here; killed when dropped.
pub struct Judge {
    child: Child,
    /// Where the daemon sends.
    pub endpoint: String,
    /// Batches that came out so far.
    pub delivered: Arc<AtomicU64>,
    log: Arc<Mutex<Option<BufWriter<ChildStdin>>>>,
    verdict: Receiver<Verdict>,
}

/// Where publishers write.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Option<BufWriter<ChildStdin>>>>);

// === the process ===

/// Receives and compares until both ends have ended.
pub fn run(args: &JudgeArgs) -> Result<()> {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::PULL)?;
    socket.set_rcvhwm(HWM)?;
    socket.set_rcvtimeo(1)?;
    socket.bind("tcp://127.0.0.1:*")?;
    let endpoint = socket.get_last_endpoint()?;
    let endpoint = endpoint.map_err(|_| anyhow!("the endpoint is no text"))?;
    say(&Word::Endpoint(endpoint))?;
    let entries = follow_log();
    let mut ledger = Ledger::new(args.engines as usize);
    let mut waits = Waits::default();
    let (mut phase, mut ended) = (Phase::Busy, false);
    let (mut told, mut spoke, mut heard) = (0, Instant::now(), Instant::now());
    loop {
        loop {
            match entries.try_recv() {
                Ok(Entry::Phase(number)) => phase = Phase::of(number),
                Ok(Entry::Batch {
                    engine,
                    sequence,
                    digest,
                    at,
                }) => {
                    if let Some((begun, arrived)) = ledger.publish(engine, sequence, digest, at) {
                        waits.add(phase, begun, arrived);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    ended = true;
                    break;
                }
            }
        }
        // Some at a time: the log is as urgent.
        for _ in 0..64 {
            let frames = match socket.recv_multipart(0) {
                Ok(frames) => frames,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => break,
                Err(error) => return Err(error).context("the sink's messages cannot be received"),
            };
            heard = Instant::now();
            let batch = arrived(&frames)?;
            if let Some(begun) = ledger.arrive(batch) {
                waits.add(phase, begun, batch.at);
            }
        }
        if spoke.elapsed() >= WORD {
            spoke = Instant::now();
            if told != ledger.delivered {
                told = ledger.delivered;
                say(&Word::Delivered(told))?;
            }
        }
        let quiet = heard.elapsed();
        if ended && (quiet >= SILENCE || (quiet >= LINGER && ledger.awaited() == 0)) {
            break;
        }
    }
    let lost = ledger.close();
    say(&Word::Verdict(Box::new(Verdict {
        published: ledger.published,
        delivered: ledger.delivered,
        lost,
        doubled: ledger.doubled,
        wrong: ledger.wrong,
        examples: ledger.examples,
        calm_p99_ms: waits.percentile(Phase::Calm, 0.99),
        swaps_p99_ms: waits.percentile(Phase::Swaps, 0.99),
        longest: waits.into_longest(),
    })))
}

/// Reads the log on a thread of its own, up to its end.
fn follow_log() -> Receiver<Entry> {
    let (to, entries) = channel();
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(1 << 16, std::io::stdin());
        while let Ok(entry) = Entry::read(&mut input) {
            if to.send(entry).is_err() {
                break;
            }
        }
    });
    entries
}

/// `[topic][own sequence][payload][source, epoch, sequence]`.
fn arrived(frames: &[Vec<u8>]) -> Result<Arrived> {
    let at = now();
    let [_, _, payload, position] = frames else {
        bail!("a message of {} frames, not 4", frames.len());
    };
    let mut from = position.as_slice();
    let odd = || anyhow!("a position that is none: {position:?}");
    rmp::decode::read_array_len(&mut from).map_err(|_| odd())?;
    let (name, rest) = rmp::decode::read_str_from_slice(from).map_err(|_| odd())?;
    from = rest;
    let mut number = || rmp::decode::read_int::<u64, _>(&mut from).map_err(|_| odd());
    Ok(Arrived {
        engine: name.strip_prefix(SOURCE).and_then(|n| n.parse().ok()),
        epoch: number()?,
        sequence: number()?,
        digest: penstock_event::digest(payload),
        at,
    })
}

fn say(word: &Word) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, word)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

// === impl Judge ===

impl Judge {
    /// Starts this program again as the judge.
    pub fn start(engines: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["judge", "--engines", &engines.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the judge")?;
        let log = child
            .stdin
            .take()
            .map(|input| BufWriter::with_capacity(1 << 15, input));
        let output = child.stdout.take().context("the judge has no output")?;
        let delivered = Arc::new(AtomicU64::new(0));
        let ((endpoint_to, endpoint), (verdict_to, verdict)) = (channel(), channel());
        let count = delivered.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Whoever waited may have given up.
                match serde_json::from_str(&line) {
                    Ok(Word::Endpoint(at)) => drop(endpoint_to.send(at)),
                    Ok(Word::Delivered(n)) => count.store(n, Relaxed),
                    Ok(Word::Verdict(verdict)) => drop(verdict_to.send(*verdict)),
                    Err(error) => eprintln!("soak: the judge said what is no word: {error}"),
                }
            }
        });
        Ok(Self {
            child,
            endpoint: endpoint.recv().context("the judge did not start")?,
            delivered,
            log: Arc::new(Mutex::new(log)),
            verdict,
        })
    }

    /// Where publishers write.
    pub fn log(&self) -> Log {
        Log(self.log.clone())
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the log, and waits for the verdict.
    pub fn verdict(&self) -> Result<Verdict> {
        drop(
            self.log
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let patience = SILENCE + Duration::from_secs(60);
        let verdict = self.verdict.recv_timeout(patience);
        verdict.context("the judge came to no verdict")
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // After its verdict it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Log ===

impl Log {
    /// Writes entries; they are with the judge's process when this returns.
    pub fn write(&self, entries: &[Entry]) -> Result<()> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(log) = &mut *log else {
            return Ok(());
        };
        for entry in entries {
            entry.write(log)?;
        }
        log.flush().context("the judge has ended")
    }
}
