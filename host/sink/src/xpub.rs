//! PUB as an engine has it: own sequence, replay, and nothing lost in silence.
//!
//! ```text
//!        ┌─────────── sleep: a message, a subscription, a replay request ──────────┐
//!        v                                                                         │
//!  hear subscriptions ─> serve replay ─> take messages ─> number, keep, send ──────┤
//!                                                            │ pipe full           │
//!                                                            └─ look again in 1 ms ┘
//! ```
//!
//! Every message gets the next sequence number, from 0, and a place in the
//! replay buffer before it is sent. A message that is then dropped leaves a gap
//! that a consumer sees and can fill. One that never came in (the queue was full,
//! the plugin missed a batch) leaves its number out: a gap that nobody can fill. The sequence is the sink's, over all its
//! topics: a consumer that takes some of the topics sees gaps at the others.
//!
//! XPUB under `ZMQ_XPUB_NODROP` refuses a message when the pipe of *any* of its
//! subscribers is full, so a message goes to all of them or to none, and drops
//! are counted exactly. The price: one subscriber that stops reading, without
//! hanging up, ends the live stream of its topics for everybody after
//! `full_wait_ms`; replay goes on, and so do other topics. The log says so as
//! an error, and again when the stall is over. A stall is waited for once, not
//! for each message.
//!
//! "No subscriber" is judged by what XPUB told so far: a message that crosses a
//! subscription on its way may be counted so and be delivered nevertheless.

use crate::config::PubConfig;
use crate::error::SinkError;
use crate::outgoing::{Offer, Outgoing, Patience, Refusal};
use crate::queue::{Message, Queue};
use crate::socket;
use crate::status::Stats;
use crate::subscriptions::Subscriptions;
use penstock_event::Sequence;
use penstock_peer::PeerError;
use penstock_peer::replay::{ReplayBuffer, ReplayConfig, ReplayServer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zmq::{DONTWAIT, Error, POLLIN, PollItem, Socket, SocketType};

/// Messages moved out of the queue at once; between two such hands,
/// subscriptions and replay have their turn.
const HAND: usize = 64;
/// Notices of subscriptions read a turn.
const NOTICES: usize = 1_024;
/// XPUB always polls as writable, so a full pipe is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

pub(crate) struct Xpub {
    socket: Socket,
    replay: Option<Replay>,
    queue: Arc<Queue>,
    stats: Arc<Stats>,
    subscriptions: Subscriptions,
    hand: VecDeque<Message>,
    /// Number of the message at the front of the hand.
    sequence: Sequence,
    /// That message is in the replay buffer already.
    kept: bool,
    outgoing: Outgoing,
    patience: Patience,
    /// Messages dropped in the stall that lasts.
    stalled: u64,
    linger: Duration,
}

struct Replay {
    server: ReplayServer,
    buffer: ReplayBuffer,
    /// Replays that are in the counts.
    counted: u64,
}

impl Xpub {
    /// Opens the sockets; answers them and the endpoint really used.
    pub(crate) fn open(
        ctx: &zmq::Context,
        config: &PubConfig,
        queue: &Arc<Queue>,
        stats: &Arc<Stats>,
    ) -> Result<(Self, String), SinkError> {
        let replay = match &config.replay {
            Some(endpoint) => Some(Replay::open(ctx, &stats.name, endpoint, config)?),
            None => None,
        };
        let socket = socket::open(
            ctx,
            &socket::Plan {
                name: &stats.name,
                kind: SocketType::XPUB,
                endpoint: &config.endpoint,
                mode: config.mode,
                hwm: config.hwm,
            },
        )?;
        let endpoint = socket::actual(&socket, &config.endpoint);
        let xpub = Self {
            socket,
            replay,
            queue: Arc::clone(queue),
            stats: Arc::clone(stats),
            subscriptions: Subscriptions::default(),
            hand: VecDeque::with_capacity(HAND),
            sequence: 0,
            kept: false,
            outgoing: Outgoing::new(Refusal::Resume, config.positions),
            patience: Patience::new(config.full_wait_ms),
            stalled: 0,
            linger: Duration::from_millis(config.linger_ms),
        };
        Ok((xpub, endpoint))
    }

    pub(crate) fn replay_endpoint(&self) -> Option<String> {
        let replay = self.replay.as_ref()?;
        Some(replay.server.endpoint().to_owned())
    }

    /// Until the queue is closed and empty, or its deadline passed.
    pub(crate) fn run(mut self) {
        if let Err(e) = self.work() {
            self.stats.error(format!("pub: {e}"));
            tracing::error!(sink = %self.stats.name, error = %e, "the sink's socket failed; the sink is closed");
        }
        let deadline = self.queue.deadline();
        if let Some(replay) = &self.replay {
            socket::set_linger(replay.server.socket(), self.linger, deadline);
        }
        socket::set_linger(&self.socket, self.linger, deadline);
    }

    fn work(&mut self) -> zmq::Result<()> {
        loop {
            self.hear()?;
            let replay_again = self.serve_replay()?;
            if self.hand.is_empty() {
                self.queue.take(&mut self.hand, HAND);
            }
            let refused = self.send_hand()?;

            let deadline = self.queue.deadline();
            if deadline.is_some_and(|d| d <= Instant::now()) {
                return Ok(());
            }
            let wait = if refused {
                Some(LOOK_AGAIN)
            } else if replay_again.is_none() && self.queue.rest() {
                continue;
            } else if self.queue.may_sleep() {
                replay_again
            } else if self.queue.exhausted() {
                return Ok(());
            } else {
                continue;
            };
            match wait {
                Some(Duration::ZERO) => self.queue.awake(),
                wait => self.sleep(wait)?,
            }
        }
    }

    fn sleep(&self, most: Option<Duration>) -> zmq::Result<()> {
        let most = most.map_or(-1, socket::poll_millis);
        let wake = PollItem::from_fd(self.queue.wake_fd(), POLLIN);
        let notices = self.socket.as_poll_item(POLLIN);
        let woken = match &self.replay {
            Some(replay) => {
                let requests = replay.server.socket().as_poll_item(POLLIN);
                zmq::poll(&mut [wake, notices, requests], most)
            }
            None => zmq::poll(&mut [wake, notices], most),
        };
        self.queue.awake();
        match woken {
            Ok(_) | Err(Error::EINTR) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Reads who subscribed and who left.
    fn hear(&mut self) -> zmq::Result<()> {
        for _ in 0..NOTICES {
            match self.socket.recv_msg(DONTWAIT) {
                Ok(notice) => self.subscriptions.heard(&notice),
                Err(Error::EAGAIN) => break,
                Err(Error::EINTR) => {}
                Err(e) => return Err(e),
            }
        }
        self.stats.subscriptions(self.subscriptions.held());
        Ok(())
    }

    /// Answers when replay wants its next turn without being asked.
    fn serve_replay(&mut self) -> zmq::Result<Option<Duration>> {
        let Some(replay) = &mut self.replay else {
            return Ok(None);
        };
        let again = match replay.server.serve_ready(&replay.buffer) {
            Ok(served) => served.again,
            Err(PeerError::Socket {
                source: Error::ETERM,
                ..
            }) => return Err(Error::ETERM),
            Err(e) => {
                self.stats.error(format!("replay: {e}"));
                tracing::warn!(sink = %self.stats.name, error = %e, "a replay failed");
                Some(LOOK_AGAIN)
            }
        };
        let answered = replay.server.stats().completed;
        self.stats
            .replays
            .add(answered.saturating_sub(replay.counted));
        replay.counted = answered;
        Ok(again)
    }

    /// Sends what is in hand. True: a pipe is full, offer the rest later.
    fn send_hand(&mut self) -> zmq::Result<bool> {
        while let Some(message) = self.hand.front_mut() {
            self.sequence += std::mem::take(&mut message.skipped);
            if !self.kept
                && let Some(replay) = &mut self.replay
            {
                let (topic, payload) = (message.topic.clone(), message.payload.clone());
                replay.buffer.push(topic, self.sequence, payload);
            }
            self.kept = true;
            match self.outgoing.offer(&self.socket, message, self.sequence) {
                Ok(Offer::Taken) => {
                    if self.subscriptions.wants(&message.topic) {
                        self.stats.sent.add(1);
                        if self.patience.taken() {
                            self.stall_over();
                        }
                    } else {
                        // Says nothing about the pipes of other topics.
                        self.stats.no_subscriber.add(1);
                    }
                }
                Ok(Offer::Full) => {
                    // Half a message cannot be dropped, or the next one would
                    // be taken for its end.
                    let waiting = self.patience.refused(Instant::now()).is_some();
                    if waiting || self.outgoing.halfway() {
                        return Ok(true);
                    }
                    self.stats.full_pipe.add(1);
                    self.stall_goes_on();
                }
                Err(Error::ETERM) => return Err(Error::ETERM),
                Err(e) => {
                    self.stats.error(format!("pub: {e}"));
                    self.stats.lost_to_errors.add(1);
                }
            }
            self.next();
        }
        Ok(false)
    }

    fn next(&mut self) {
        if let Some(message) = self.hand.pop_front() {
            self.queue.done(message.bytes());
        }
        self.sequence += 1;
        self.kept = false;
    }

    fn stall_goes_on(&mut self) {
        if self.stalled == 0 {
            tracing::error!(sink = %self.stats.name, sequence = self.sequence, "a subscriber does not read; live messages are dropped until it does or hangs up");
        }
        self.stalled += 1;
    }

    fn stall_over(&mut self) {
        if self.stalled > 0 {
            tracing::warn!(sink = %self.stats.name, dropped = self.stalled, "subscribers read again");
            self.stalled = 0;
        }
    }
}

impl Replay {
    fn open(
        ctx: &zmq::Context,
        name: &str,
        endpoint: &str,
        config: &PubConfig,
    ) -> Result<Self, SinkError> {
        let server = ReplayServer::open(
            ctx,
            ReplayConfig {
                side: penstock_peer::endpoint::Side::Bind,
                framing: config.replay_framing,
                // Copies of what the buffer holds: a small pipe is enough,
                // since the server waits for room.
                hwm: 256,
                max_jobs: 16,
                turn: 128,
                // Set again on closing.
                linger: Duration::ZERO,
                patience: socket::BIND_PATIENCE,
                ..ReplayConfig::new(endpoint)
            },
        )
        .map_err(|e| match e {
            PeerError::Endpoint {
                endpoint, source, ..
            } => SinkError::Bind {
                name: name.to_owned(),
                endpoint,
                source,
            },
            PeerError::Socket { source, .. } => SinkError::Socket {
                name: name.to_owned(),
                endpoint: endpoint.to_owned(),
                source,
            },
            other => SinkError::Config {
                name: name.to_owned(),
                reason: format!("replay: {other}"),
            },
        })?;
        Ok(Self {
            server,
            buffer: ReplayBuffer::new(config.replay_batches, config.replay_bytes),
            counted: 0,
        })
    }
}
