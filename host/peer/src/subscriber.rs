//! The other end, as far as tools and tests need it: a SUB socket, and a
//! client that fetches a replay once.
//!
//! Every wait has a deadline. It neither orders, repairs nor decodes.

use crate::endpoint::{Bounds, MAX_MESSAGE, Side, attach, poll, receive, socket};
use crate::frames::{MAX_FRAMES, Message};
use crate::monitor::{Link, Watch};
use crate::replay::{END, Framing};
use crate::{PeerError, Result};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// A SUB socket.
pub struct Subscriber {
    socket: zmq::Socket,
    watch: Watch,
    endpoint: String,
}

/// What a replay brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Sequence and payload of each batch, in the order of arrival.
    pub batches: Vec<(u64, Bytes)>,
    /// Topic of each batch; empty with the old framing.
    pub topics: Vec<Bytes>,
    /// The end marker came. Otherwise the deadline passed first, or the limit
    /// on bytes was reached.
    pub complete: bool,
    /// How the answer was framed; none without one.
    pub framing: Option<Framing>,
    /// Messages of another shape, left out.
    pub malformed: u64,
}

/// Bytes of payloads that [`fetch`] takes: 1 GiB.
const MAX_FETCH: usize = 1 << 30;

// === impl Subscriber ===

impl Subscriber {
    /// Subscribes to topics that begin with one of `topics`; none: everything.
    /// An `Auto` side connects.
    ///
    /// # Errors
    /// [`PeerError::Endpoint`].
    pub fn open(
        context: &zmq::Context,
        endpoint: &str,
        topics: &[String],
        side: Side,
        hwm: i32,
    ) -> Result<Self> {
        let bounds = Bounds {
            hwm,
            linger: Duration::ZERO,
            max_message: MAX_MESSAGE,
        };
        let socket = socket(context, zmq::SUB, bounds)?;
        let subscribe = |topic: &str| {
            let done = socket.set_subscribe(topic.as_bytes());
            done.map_err(PeerError::socket("subscribe"))
        };
        if topics.is_empty() {
            subscribe("")?;
        }
        for topic in topics {
            subscribe(topic)?;
        }
        let watch = Watch::new(context, &socket)?;
        let side = match side {
            Side::Auto => Side::Connect,
            other => other,
        };
        let endpoint = attach(&socket, endpoint, side, Duration::from_secs(2))?;
        Ok(Self {
            socket,
            watch,
            endpoint,
        })
    }

    /// Where it is connected or bound.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its connections. To be asked now and then: what is told is kept until read.
    ///
    /// # Errors
    /// [`PeerError::Socket`].
    pub fn link(&mut self) -> Result<Link> {
        self.watch.link()
    }

    /// The next message; none when `timeout` passes first.
    ///
    /// # Errors
    /// [`PeerError::Socket`].
    pub fn receive(&self, timeout: Duration) -> Result<Option<Message>> {
        let deadline = Instant::now() + timeout;
        loop {
            let received = receive(&self.socket, MAX_FRAMES as usize);
            let received = received.map_err(PeerError::socket("receive"))?;
            if let Some((frames, count)) = received {
                if count > frames.len() {
                    tracing::warn!(frames = count, "message left out: too many frames");
                    continue;
                }
                return Ok(Some(
                    frames.iter().map(|f| Bytes::copy_from_slice(f)).collect(),
                ));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // A part of a millisecond is a whole one, or this would spin.
            let left = left.max(Duration::from_millis(1));
            poll(&mut [self.socket.as_poll_item(zmq::POLLIN)], left)?;
        }
    }
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Asks a replay ROUTER once for all batches from `from`, in either framing,
/// and waits for its end marker until `timeout` has passed.
///
/// # Errors
/// [`PeerError::Endpoint`] or [`PeerError::Socket`]. Silence is no error: see
/// [`Fetched::complete`].
pub fn fetch(
    context: &zmq::Context,
    endpoint: &str,
    from: u64,
    timeout: Duration,
) -> Result<Fetched> {
    let deadline = Instant::now() + timeout;
    let bounds = Bounds {
        hwm: 100_000,
        linger: Duration::ZERO,
        max_message: MAX_MESSAGE,
    };
    let socket = socket(context, zmq::DEALER, bounds)?;
    attach(&socket, endpoint, Side::Connect, Duration::ZERO)?;
    let ask = || -> zmq::Result<()> {
        socket.send(&b""[..], zmq::SNDMORE)?;
        socket.send(&from.to_be_bytes()[..], zmq::DONTWAIT)
    };
    ask().map_err(PeerError::socket("ask for a replay"))?;
    let mut fetched = Fetched::default();
    let mut bytes = 0;
    while bytes < MAX_FETCH {
        let received = receive(&socket, 4).map_err(PeerError::socket("receive a replay"))?;
        let Some((frames, count)) = received else {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let left = left.max(Duration::from_millis(1));
            poll(&mut [socket.as_poll_item(zmq::POLLIN)], left)?;
            continue;
        };
        let frames: Vec<&[u8]> = frames.iter().map(|f| &**f).collect();
        let (framing, topic, sequence, payload) = match (count, &frames[..]) {
            (3, [b"", sequence, payload]) => (Framing::Old, &b""[..], *sequence, *payload),
            (4, [b"", topic, sequence, payload]) => (Framing::New, *topic, *sequence, *payload),
            _ => {
                fetched.malformed += 1;
                continue;
            }
        };
        let Ok(number) = <[u8; 8]>::try_from(sequence) else {
            fetched.malformed += 1;
            continue;
        };
        fetched.framing = Some(framing);
        if payload.is_empty() && number == END {
            fetched.complete = true;
            break;
        }
        bytes += payload.len();
        let payload = Bytes::copy_from_slice(payload);
        fetched.batches.push((u64::from_be_bytes(number), payload));
        fetched.topics.push(Bytes::copy_from_slice(topic));
    }
    Ok(fetched)
}
