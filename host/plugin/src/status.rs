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

// === impl State ===

impl State {
    /// The one of both that an operator must know of.
    fn worse(self, other: Self) -> Self {
        let weight = |state: Self| match state {
            Self::Running => 0,
            Self::Backoff => 1,
            Self::Held => 2,
            Self::Failed => 3,
            Self::Stopped => 4,
        };
        match weight(self) >= weight(other) {
            true => self,
            false => other,
        }
    }
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
    /// Instances that share a plugin's sources as one: sums, and the worst of what
    /// cannot be summed. None of none.
    #[must_use]
    pub fn of_all(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        all.into_iter().reduce(Self::and)
    }

    fn and(mut self, other: Self) -> Self {
        let events = self.events + other.events;
        let busy = self.ns_per_event * self.events as f64;
        let busy = busy + other.ns_per_event * other.events as f64;
        self.ns_per_event = busy / events.max(1) as f64;
        self.events = events;
        self.state = self.state.worse(other.state);
        self.sources += other.sources;
        self.batches += other.batches;
        self.emitted += other.emitted;
        self.blocks += other.blocks;
        self.set_aside += other.set_aside;
        self.dropped_batches += other.dropped_batches;
        self.refusals += other.refusals;
        for (code, count) in other.refusal_codes {
            *self.refusal_codes.entry(code).or_default() += count;
        }
        self.recent_refusals.extend(other.recent_refusals);
        self.lookups += other.lookups;
        self.lookup_errors += other.lookup_errors;
        self.lookup_failures += other.lookup_failures;
        self.requests += other.requests;
        self.restarts += other.restarts;
        let at = |error: &Option<LastError>| error.as_ref().map(|e| e.at_us);
        if at(&other.last_error) > at(&self.last_error) {
            self.last_error = other.last_error;
        }
        self.events_per_s += other.events_per_s;
        self.call_p99_us = self.call_p99_us.max(other.call_p99_us);
        self.memory_bytes += other.memory_bytes;
        self.memory_limit += other.memory_limit;
        self.shadow.same += other.shadow.same;
        self.shadow.different += other.shadow.different;
        self.shadow.unknown += other.shadow.unknown;
        self.queue_items += other.queue_items;
        self.queue_bytes += other.queue_bytes;
        self.queue_lookups += other.queue_lookups;
        self
    }

    pub(crate) fn set_waiting(&mut self, waiting: Waiting) {
        self.queue_items = waiting.items;
        self.queue_bytes = waiting.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_shown_as_one() {
        let shard = |state, events, ns, p99, error: Option<i64>| Status {
            name: "index".into(),
            state,
            events,
            ns_per_event: ns,
            call_p99_us: p99,
            memory_limit: 512,
            deadline_us: 100,
            refusal_codes: BTreeMap::from([("1".to_owned(), events)]),
            last_error: error.map(|at_us| LastError {
                at_us,
                ..LastError::new("trap", "on-batch", at_us.to_string())
            }),
            ..Status::default()
        };
        let all = Status::of_all([
            shard(State::Running, 30, 10.0, 5, None),
            shard(State::Held, 10, 50.0, 9, Some(7)),
            shard(State::Backoff, 0, 0.0, 2, Some(3)),
        ])
        .unwrap();
        assert_eq!((all.state, all.events), (State::Held, 40));
        assert_eq!((all.ns_per_event, all.call_p99_us), (20.0, 9));
        assert_eq!((all.memory_limit, all.deadline_us), (1_536, 100));
        assert_eq!(all.refusal_codes["1"], 40);
        assert_eq!(all.last_error.unwrap().message, "7");
        assert!(Status::of_all([]).is_none());
    }
}
