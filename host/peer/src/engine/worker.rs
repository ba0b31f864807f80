use super::feed::{Feed, since_epoch};
use super::log::{Log, LogEntry};
use super::{Command, EngineConfig, EngineProgress, State};
use crate::endpoint::{Side, binds, nth};
use crate::frames::FramesWriter;
use crate::publisher::{Publisher, PublisherConfig};
use crate::{PeerError, Result};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a thread waits at most before it looks at its commands.
const TICK: Duration = Duration::from_millis(10);
/// Batches published before replays and commands have their turn.
const TURN: u64 = 64;

/// One engine's thread.
pub(super) struct Worker {
    pub index: usize,
    pub config: Arc<EngineConfig>,
    pub context: Option<zmq::Context>,
    pub feed: Feed,
    pub progress: Arc<Mutex<EngineProgress>>,
    pub inbox: Receiver<Command>,
    pub stop: Arc<AtomicBool>,
    pub log: Option<Arc<Mutex<Log>>>,
}

/// What changes while it runs.
struct Run {
    publisher: Option<Publisher>,
    /// Where to open again: ports are those that the system chose at first.
    again: PublisherConfig,
    record: Option<FramesWriter<BufWriter<File>>>,
    number: u32,
    published: u64,
    burst: u64,
    paused: bool,
    ended: bool,
    /// Subscribers to wait for, and since when.
    waiting: Option<(usize, Instant)>,
    due: Instant,
}

impl Worker {
    pub fn run(&mut self, ready: &SyncSender<()>) -> Result<()> {
        let mut run = self.open()?;
        // Nobody listens when the start was given up: `stop` is set then.
        ready.send(()).ok();
        loop {
            if self.stop.load(Relaxed) {
                break;
            }
            while let Ok(command) = self.inbox.try_recv() {
                self.obey(&mut run, command)?;
            }
            if run.ended && run.burst == 0 && !self.config.stay {
                break;
            }
            let Some(wait) = self.publish_due(&mut run)? else {
                // Dead: only a command can change that.
                self.note(&mut run, State::Dead)?;
                if let Ok(command) = self.inbox.recv_timeout(TICK) {
                    self.obey(&mut run, command)?;
                }
                continue;
            };
            if let Some(publisher) = &mut run.publisher {
                publisher.wait(wait.min(TICK))?;
            }
        }
        self.note(&mut run, State::Ended)?;
        if let Some(record) = &mut run.record {
            record.flush()?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Run> {
        let base = &self.config.publisher;
        let mut again = PublisherConfig {
            endpoint: nth(&base.endpoint, self.index)?,
            replay: base
                .replay
                .as_deref()
                .map(|replay| nth(replay, self.index))
                .transpose()?,
            ..base.clone()
        };
        let publisher = self.open_publisher(&again)?;
        if again.side == Side::Auto && binds(&again.endpoint) {
            again.side = Side::Bind;
        }
        again.endpoint = publisher.endpoint().to_owned();
        again.replay = publisher.replay_endpoint().map(str::to_owned);
        let record = match &self.config.record {
            Some(path) => {
                let path = numbered(path, self.index, self.config.engines);
                Some(FramesWriter::create(&path)?)
            }
            None => None,
        };
        let mut run = Run {
            publisher: Some(publisher),
            again,
            record,
            number: 0,
            published: 0,
            burst: 0,
            paused: self.config.paused,
            ended: false,
            waiting: None,
            due: Instant::now(),
        };
        run.wait_for(self.config.wait_subscribers);
        self.log_start(&run)?;
        self.note(&mut run, State::Waiting)?;
        Ok(run)
    }

    fn open_publisher(&self, config: &PublisherConfig) -> Result<Publisher> {
        // A context of its own ends with the publisher, and only then are its
        // ports free for the next.
        let context = self.context.clone().unwrap_or_default();
        Publisher::open(&context, config.clone())
    }

    fn obey(&mut self, run: &mut Run, command: Command) -> Result<()> {
        match command {
            Command::Pause => run.paused = true,
            Command::Resume => {
                run.paused = false;
                run.due = Instant::now();
            }
            Command::Burst(batches) => run.burst = run.burst.saturating_add(batches),
            Command::Kill => self.kill(run)?,
            Command::Restart {
                first_sequence,
                wait_subscribers,
            } => {
                self.kill(run)?;
                self.feed.restart()?;
                run.again.first_sequence = first_sequence;
                run.publisher = Some(self.open_publisher(&run.again)?);
                run.number += 1;
                run.ended = false;
                run.due = Instant::now();
                run.wait_for(wait_subscribers);
                self.log_start(run)?;
                let mut progress = self.progress();
                progress.last_sequence = None;
            }
            Command::Faults(faults) => {
                run.again.faults = faults.clone();
                if let Some(publisher) = &mut run.publisher {
                    publisher.set_faults(faults);
                }
            }
            Command::Raw(frames) => {
                if let Some(publisher) = &run.publisher {
                    publisher.send_frames(&frames)?;
                }
            }
        }
        Ok(())
    }

    fn kill(&mut self, run: &mut Run) -> Result<()> {
        let Some(publisher) = run.publisher.take() else {
            return Ok(());
        };
        publisher.kill()?;
        run.burst = 0;
        self.write_log(&LogEntry::Kill {
            engine: self.index,
            run: run.number,
        })
    }

    /// Publishes what is due, and says how long until more is. None: dead.
    fn publish_due(&mut self, run: &mut Run) -> Result<Option<Duration>> {
        let Some(publisher) = &mut run.publisher else {
            return Ok(None);
        };
        if let Some((wanted, since)) = run.waiting {
            let found = publisher.subscribers()?;
            if found < wanted {
                let waited = since.elapsed();
                if self
                    .config
                    .wait_timeout
                    .is_some_and(|limit| waited >= limit)
                {
                    return Err(PeerError::NoSubscribers {
                        endpoint: publisher.endpoint().to_owned(),
                        found,
                        wanted,
                        waited,
                    });
                }
                self.note(run, State::Waiting)?;
                return Ok(Some(TICK));
            }
            run.waiting = None;
            run.due = Instant::now();
        }
        let period = match self.config.rate {
            0.0 => Duration::ZERO,
            rate => Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX),
        };
        let mut turn = TURN;
        let now = Instant::now();
        while turn > 0 && !run.ended && (run.burst > 0 || !run.paused && run.due <= now) {
            if run.burst > 0 {
                run.burst -= 1;
            } else {
                run.due = run
                    .due
                    .checked_add(period)
                    .unwrap_or(now + Duration::from_secs(86_400));
            }
            self.publish_next(run)?;
            turn -= 1;
        }
        if run.ended {
            run.burst = 0;
        }
        // Behind by more than a second: what was missed is not made up for.
        if run.due + Duration::from_secs(1) < now {
            run.due = now;
        }
        let state = match (run.ended, run.paused) {
            (true, _) => State::Serving,
            (false, true) => State::Paused,
            (false, false) => State::Publishing,
        };
        self.note(run, state)?;
        Ok(Some(if run.ended {
            TICK
        } else if run.burst > 0 {
            Duration::ZERO
        } else if run.paused {
            TICK
        } else {
            run.due.saturating_duration_since(Instant::now())
        }))
    }

    fn publish_next(&mut self, run: &mut Run) -> Result<()> {
        let limit = self.config.batches;
        let next = if limit.is_some_and(|limit| run.published >= limit) {
            None
        } else {
            self.feed.next()?
        };
        let (Some(next), Some(publisher)) = (next, &mut run.publisher) else {
            run.ended = true;
            return Ok(());
        };
        if next.restarted {
            publisher.start_over(0);
        }
        let (topic, sequence) = next
            .place
            .unwrap_or_else(|| (publisher.topic().clone(), publisher.next_sequence()));
        let fate = publisher.fate(sequence);
        if let Some(log) = &self.log {
            let entry = LogEntry::Batch {
                engine: self.index,
                run: run.number,
                sequence,
                digest: penstock_event::digest(&next.payload),
                events: next.events,
                blocks: next.blocks,
                sent: fate.sent,
                hidden: fate.hidden,
                at_us: since_epoch().as_micros() as i64,
            };
            log.lock()
                .unwrap_or_else(|e| e.into_inner())
                .write(&entry)?;
        }
        if let Some(record) = &mut run.record {
            record.write(&[&topic[..], &sequence.to_be_bytes(), &next.payload])?;
            record.flush()?;
        }
        let bytes = next.payload.len() as u64;
        publisher.publish_as(topic, sequence, next.payload)?;
        run.published += 1;
        let mut progress = self.progress();
        progress.batches += 1;
        progress.bytes += bytes;
        progress.dropped += u64::from(!fate.sent);
        progress.events += next.events.unwrap_or(0);
        progress.blocks += next.blocks.unwrap_or(0);
        progress.last_sequence = Some(sequence);
        Ok(())
    }

    fn note(&self, run: &mut Run, state: State) -> Result<()> {
        let subscribers = match &mut run.publisher {
            Some(publisher) => publisher.subscribers()?,
            None => 0,
        };
        let mut progress = self.progress();
        progress.state = state;
        progress.subscribers = subscribers;
        progress.restarts = run.number;
        progress.next_request = self.feed.next_request();
        if let Some(publisher) = &run.publisher {
            progress.publisher = publisher.stats();
        }
        if progress.endpoint != run.again.endpoint {
            progress.endpoint.clone_from(&run.again.endpoint);
            progress.replay_endpoint.clone_from(&run.again.replay);
        }
        Ok(())
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, EngineProgress> {
        self.progress.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn log_start(&self, run: &Run) -> Result<()> {
        self.write_log(&LogEntry::Start {
            engine: self.index,
            run: run.number,
            endpoint: run.again.endpoint.clone(),
            replay: run.again.replay.clone(),
            first: run.again.first_sequence,
        })
    }

    fn write_log(&self, entry: &LogEntry) -> Result<()> {
        match &self.log {
            Some(log) => log.lock().unwrap_or_else(|e| e.into_inner()).write(entry),
            None => Ok(()),
        }
    }
}

impl Run {
    fn wait_for(&mut self, subscribers: usize) {
        self.waiting = (subscribers > 0).then(|| (subscribers, Instant::now()));
    }
}

/// `out.frames` becomes `out-1.frames` for the second of several engines.
fn numbered(path: &Path, index: usize, engines: usize) -> PathBuf {
    if engines == 1 {
        return path.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(extension) => format!("{stem}-{index}.{}", extension.to_string_lossy()),
        None => format!("{stem}-{index}"),
    };
    path.with_file_name(name)
}
