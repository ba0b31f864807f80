//! What a runner counts: in a status that others read, and in `/metrics`.
//!
//! The runner's thread alone writes; the status is published from time to time,
//! so that the path of a batch takes no lock. Counters of a plugin's instances add up;
//! gauges would hide one another, so that who knows all instances sets them.

use crate::latency::Latency;
use crate::status::{LastError, RecentRefusal, Status};
use crate::{Refusal, State};
use metrics::Counter;
use penstock_event::Batch;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The status as last published.
pub(crate) type Board = Arc<Mutex<Status>>;

pub(crate) struct Meter {
    /// The status as it is now.
    pub(crate) now: Status,
    /// False: another instance of the plugin counts what happens.
    pub(crate) leads: bool,
    board: Board,
    plugin: String,
    latency: Latency,
    busy_ns: u64,
    /// When the rate was taken, and the events then.
    rated: (Instant, u64),
    batches: Counter,
    events: Counter,
    blocks: Counter,
    lookups: Counter,
    emitted: Counter,
}

/// Events a second are counted over this long, or longer when nothing happens.
const RATE: Duration = Duration::from_millis(900);

/// Refusals kept for status.
const RECENT: usize = 16;

/// Codes told apart; the rest is "other", so that a plugin cannot make series.
const MAX_CODE: u32 = 32;

// === impl Meter ===

impl Meter {
    pub(crate) fn new(plugin: &str, board: Board, status: Status) -> Self {
        let name = || plugin.to_owned();
        let meter = Self {
            now: status,
            leads: true,
            board,
            latency: Latency::new(),
            busy_ns: 0,
            rated: (Instant::now(), 0),
            batches: metrics::counter!("penstock_plugin_batches_total", "plugin" => name()),
            events: metrics::counter!("penstock_plugin_events_total", "plugin" => name()),
            blocks: metrics::counter!("penstock_plugin_blocks_total", "plugin" => name()),
            lookups: metrics::counter!("penstock_plugin_lookups_total", "plugin" => name()),
            emitted: metrics::counter!(
                "penstock_plugin_emitted_events_total", "plugin" => name()
            ),
            plugin: name(),
        };
        meter.publish();
        meter
    }

    /// Makes the status visible to others.
    pub(crate) fn publish(&self) {
        *self.board.lock().unwrap_or_else(|e| e.into_inner()) = self.now.clone();
    }

    /// Brings derived numbers up to date and publishes.
    pub(crate) fn refresh(&mut self) {
        self.now.call_p99_us = self.latency.p99().as_micros() as u64;
        let (then, events) = self.rated;
        let passed = then.elapsed();
        if passed >= RATE {
            let new = self.now.events.saturating_sub(events);
            self.now.events_per_s = new as f64 / passed.as_secs_f64();
            self.rated = (Instant::now(), self.now.events);
        }
        self.now.ns_per_event = self.busy_ns as f64 / self.now.events.max(1) as f64;
        self.publish();
    }

    pub(crate) fn batch(&mut self, batch: &Batch, took: Duration) {
        let (events, blocks) = (
            batch.columns.len() as u64,
            batch.columns.hashes.len() as u64,
        );
        self.now.batches += 1;
        self.now.events += events;
        self.now.blocks += blocks;
        if self.leads {
            self.batches.increment(1);
            self.events.increment(events);
            self.blocks.increment(blocks);
        }
        self.busy_ns += took.as_nanos() as u64;
        self.latency.add(took);
    }

    /// Events for the plugins after it.
    pub(crate) fn emitted(&mut self, events: u64) {
        if events > 0 {
            self.now.emitted += events;
            self.emitted.increment(events);
        }
    }

    pub(crate) fn refused(&mut self, batch: &Batch, refusals: &[Refusal]) {
        for refusal in refusals {
            let code = match refusal.code {
                code if code <= MAX_CODE => code.to_string(),
                _ => "other".to_owned(),
            };
            if self.leads {
                metrics::counter!(
                    "penstock_plugin_refused_events_total",
                    "plugin" => self.plugin.clone(), "code" => code.clone()
                )
                .increment(1);
            }
            self.now.refusals += 1;
            *self.now.refusal_codes.entry(code).or_default() += 1;
            if self.now.recent_refusals.len() >= RECENT {
                self.now.recent_refusals.pop_front();
            }
            self.now.recent_refusals.push_back(RecentRefusal {
                source: batch.source.0,
                epoch: batch.epoch.0,
                sequence: batch.sequence,
                event: refusal.event,
                code: refusal.code,
            });
        }
    }

    /// A batch that the plugin does not get.
    pub(crate) fn dropped(&mut self, reason: &'static str) {
        self.now.dropped_batches += 1;
        self.count("penstock_plugin_dropped_batches_total", reason);
    }

    pub(crate) fn lookup(&mut self, error: Option<&'static str>) {
        match error {
            None => {
                self.now.lookups += 1;
                self.lookups.increment(1);
            }
            Some(reason) => {
                self.now.lookup_errors += 1;
                self.now.lookup_failures += u64::from(reason == "failed");
                self.count("penstock_plugin_lookup_errors_total", reason);
            }
        }
    }

    pub(crate) fn failed(&mut self, error: LastError, state: State) {
        self.count("penstock_plugin_failures_total", error.code);
        self.now.last_error = Some(error);
        self.now.state = state;
        self.now.memory_bytes = 0;
        self.refresh();
    }

    fn count(&self, name: &'static str, reason: &'static str) {
        metrics::counter!(name, "plugin" => self.plugin.clone(), "reason" => reason).increment(1);
    }
}
