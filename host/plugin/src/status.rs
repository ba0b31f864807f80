use crate::{CallError, Description, Features, Waiting};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

/// What an instance is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It takes batches.
    #[default]
    Running,
    /// It failed, and starts again after a wait.
    Backoff,
    /// It failed too often in a row, and stays down until it is replaced.
    Failed,
    /// It failed, and keeps its place until somebody starts it again.
    Held,
    /// The runner has ended.
    Stopped,
}

/// A runner at one moment, for people and for `ctl status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// The plugin's name.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Components it has run: 1 for the first, one more a swap.
    pub generation: u32,
    /// `sha256:...` of the component.
    pub digest: String,
    /// What the plugin says of itself.
    pub description: Description,
    /// Optional interfaces that it exports.
    pub features: Features,
    /// Sources that have joined.
    pub sources: usize,
    /// Batches handed over.
    pub batches: u64,
    /// Their events.
    pub events: u64,
    /// Their blocks.
    pub blocks: u64,
    /// Events emitted for the plugins after it.
    pub emitted: u64,
    /// Batches set aside, since each killed two instances in a row.
    pub set_aside: u64,
    /// Batches not handed over, since the plugin failed on them or lacked columns.
    pub dropped_batches: u64,
    /// Events it refused.
    pub refusals: u64,
    /// The same by the plugin's code.
    pub refusal_codes: BTreeMap<String, u64>,
    /// The last few refusals.
    pub recent_refusals: VecDeque<RecentRefusal>,
    /// Lookups answered.
    pub lookups: u64,
    /// Lookups that expired, or that the plugin could not answer.
    pub lookup_errors: u64,
    /// Lookups that the plugin could not answer.
    pub lookup_failures: u64,
    /// Requests answered.
    pub requests: u64,
    /// Times it was started again after a failure.
    pub restarts: u64,
    /// The last failure.
    pub last_error: Option<LastError>,
    /// Events a second, over the last second or so.
    pub events_per_s: f64,
    /// Mean time of an event in `on-batch`, in nanoseconds.
    pub ns_per_event: f64,
    /// 99 of 100 recent `on-batch` calls stay within so many microseconds.
    pub call_p99_us: u64,
    /// The longest call allowed, in microseconds.
    pub deadline_us: u64,
    /// Bytes of linear memory.
    pub memory_bytes: u64,
    /// The most allowed.
    pub memory_limit: u64,
    /// Calls of a shadow, compared with those of the running build.
    pub shadow: Shadow,
    /// Items that wait for it.
    pub queue_items: usize,
    /// Their bytes.
    pub queue_bytes: usize,
    /// Lookups that wait for it.
    pub queue_lookups: usize,
}

/// What a shadow published, beside what the running build did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shadow {
    /// Calls that published the same.
    pub same: u64,
    /// Calls that published something else.
    pub different: u64,
    /// Calls of the running build that were not known any more.
    pub unknown: u64,
}

/// A failure.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// A short code from a bounded set.
    pub code: &'static str,
    /// Which call.
    pub call: &'static str,
    /// What happened.
    pub message: String,
    /// When, µs since 1970.
    pub at_us: i64,
}

/// An event that a plugin could not use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecentRefusal {
    /// Number of the source.
    pub source: u32,
    /// Epoch of the batch.
    pub epoch: u32,
    /// Sequence of the batch.
    pub sequence: u64,
    /// Index of the event in the batch.
    pub event: u32,
    /// The plugin's code.
    pub code: u32,
}

// === impl LastError ===

impl LastError {
    pub(crate) fn new(code: &'static str, call: &'static str, message: String) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            code,
            call,
            message,
            at_us: now.as_micros() as i64,
        }
    }

    pub(crate) fn of(error: &CallError, call: &'static str) -> Self {
        Self::new(error.code(), call, error.to_string())
    }
}

// === impl Status ===

impl Status {
    pub(crate) fn set_waiting(&mut self, waiting: Waiting) {
        self.queue_items = waiting.items;
        self.queue_bytes = waiting.bytes;
    }
}
