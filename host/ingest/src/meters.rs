//! A source's counters, twice: the totals that status shows, and the metrics.

use metrics::Counter;
use penstock_event::SourceState;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

macro_rules! totals {
    ($($total:ident $field:ident $metric:literal),* $(,)?) => {
        /// What is counted.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Total { $($total),* }

        struct Counters { $($field: Counter),* }

        impl Counters {
            fn new(source: &str) -> Self {
                Self { $($field: metrics::counter!($metric, "source" => source.to_owned())),* }
            }
        }

        impl Meters {
            /// Counts `n` more.
            pub(crate) fn add(&self, total: Total, n: u64) {
                match total {
                    $(Total::$total => {
                        self.state.totals.$field.fetch_add(n, Relaxed);
                        self.counters.$field.increment(n);
                    })*
                }
            }
        }
    };
}

totals! {
    Messages messages "penstock_source_messages_total",
    Bytes bytes "penstock_source_bytes_total",
    Batches batches "penstock_source_batches_total",
    Events events "penstock_source_events_total",
    Blocks blocks "penstock_source_blocks_total",
    SkippedEvents skipped_events "penstock_source_skipped_events_total",
    Malformed malformed "penstock_source_malformed_total",
    Duplicates duplicates "penstock_source_duplicates_total",
    StaleFrames stale_frames "penstock_source_stale_frames_total",
    Restarts restarts "penstock_source_restarts_total",
    Gaps gaps "penstock_source_gaps_opened_total",
    GapsFilled gaps_filled "penstock_source_gaps_filled_total",
    Missing missing "penstock_source_missing_total",
    Replayed replayed "penstock_source_replayed_total",
    Replays replays "penstock_source_replays_total",
    Disconnects disconnects "penstock_source_disconnects_total",
    TwoPublishers two_publishers "penstock_source_two_publishers_total",
    Undecodable undecodable "penstock_source_undecodable_total",
}

/// Handles of one source's counters.
pub(crate) struct Meters {
    state: Arc<SourceState>,
    counters: Counters,
    /// Errors by stage and code; both come from bounded sets.
    errors: HashMap<(&'static str, &'static str), Counter>,
}

/// Lets one log line pass in a while, and counts those held back.
#[derive(Debug, Default)]
pub(crate) struct LogGate {
    next: u64,
    held: u64,
}

/// Microseconds between two lines of one gate.
const LOG_EVERY: u64 = 5_000_000;

// === impl Meters ===

impl Meters {
    pub(crate) fn new(state: Arc<SourceState>) -> Self {
        Self {
            counters: Counters::new(&state.info.name),
            state,
            errors: HashMap::new(),
        }
    }

    /// Counts an error of a stage, by its code.
    pub(crate) fn error(&mut self, stage: &'static str, code: &'static str) {
        let source = &self.state.info.name;
        self.errors
            .entry((stage, code))
            .or_insert_with(|| {
                metrics::counter!("penstock_source_errors_total",
                    "source" => source.to_string(), "stage" => stage, "code" => code)
            })
            .increment(1);
    }
}

// === impl LogGate ===

impl LogGate {
    /// Lines held back since the last one, when this one may pass.
    pub(crate) fn pass(&mut self, now: u64) -> Option<u64> {
        if now < self.next {
            self.held += 1;
            return None;
        }
        self.next = now + LOG_EVERY;
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_one_line_in_a_while() {
        let mut gate = LogGate::default();
        assert_eq!(gate.pass(10), Some(0));
        assert_eq!(gate.pass(11), None);
        assert_eq!(gate.pass(12), None);
        assert_eq!(gate.pass(10 + LOG_EVERY), Some(2));
    }
}
