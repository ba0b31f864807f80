//! The ZeroMQ door: a ROUTER on a thread of its own.
//!
//! ```text
//! REQ ----[id]["" ][body]----+
//! DEALER -[id]["" ][body]----+--> ROUTER --Lookups::ask--> plugin's queue
//! proxy --[p][id][""][body]--+      ^                          |
//!                                   +--- line (queue, eventfd) +
//! ```
//!
//! A request is one body frame after the first empty frame. What stands before
//! the body goes back untouched, so that clients behind proxies are found again.
//! A client may have several requests in flight and gets the replies as they are
//! ready, matched by the `id` that it chose.
//!
//! ```json
//! {"id": 7, "op": "query", "token_ids": [1, 2, 3], "model_name": "m"}
//! {"id": 7, "scores": {"vllm-0": {"0": 2}}, "positions": {}, "...": {}}
//! {"id": 7, "error": "busy: too many requests in flight", "code": "busy"}
//! ```
//!
//! `op` is `query` (the default), `query_by_hash` or `health`; the other fields
//! are those of HTTP. A body that begins with `{` is JSON; any other is a msgpack
//! map, in which `token_ids` may be bin: u32, little endian. The reply is written
//! as the request was.
//!
//! Each request gets one reply: the answer, an error, or `deadline` when the
//! plugin is late. A reply whose client has gone or does not read is counted, not
//! kept. The thread sleeps in one poll on the socket and the line; nothing on the
//! way from request to reply passes through the async runtime. The door keeps no
//! ZMTP heartbeats: dead clients are found by TCP keepalive.

mod flight;
mod line;
mod worker;

use crate::meter::Meter;
use crate::{Beat, Control, DoorsConfig, Lookups, QueryError};
use flight::Flights;
use line::Line;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use worker::Worker;

/// What the ZeroMQ door has counted since it opened.
#[derive(Debug, Default)]
pub struct RouterTotals {
    /// Requests that came.
    pub requests: AtomicU64,
    /// Replies handed to the socket.
    pub replies: AtomicU64,
    /// Replies whose client had gone.
    pub undeliverable: AtomicU64,
    /// Replies dropped because the client does not read.
    pub unread: AtomicU64,
    /// Messages without a delimiter, without one body, or with too many frames.
    pub malformed: AtomicU64,
    /// Lookups that the plugin answered after their deadline had been answered.
    pub late: AtomicU64,
}

/// The open door, held by [`Doors`](crate::Doors).
pub(crate) struct RouterDoor {
    thread: Option<JoinHandle<()>>,
    ended: Mutex<mpsc::Receiver<()>>,
    stop: Arc<Stop>,
    pub(crate) endpoint: String,
    pub(crate) totals: Arc<RouterTotals>,
}

/// How the thread learns that it is to end.
pub(super) struct Stop {
    until: Mutex<Option<Instant>>,
    line: Arc<Line>,
}

// === impl RouterDoor ===

impl RouterDoor {
    /// Binds the socket and starts the thread.
    pub(crate) fn open(
        endpoint: &str,
        config: &DoorsConfig,
        lookups: Arc<dyn Lookups>,
        control: Arc<dyn Control>,
        beat: Beat,
    ) -> Result<Self, QueryError> {
        let failed = |source: std::io::Error| QueryError::Open {
            door: "zmq",
            address: endpoint.to_owned(),
            source,
        };
        let socket = bind(endpoint, config).map_err(|e| failed(e.into()))?;
        let bound = match socket.get_last_endpoint() {
            Ok(Ok(bound)) => bound,
            _ => endpoint.to_owned(),
        };
        let line = Arc::new(Line::new(config.max_in_flight).map_err(failed)?);
        let stop = Arc::new(Stop {
            until: Mutex::new(None),
            line: Arc::clone(&line),
        });
        let totals = Arc::new(RouterTotals::default());
        let worker = Worker {
            socket,
            line,
            stop: Arc::clone(&stop),
            flights: Flights::new(config.max_in_flight, config.max_in_flight_per_client),
            lookups,
            control,
            config: config.clone(),
            totals: Arc::clone(&totals),
            meter: Meter::new("zmq"),
            lost: worker::lost_counters(),
        };
        let (end, ended) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("query-zmq".to_owned())
            .spawn(move || {
                worker.run(&beat);
                let _ = end.send(());
            })
            .map_err(|source| QueryError::Thread {
                door: "zmq",
                source,
            })?;
        Ok(Self {
            thread: Some(thread),
            ended: Mutex::new(ended),
            stop,
            endpoint: bound,
            totals,
        })
    }

    /// Requests that come from now on are told `closing`; the thread ends when
    /// those in flight are answered, or at `until`.
    pub(crate) fn stop(&self, until: Instant) {
        let mut at = self
            .stop
            .until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *at = Some(at.map_or(until, |earlier| earlier.min(until)));
        drop(at);
        self.stop.line.wake();
    }

    /// Waits for the end, a little past `until`. False when the thread hangs in
    /// a call and was left behind.
    pub(crate) fn join(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now()) + LINGER * 2;
        // A thread that panicked has dropped its end: that is an end as well.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let hung = matches!(
            ended.recv_timeout(left),
            Err(mpsc::RecvTimeoutError::Timeout)
        );
        match self.thread.take() {
            Some(thread) if !hung => thread.join().is_ok(),
            _ => !hung,
        }
    }
}

impl Drop for RouterDoor {
    fn drop(&mut self) {
        self.stop(Instant::now());
    }
}

impl Stop {
    fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the last replies may take to leave the process.
const LINGER: Duration = Duration::from_millis(250);

fn bind(endpoint: &str, config: &DoorsConfig) -> Result<zmq::Socket, zmq::Error> {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::ROUTER)?;
    // A reply that cannot be delivered is an error to count, not a silent loss.
    socket.set_router_mandatory(true)?;
    socket.set_rcvhwm(config.zmq_hwm)?;
    socket.set_sndhwm(config.zmq_hwm)?;
    socket.set_linger(LINGER.as_millis() as i32)?;
    socket.set_maxmsgsize(config.max_body_bytes as i64)?;
    socket.set_handshake_ivl(5_000)?;
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(5)?;
    socket.set_tcp_keepalive_intvl(3)?;
    socket.set_tcp_keepalive_cnt(3)?;
    if endpoint.contains('[') {
        socket.set_ipv6(true)?;
    }
    // libzmq takes `*` for a free port.
    match endpoint.strip_suffix(":0") {
        Some(host) if host.starts_with("tcp://") => socket.bind(&format!("{host}:*"))?,
        _ => socket.bind(endpoint)?,
    }
    Ok(socket)
}

impl RouterTotals {
    /// Name and value of each counter.
    #[must_use]
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("requests", self.requests.load(Relaxed)),
            ("replies", self.replies.load(Relaxed)),
            ("undeliverable", self.undeliverable.load(Relaxed)),
            ("unread", self.unread.load(Relaxed)),
            ("malformed", self.malformed.load(Relaxed)),
            ("late", self.late.load(Relaxed)),
        ]
    }
}
