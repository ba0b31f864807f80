use super::{END, Framing, ReplayBuffer};
use crate::endpoint::{Bounds, Side, attach, receive, socket};
use crate::{PeerError, Result};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A request is a few bytes; a client that sends more is cut off.
const MAX_REQUEST: i64 = 64 << 10;

/// How a replay server behaves.
#[derive(Clone, Debug)]
pub struct ReplayConfig {
    /// ZeroMQ endpoint of the ROUTER.
    pub endpoint: String,
    /// Which end it takes. Engines always bind.
    pub side: Side,
    /// How replies are framed.
    pub framing: Framing,
    /// Messages that may wait for one client. Engines before vLLM 0.33: 1,000.
    pub hwm: i32,
    /// Requests answered side by side; more are refused and counted.
    pub max_jobs: usize,
    /// A client that takes nothing for so long loses the rest of its answer.
    pub stall: Duration,
    /// Messages sent in one turn of [`ReplayServer::serve_ready`].
    pub turn: usize,
    /// How long closing waits for replies under way.
    pub linger: Duration,
    /// How long binding waits for a port that is being given up.
    pub patience: Duration,
}

/// What a replay server did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayStats {
    /// Requests understood.
    pub requests: u64,
    /// Messages of another shape, left without an answer.
    pub malformed: u64,
    /// Requests refused because too many were under way.
    pub refused: u64,
    /// Batches sent.
    pub batches: u64,
    /// Requests answered to the end.
    pub completed: u64,
    /// Answers given up: the client was gone.
    pub undeliverable: u64,
    /// Answers given up: the client took nothing for too long.
    pub stalled: u64,
    /// Batches that left the buffer before their answer got to them.
    pub overtaken: u64,
    /// Requests left without an answer, or answers without an end marker, as a
    /// fault on purpose.
    pub faults: u64,
}

/// What one turn did, and when the next is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Messages sent.
    pub sent: usize,
    /// None: nothing to do until a request comes. Otherwise: after this long,
    /// request or not.
    pub again: Option<Duration>,
}

/// A ROUTER that answers replay requests from a [`ReplayBuffer`].
///
/// It never blocks: what a client does not take yet waits for a later turn, and
/// clients take turns. Its thread polls [`socket`](Self::socket) for input and
/// calls [`serve_ready`](Self::serve_ready) then, and again as [`Served`] says.
/// An answer covers the batches that were held when the request came.
pub struct ReplayServer {
    socket: zmq::Socket,
    endpoint: String,
    config: ReplayConfig,
    jobs: VecDeque<Job>,
    stats: ReplayStats,
    /// No answers: a fault on purpose.
    pub(crate) silent: bool,
    /// No end markers: a fault on purpose.
    pub(crate) no_end: bool,
}

/// One request under way.
struct Job {
    client: zmq::Message,
    start: u64,
    /// Index in the buffer of the next batch to look at.
    next: u64,
    /// Index past the last.
    end: u64,
    progress: Instant,
}

enum Step {
    Sent,
    Done,
    Full,
    Gone,
}

// === impl ReplayConfig ===

impl ReplayConfig {
    /// An engine's replay at `endpoint`.
    #[must_use]
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            side: Side::Bind,
            framing: Framing::default(),
            hwm: 100_000,
            max_jobs: 64,
            stall: Duration::from_secs(10),
            turn: 256,
            linger: Duration::from_secs(1),
            patience: Duration::from_secs(2),
        }
    }
}

// === impl ReplayServer ===

impl ReplayServer {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`PeerError::Endpoint`] when the endpoint cannot be had.
    pub fn open(context: &zmq::Context, config: ReplayConfig) -> Result<Self> {
        let bounds = Bounds {
            hwm: config.hwm,
            linger: config.linger,
            max_message: MAX_REQUEST,
        };
        let socket = socket(context, zmq::ROUTER, bounds)?;
        socket
            .set_router_mandatory(true)
            .map_err(PeerError::socket("set ROUTER_MANDATORY"))?;
        let endpoint = attach(&socket, &config.endpoint, config.side, config.patience)?;
        Ok(Self {
            socket,
            endpoint,
            config,
            jobs: VecDeque::new(),
            stats: ReplayStats::default(),
            silent: false,
            no_end: false,
        })
    }

    /// Where it is, with the port that the system chose.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The socket, to poll for input.
    #[must_use]
    pub fn socket(&self) -> &zmq::Socket {
        &self.socket
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> ReplayStats {
        self.stats
    }

    /// Changes how later replies are framed.
    pub fn set_framing(&mut self, framing: Framing) {
        self.config.framing = framing;
    }

    /// Closes without waiting for replies under way.
    pub(crate) fn abandon(&self) -> Result<()> {
        self.socket
            .set_linger(0)
            .map_err(PeerError::socket("set LINGER"))
    }

    /// Takes the requests that wait and sends up to
    /// [`ReplayConfig::turn`] messages. Never blocks.
    ///
    /// # Errors
    /// [`PeerError::Socket`] when the socket itself failed; a client that went
    /// away is counted instead.
    pub fn serve_ready(&mut self, buffer: &ReplayBuffer) -> Result<Served> {
        let now = Instant::now();
        self.accept(buffer, now)?;
        let mut sent = 0;
        let mut full = 0;
        // A few messages a client, then the next client, until the turn is used
        // up or no client takes more.
        while sent < self.config.turn && full < self.jobs.len() {
            let Some(mut job) = self.jobs.pop_front() else {
                break;
            };
            let before = sent;
            let step = self.advance(&mut job, buffer, &mut sent)?;
            if sent > before {
                job.progress = now;
            }
            match step {
                Step::Sent => {
                    full = 0;
                    self.jobs.push_back(job);
                }
                Step::Done => {
                    full = 0;
                    self.stats.completed += 1;
                }
                Step::Gone => self.stats.undeliverable += 1,
                Step::Full if now.duration_since(job.progress) >= self.config.stall => {
                    self.stats.stalled += 1;
                }
                Step::Full => {
                    full += 1;
                    self.jobs.push_back(job);
                }
            }
        }
        let again = if self.jobs.is_empty() {
            None
        } else if full >= self.jobs.len() {
            // ROUTER always polls as writable: look again a little later.
            Some(Duration::from_millis(2))
        } else {
            Some(Duration::ZERO)
        };
        Ok(Served { sent, again })
    }

    fn accept(&mut self, buffer: &ReplayBuffer, now: Instant) -> Result<()> {
        // As many a turn as there may be jobs: a client that floods requests
        // holds up nobody.
        for _ in 0..self.config.max_jobs.max(1) {
            let received = receive(&self.socket, 3);
            let Some((frames, count)) = received.map_err(PeerError::socket("receive a request"))?
            else {
                break;
            };
            let mut frames = frames.into_iter();
            let (Some(client), Some(delimiter), Some(start), 3) =
                (frames.next(), frames.next(), frames.next(), count)
            else {
                self.stats.malformed += 1;
                continue;
            };
            let start: &[u8] = &start;
            let (true, Ok(start)) = (delimiter.is_empty(), <[u8; 8]>::try_from(start)) else {
                self.stats.malformed += 1;
                continue;
            };
            self.stats.requests += 1;
            if self.silent {
                self.stats.faults += 1;
                continue;
            }
            if self.jobs.len() >= self.config.max_jobs {
                self.stats.refused += 1;
                continue;
            }
            self.jobs.push_back(Job {
                client,
                start: u64::from_be_bytes(start),
                next: buffer.first_index(),
                end: buffer.end_index(),
                progress: now,
            });
        }
        Ok(())
    }

    /// A few messages of one answer.
    fn advance(&mut self, job: &mut Job, buffer: &ReplayBuffer, sent: &mut usize) -> Result<Step> {
        if job.next < buffer.first_index() {
            let skip = buffer.first_index().min(job.end) - job.next;
            self.stats.overtaken += skip;
            job.next += skip;
        }
        let mut left = 16;
        while job.next < job.end {
            let Some(held) = buffer.at(job.next) else {
                job.next = job.end;
                break;
            };
            if held.sequence < job.start || held.hidden {
                job.next += 1;
                continue;
            }
            if left == 0 {
                return Ok(Step::Sent);
            }
            let sequence = held.sequence.to_be_bytes();
            match self.send(&job.client, &held.topic, &sequence, &held.payload)? {
                Step::Sent => {}
                other => return Ok(other),
            }
            self.stats.batches += 1;
            job.next += 1;
            *sent += 1;
            left -= 1;
        }
        if self.no_end {
            self.stats.faults += 1;
            return Ok(Step::Done);
        }
        match self.send(&job.client, &[], &END, &[])? {
            Step::Sent => {
                *sent += 1;
                Ok(Step::Done)
            }
            other => Ok(other),
        }
    }

    fn send(&self, client: &[u8], topic: &[u8], sequence: &[u8], payload: &[u8]) -> Result<Step> {
        let more = zmq::DONTWAIT | zmq::SNDMORE;
        // libzmq decides on the first frame whether the message fits; the rest
        // of it is then accepted.
        loop {
            match self.socket.send(client, more) {
                Ok(()) => break,
                Err(zmq::Error::EINTR) => {}
                Err(zmq::Error::EAGAIN) => return Ok(Step::Full),
                Err(zmq::Error::EHOSTUNREACH) => return Ok(Step::Gone),
                Err(error) => return Err(PeerError::socket("send a replay")(error)),
            }
        }
        let rest = || -> zmq::Result<()> {
            self.socket.send(&b""[..], more)?;
            if self.config.framing == Framing::New {
                self.socket.send(topic, more)?;
            }
            self.socket.send(sequence, more)?;
            self.socket.send(payload, zmq::DONTWAIT)
        };
        rest().map_err(PeerError::socket("send a replay"))?;
        Ok(Step::Sent)
    }
}

impl std::fmt::Debug for ReplayServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayServer")
            .field("endpoint", &self.endpoint)
            .field("jobs", &self.jobs.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
