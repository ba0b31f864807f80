//! PUSH: each message to one of the peers, in turn.
//!
//! The thread sleeps until a message or room in a pipe comes. A message that
//! no peer has room for within `full_wait_ms` is dropped and counted, one at a
//! time: meanwhile the queue fills up and `publish` answers "full", so a short
//! outage costs the newest messages, not those already accepted.
//!
//! `sent` means that libzmq has the message. What it holds for a peer that
//! goes away is lost with that peer: PUSH has no replay.

use crate::config::PushConfig;
use crate::error::SinkError;
use crate::outgoing::{Offer, Outgoing, Patience, Refusal};
use crate::queue::{Message, Queue};
use crate::socket;
use crate::status::Stats;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zmq::{Error, POLLIN, POLLOUT, PollItem, Socket, SocketType};

/// Messages moved out of the queue at once.
const HAND: usize = 64;

pub(crate) struct Push {
    socket: Socket,
    queue: Arc<Queue>,
    stats: Arc<Stats>,
    hand: VecDeque<Message>,
    outgoing: Outgoing,
    patience: Patience,
    sequence: u64,
    linger: Duration,
}

impl Push {
    /// Opens the socket; answers it and the endpoint really used.
    pub(crate) fn open(
        ctx: &zmq::Context,
        config: &PushConfig,
        queue: &Arc<Queue>,
        stats: &Arc<Stats>,
    ) -> Result<(Self, String), SinkError> {
        let socket = socket::open(
            ctx,
            &socket::Plan {
                name: &stats.name,
                kind: SocketType::PUSH,
                endpoint: &config.endpoint,
                mode: config.mode,
                hwm: config.hwm,
            },
        )?;
        let endpoint = socket::actual(&socket, &config.endpoint);
        let push = Self {
            socket,
            queue: Arc::clone(queue),
            stats: Arc::clone(stats),
            hand: VecDeque::with_capacity(HAND),
            outgoing: Outgoing::new(Refusal::Restart, config.positions),
            patience: Patience::new(config.full_wait_ms),
            sequence: 0,
            linger: Duration::from_millis(config.linger_ms),
        };
        Ok((push, endpoint))
    }

    /// Until the queue is closed and empty, or its deadline passed.
    pub(crate) fn run(mut self) {
        if let Err(e) = self.work() {
            self.stats.error(format!("push: {e}"));
            tracing::error!(sink = %self.stats.name, error = %e, "the sink's socket failed; the sink is closed");
        }
        socket::set_linger(&self.socket, self.linger, self.queue.deadline());
    }

    fn work(&mut self) -> zmq::Result<()> {
        loop {
            if self.hand.is_empty() {
                self.queue.take(&mut self.hand, HAND);
            }
            let refused = self.send_hand()?;
            let deadline = self.queue.deadline();
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|l| l.is_zero()) {
                return Ok(());
            }
            let wait = match (refused, left) {
                (Some(wait), Some(left)) => socket::poll_millis(wait.min(left)),
                (Some(wait), None) => socket::poll_millis(wait),
                (None, _) if self.queue.rest() => continue,
                (None, _) if self.queue.may_sleep() => -1,
                (None, _) if self.queue.exhausted() => return Ok(()),
                (None, _) => continue,
            };
            let mut items = [
                PollItem::from_fd(self.queue.wake_fd(), POLLIN),
                self.socket.as_poll_item(POLLOUT),
            ];
            // Room is of interest only to a message that waits for it.
            let items = if refused.is_some() {
                &mut items[..]
            } else {
                &mut items[..1]
            };
            match zmq::poll(items, wait) {
                Ok(_) | Err(Error::EINTR) => self.queue.awake(),
                Err(e) => return Err(e),
            }
        }
    }

    /// Sends what is in hand. Answers how long to wait when refused.
    fn send_hand(&mut self) -> zmq::Result<Option<Duration>> {
        while let Some(message) = self.hand.front_mut() {
            self.sequence += std::mem::take(&mut message.skipped);
            let bytes = message.bytes();
            match self.outgoing.offer(&self.socket, message, self.sequence) {
                Ok(Offer::Taken) => self.stats.sent.add(1),
                Ok(Offer::Full) => {
                    if let Some(wait) = self.patience.refused(Instant::now()) {
                        return Ok(Some(wait));
                    }
                    self.stats.full_pipe.add(1);
                    tracing::debug!(sink = %self.stats.name, sequence = self.sequence, "no peer had room; message dropped");
                }
                Err(Error::ETERM) => return Err(Error::ETERM),
                Err(e) => {
                    self.stats.error(format!("push: {e}"));
                    self.stats.lost_to_errors.add(1);
                }
            }
            self.patience.restart();
            self.sequence += 1;
            self.hand.pop_front();
            self.queue.done(bytes);
        }
        Ok(None)
    }
}
