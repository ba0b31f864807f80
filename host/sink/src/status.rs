//! What a sink counts, for its status and for metrics.
//!
//! Every message given to `publish` ends in exactly one of `sent`,
//! `no_subscriber`, the `dropped_*` counts, `lost_to_errors` and
//! `unsent_at_exit`, or is still `queued`.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use penstock_event::PublishError;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A sink as it stands. Counts are since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkStatus {
    /// Name in the config.
    pub name: String,
    /// Kind in the config.
    pub kind: &'static str,
    /// The endpoint really bound or connected to, or the file's path.
    pub endpoint: String,
    /// The endpoint really bound for replay.
    pub replay_endpoint: Option<String>,
    /// Whether its thread runs. False once shut down, or after a failure that
    /// the sink could not live with (then `last_error` says which).
    pub running: bool,
    /// Topic prefixes that some peer subscribes to (`zmq-pub`).
    pub subscriptions: u64,
    /// Messages waiting.
    pub queued: u64,
    /// Bytes of topics and payloads waiting.
    pub queued_bytes: u64,
    /// Messages handed to libzmq or written to the file.
    pub sent: u64,
    /// Messages refused by `publish`: the queue was full.
    pub dropped_full_queue: u64,
    /// Messages refused by `publish`: above `max_message_bytes`.
    pub dropped_too_large: u64,
    /// Messages dropped: a peer's pipe stayed full for longer than `full_wait_ms`.
    pub dropped_full_pipe: u64,
    /// Messages that nobody subscribed to. They are replayed all the same.
    pub no_subscriber: u64,
    /// Messages lost to an error of the socket.
    pub lost_to_errors: u64,
    /// Messages still waiting when the shutdown deadline passed.
    pub unsent_at_exit: u64,
    /// Replay requests answered.
    pub replays: u64,
    /// Errors of the disk or a socket.
    pub errors: u64,
    /// The last of them.
    pub last_error: Option<String>,
}

/// A count for the status, and the same for metrics.
pub(crate) struct Count {
    value: AtomicU64,
    metric: Counter,
}

impl Count {
    fn new(metric: Counter) -> Self {
        Self {
            value: AtomicU64::new(0),
            metric,
        }
    }

    pub(crate) fn add(&self, n: u64) {
        if n > 0 {
            self.value.fetch_add(n, Ordering::Relaxed);
            self.metric.increment(n);
        }
    }

    fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// Says what the metrics mean. Doing it again changes nothing.
fn describe() {
    for (name, what) in [
        (
            "penstock_sink_sent_total",
            "Messages handed to libzmq or written",
        ),
        (
            "penstock_sink_dropped_total",
            "Messages not sent, by reason",
        ),
        ("penstock_sink_replays_total", "Replay requests answered"),
        (
            "penstock_sink_errors_total",
            "Errors of the disk or a socket",
        ),
    ] {
        describe_counter!(name, what);
    }
    describe_gauge!("penstock_sink_queued", "Messages waiting in a sink");
    describe_gauge!("penstock_sink_queued_bytes", "Bytes waiting in a sink");
}

/// What the sink's thread and its publishers count into.
pub(crate) struct Stats {
    pub(crate) name: String,
    pub(crate) sent: Count,
    pub(crate) full_queue: Count,
    pub(crate) too_large: Count,
    pub(crate) full_pipe: Count,
    pub(crate) no_subscriber: Count,
    pub(crate) lost_to_errors: Count,
    pub(crate) unsent_at_exit: Count,
    pub(crate) replays: Count,
    errors: Count,
    last_error: Mutex<Option<String>>,
    subscriptions: AtomicU64,
    queued: Gauge,
    queued_bytes: Gauge,
}

impl Stats {
    pub(crate) fn new(name: &str, kind: &'static str) -> Self {
        describe();
        let label = || name.to_owned();
        let dropped = |reason: &'static str| {
            Count::new(
                counter!("penstock_sink_dropped_total", "sink" => label(), "kind" => kind, "reason" => reason),
            )
        };
        Self {
            name: name.to_owned(),
            sent: Count::new(
                counter!("penstock_sink_sent_total", "sink" => label(), "kind" => kind),
            ),
            full_queue: dropped("full_queue"),
            too_large: dropped("too_large"),
            full_pipe: dropped("full_pipe"),
            no_subscriber: dropped("no_subscriber"),
            lost_to_errors: dropped("error"),
            unsent_at_exit: dropped("unsent_at_exit"),
            replays: Count::new(
                counter!("penstock_sink_replays_total", "sink" => label(), "kind" => kind),
            ),
            errors: Count::new(
                counter!("penstock_sink_errors_total", "sink" => label(), "kind" => kind),
            ),
            last_error: Mutex::new(None),
            subscriptions: AtomicU64::new(0),
            queued: gauge!("penstock_sink_queued", "sink" => label(), "kind" => kind),
            queued_bytes: gauge!("penstock_sink_queued_bytes", "sink" => label(), "kind" => kind),
        }
    }

    pub(crate) fn refused(&self, why: PublishError) {
        match why {
            PublishError::Full => self.full_queue.add(1),
            PublishError::TooLarge => self.too_large.add(1),
            // Never accepted, and the plugin is told: the daemon counts these.
            PublishError::Closed | PublishError::NoSink => {}
        }
    }

    pub(crate) fn error(&self, text: String) {
        self.errors.add(1);
        *self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    pub(crate) fn subscriptions(&self, prefixes: usize) {
        self.subscriptions.store(prefixes as u64, Ordering::Relaxed);
    }

    /// For the gauges; once a turn is enough.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn waiting(&self, messages: usize, bytes: usize) {
        self.queued.set(messages as f64);
        self.queued_bytes.set(bytes as f64);
    }

    /// The counts; the caller fills in the rest.
    pub(crate) fn status(&self) -> SinkStatus {
        SinkStatus {
            name: self.name.clone(),
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
            sent: self.sent.get(),
            dropped_full_queue: self.full_queue.get(),
            dropped_too_large: self.too_large.get(),
            dropped_full_pipe: self.full_pipe.get(),
            no_subscriber: self.no_subscriber.get(),
            lost_to_errors: self.lost_to_errors.get(),
            unsent_at_exit: self.unsent_at_exit.get(),
            replays: self.replays.get(),
            errors: self.errors.get(),
            last_error: self
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            ..SinkStatus::default()
        }
    }
}
