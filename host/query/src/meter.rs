//! A door's numbers, with the handles kept so that no request looks one up.

use crate::Code;
use metrics::{Counter, Histogram, counter, histogram};
use std::time::Instant;

/// Counts a door's requests by outcome, and their time.
pub(crate) struct Meter {
    ok: Counter,
    failed: Vec<Counter>,
    seconds: Histogram,
}

impl Meter {
    pub(crate) fn new(door: &'static str) -> Self {
        let outcome = |code: &'static str| counter!("penstock_query_requests_total", "door" => door, "code" => code);
        Self {
            ok: outcome("ok"),
            failed: Code::ALL.iter().map(|code| outcome(code.name())).collect(),
            seconds: histogram!("penstock_query_seconds", "door" => door),
        }
    }

    /// One request ended.
    pub(crate) fn ended(&self, since: Instant, error: Option<Code>) {
        match error.and_then(|code| self.failed.get(code as usize)) {
            Some(failed) => failed.increment(1),
            None => self.ok.increment(1),
        }
        self.seconds.record(since.elapsed().as_secs_f64());
    }
}
