//! A publisher as an engine has it: PUB, a sequence, a replay ROUTER.
//!
//! Underneath is XPUB, which looks the same to subscribers and tells who they
//! are: the connection of each subscription is known, a monitor tells which
//! connections are gone, and so subscribers can be counted and waited for.
//! As with an engine, what does not fit a subscriber's queue is dropped in
//! silence; it stays in the replay buffer, and [`Faults`] can drop more.
//!
//! It belongs to one thread, which has to come back to
//! [`Publisher::serve_replay`] or [`Publisher::wait`] often, since replay is
//! served nowhere else.

use crate::endpoint::{Bounds, Side, attach, poll, receive, socket};
use crate::faults::Faults;
use crate::monitor::monitor;
use crate::replay::{Framing, ReplayBuffer, ReplayConfig, ReplayServer, ReplayStats, Served};
use crate::{PeerError, Result};
use bytes::Bytes;
use serde::Serialize;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// What stands in for a payload that is corrupted on purpose: an array of two
/// to the 32nd elements that never come.
const CORRUPT: &[u8] = &[0xdd, 0xff, 0xff, 0xff, 0xff];

/// Subscriptions that wait for news of their connection.
const MAX_EARLY: usize = 1_024;

/// How a publisher behaves.
#[derive(Clone, Debug)]
pub struct PublisherConfig {
    /// ZeroMQ endpoint of the stream.
    pub endpoint: String,
    /// Which end it takes.
    pub side: Side,
    /// ZeroMQ endpoint of the replay ROUTER, always bound. None: no replay.
    pub replay: Option<String>,
    /// First frame of every message.
    pub topic: String,
    /// How replays are framed.
    pub framing: Framing,
    /// Batches kept for replay.
    pub buffer_batches: usize,
    /// Bytes kept for replay.
    pub buffer_bytes: usize,
    /// Messages that may wait for one subscriber.
    pub hwm: i32,
    /// Messages that may wait for one replay client.
    pub replay_hwm: i32,
    /// Sequence of the first batch.
    pub first_sequence: u64,
    /// How long closing waits for what is under way.
    pub linger: Duration,
    /// How long binding waits for a port that is being given up.
    pub patience: Duration,
    /// What it does wrong.
    pub faults: Faults,
}

/// What a publisher did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PublisherStats {
    /// Batches published, dropped ones included.
    pub batches: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Batches not sent live, on purpose.
    pub dropped: u64,
    /// Batches sent twice, on purpose.
    pub duplicated: u64,
    /// Batches hidden from replay, on purpose.
    pub hidden: u64,
    /// Batches corrupted, on purpose.
    pub corrupted: u64,
    /// Its replays.
    pub replay: ReplayStats,
}

/// What became of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub sequence: u64,
    /// It was handed to the socket; false: dropped on purpose.
    pub sent: bool,
    /// It is missing from replays, on purpose.
    pub hidden: bool,
}

/// PUB and replay of one engine.
pub struct Publisher {
    socket: zmq::Socket,
    monitor: zmq::Socket,
    replay: Option<ReplayServer>,
    buffer: ReplayBuffer,
    endpoint: String,
    topic: Bytes,
    next: u64,
    faults: Faults,
    /// Connections, by file descriptor.
    connected: HashSet<i64>,
    /// Those with a subscription.
    subscribers: HashSet<i64>,
    /// Subscriptions read before the monitor told of their connection.
    early: Vec<i64>,
    /// Subscriptions without a connection (`inproc`).
    local: usize,
    stats: PublisherStats,
}

// === impl PublisherConfig ===

impl PublisherConfig {
    /// An engine at `endpoint` with the defaults of vLLM, and no replay.
    #[must_use]
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            side: Side::Auto,
            replay: None,
            topic: String::new(),
            framing: Framing::New,
            buffer_batches: 10_000,
            buffer_bytes: 1 << 30,
            hwm: 100_000,
            replay_hwm: 100_000,
            first_sequence: 0,
            linger: Duration::from_secs(1),
            patience: Duration::from_secs(2),
            faults: Faults::default(),
        }
    }
}

// === impl Publisher ===

impl Publisher {
    /// Opens both sockets.
    ///
    /// # Errors
    /// [`PeerError::Endpoint`] when an endpoint cannot be had.
    pub fn open(context: &zmq::Context, config: PublisherConfig) -> Result<Self> {
        let bounds = Bounds {
            hwm: config.hwm,
            linger: config.linger,
            // What comes in is subscriptions.
            max_message: 1 << 20,
        };
        let xpub = socket(context, zmq::XPUB, bounds)?;
        xpub.set_xpub_verbose(true)
            .map_err(PeerError::socket("set XPUB_VERBOSE"))?;
        let events = [
            zmq::SocketEvent::ACCEPTED,
            zmq::SocketEvent::CONNECTED,
            zmq::SocketEvent::DISCONNECTED,
        ];
        let monitor = monitor(context, &xpub, &events)?;
        let endpoint = attach(&xpub, &config.endpoint, config.side, config.patience)?;
        let replay = match config.replay {
            None => None,
            Some(endpoint) => Some(ReplayServer::open(
                context,
                ReplayConfig {
                    framing: config.framing,
                    hwm: config.replay_hwm,
                    linger: config.linger,
                    patience: config.patience,
                    ..ReplayConfig::new(endpoint)
                },
            )?),
        };
        let mut publisher = Self {
            socket: xpub,
            monitor,
            replay,
            buffer: ReplayBuffer::new(config.buffer_batches, config.buffer_bytes),
            endpoint,
            topic: Bytes::from(config.topic),
            next: config.first_sequence,
            faults: Faults::default(),
            connected: HashSet::new(),
            subscribers: HashSet::new(),
            early: Vec::new(),
            local: 0,
            stats: PublisherStats::default(),
        };
        publisher.set_faults(config.faults);
        Ok(publisher)
    }

    /// Where the stream is, with the port that the system chose.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where the replay is, with the port that the system chose.
    #[must_use]
    pub fn replay_endpoint(&self) -> Option<&str> {
        self.replay.as_ref().map(ReplayServer::endpoint)
    }

    /// First frame of its messages.
    #[must_use]
    pub fn topic(&self) -> &Bytes {
        &self.topic
    }

    /// Sequence of the next batch.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// What is held for replay.
    #[must_use]
    pub fn buffer(&self) -> &ReplayBuffer {
        &self.buffer
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> PublisherStats {
        PublisherStats {
            replay: self
                .replay
                .as_ref()
                .map(ReplayServer::stats)
                .unwrap_or_default(),
            ..self.stats
        }
    }

    /// Changes what it does wrong from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        if let Some(replay) = &mut self.replay {
            replay.silent = faults.silent_replay;
            replay.no_end = faults.drop_end_marker;
        }
        self.faults = faults;
    }

    /// What will become of a batch of this sequence.
    #[must_use]
    pub fn fate(&self, sequence: u64) -> Published {
        Published {
            sequence,
            sent: !self.faults.drop_live.contains(sequence),
            hidden: self.faults.hide_from_replay.contains(sequence),
        }
    }

    /// Publishes one batch under the next sequence. Never blocks.
    ///
    /// # Errors
    /// [`PeerError::Socket`].
    pub fn publish(&mut self, payload: impl Into<Bytes>) -> Result<Published> {
        let topic = self.topic.clone();
        self.publish_as(topic, self.next, payload.into())
    }

    /// Publishes one batch under a topic and sequence of its own; the next
    /// sequence follows it. Never blocks.
    ///
    /// # Errors
    /// [`PeerError::Socket`].
    pub fn publish_as(&mut self, topic: Bytes, sequence: u64, payload: Bytes) -> Result<Published> {
        let fate = self.fate(sequence);
        self.stats.batches += 1;
        self.stats.bytes += payload.len() as u64;
        let payload = if self.faults.corrupt.contains(sequence) {
            self.stats.corrupted += 1;
            Bytes::from_static(CORRUPT)
        } else {
            payload
        };
        if fate.sent {
            let frames = [&topic[..], &sequence.to_be_bytes(), &payload];
            self.send_frames(&frames)?;
            if self.faults.duplicate_live.contains(sequence) {
                self.stats.duplicated += 1;
                self.send_frames(&frames)?;
            }
        } else {
            self.stats.dropped += 1;
        }
        if self.replay.is_some() {
            if fate.hidden {
                self.stats.hidden += 1;
                self.buffer.push_hidden(topic, sequence, payload);
            } else {
                self.buffer.push(topic, sequence, payload);
            }
        }
        self.next = sequence.wrapping_add(1);
        Ok(fate)
    }

    /// Sends frames as they are: outside the sequence, and outside replay.
    ///
    /// # Errors
    /// [`PeerError::Socket`].
    pub fn send_frames<F: AsRef<[u8]>>(&self, frames: &[F]) -> Result<()> {
        let Some((last, first)) = frames.split_last() else {
            return Ok(());
        };
        let send = || -> zmq::Result<()> {
            for frame in first {
                self.socket
                    .send(frame.as_ref(), zmq::SNDMORE | zmq::DONTWAIT)?;
            }
            self.socket.send(last.as_ref(), zmq::DONTWAIT)
        };
        send().map_err(PeerError::socket("publish"))
    }

    /// Starts over as an engine that restarts within the same process: from
    /// sequence `first`, with nothing to replay. Connections stay.
    pub fn start_over(&mut self, first: u64) {
        self.next = first;
        self.buffer.clear();
    }

    /// Answers replay requests, as far as that goes without blocking.
    ///
    /// # Errors
    /// [`PeerError::Socket`].
    pub fn serve_replay(&mut self) -> Result<Served> {
        match &mut self.replay {
            Some(replay) => replay.serve_ready(&self.buffer),
            None => Ok(Served {
                sent: 0,
                again: None,
            }),
        }
    }

    /// Connections that have subscribed to something and are still there.
    /// Over `inproc`, which knows no connections: subscriptions.
    ///
    /// # Errors
    /// [`PeerError::Socket`].
    pub fn subscribers(&mut self) -> Result<usize> {
        // Subscriptions first: the monitor then tells of every connection that
        // began before them. Where a descriptor is used again meanwhile, the
        // subscription is credited to the connection that has it now.
        let mut joined = std::mem::take(&mut self.early);
        let mut gone = HashSet::new();
        loop {
            let received = receive(&self.socket, 1);
            let received = received.map_err(PeerError::socket("receive a subscription"))?;
            let Some((mut frames, _)) = received else {
                break;
            };
            let Some(frame) = frames.first_mut() else {
                continue;
            };
            let connection = frame.gets("__fd").and_then(|fd| fd.parse::<i64>().ok());
            match (frame.first(), connection) {
                (Some(1), Some(fd)) => joined.push(fd),
                (Some(1), None) => self.local += 1,
                (Some(0), None) => self.local = self.local.saturating_sub(1),
                _ => {}
            }
        }
        loop {
            let received = receive(&self.monitor, 1);
            let received = received.map_err(PeerError::socket("read the monitor"))?;
            let Some((frames, _)) = received else {
                break;
            };
            // [u16 event, u32 value], native order; the value of the events
            // asked for is the descriptor.
            let Some(&[e0, e1, v0, v1, v2, v3]) = frames.first().map(|f| &**f) else {
                continue;
            };
            let fd = i64::from(i32::from_ne_bytes([v0, v1, v2, v3]));
            if u16::from_ne_bytes([e0, e1]) == zmq::SocketEvent::DISCONNECTED.to_raw() {
                self.connected.remove(&fd);
                self.subscribers.remove(&fd);
                gone.insert(fd);
            } else {
                self.connected.insert(fd);
            }
        }
        for fd in joined {
            if self.connected.contains(&fd) {
                self.subscribers.insert(fd);
            } else if !gone.contains(&fd) && self.early.len() < MAX_EARLY {
                self.early.push(fd);
            }
        }
        Ok(self.subscribers.len() + self.local)
    }

    /// Waits until `count` subscribers are there, serving replays meanwhile.
    /// False when `timeout` passed first.
    ///
    /// # Errors
    /// [`PeerError::Socket`].
    pub fn wait_subscribers(&mut self, count: usize, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        while self.subscribers()? < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.wait(left)?;
        }
        Ok(true)
    }

    /// Serves replays until something comes in or `timeout` has passed.
    ///
    /// # Errors
    /// [`PeerError::Socket`].
    pub fn wait(&mut self, timeout: Duration) -> Result<()> {
        let served = self.serve_replay()?;
        let timeout = served.again.map_or(timeout, |again| again.min(timeout));
        let mut items = vec![
            self.socket.as_poll_item(zmq::POLLIN),
            self.monitor.as_poll_item(zmq::POLLIN),
        ];
        if let Some(replay) = &self.replay {
            items.push(replay.socket().as_poll_item(zmq::POLLIN));
        }
        // A part of a millisecond is a whole one, or callers would spin.
        let timeout = if timeout.is_zero() {
            timeout
        } else {
            timeout.max(Duration::from_millis(1))
        };
        poll(&mut items, timeout)?;
        // Also empties the sockets, whose queues would grow otherwise.
        self.subscribers()?;
        self.serve_replay()?;
        Ok(())
    }

    /// Closes at once, as a killed engine does: nothing under way is waited for.
    ///
    /// # Errors
    /// [`PeerError::Socket`].
    pub fn kill(self) -> Result<()> {
        if let Some(replay) = &self.replay {
            replay.abandon()?;
        }
        self.socket
            .set_linger(0)
            .map_err(PeerError::socket("set LINGER"))
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("endpoint", &self.endpoint)
            .field("replay", &self.replay)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
