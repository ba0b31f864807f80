//! What a runner counts: in a status that others read, and in `/metrics`.
//!
//! The runner's thread alone writes; the status is published from time to time,
//! so that the path of a batch takes no lock.

use crate::latency::Latency;
use crate::status::{LastError, RecentRefusal, Status};
use crate::{Refusal, State};
use metrics::{Counter, Gauge};
use penstock_event::Batch;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The status as last published.
pub(crate) type Board = Arc<Mutex<Status>>;

pub(crate) struct Meter {
    /// The status as it is now.
    pub(crate) now: Status,
    board: Board,
    plugin: String,
    latency: Latency,
    busy_ns: u64,
    batches: Counter,
    events: Counter,
    blocks: Counter,
    lookups: Counter,
    memory: Gauge,
    waiting: Gauge,
    up: Gauge,
}

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
            board,
            latency: Latency::new(),
            busy_ns: 0,
            batches: metrics::counter!("penstock_plugin_batches_total", "plugin" => name()),
            events: metrics::counter!("penstock_plugin_events_total", "plugin" => name()),
            blocks: metrics::counter!("penstock_plugin_blocks_total", "plugin" => name()),
            lookups: metrics::counter!("penstock_plugin_lookups_total", "plugin" => name()),
            memory: metrics::gauge!("penstock_plugin_memory_bytes", "plugin" => name()),
            waiting: metrics::gauge!("penstock_plugin_queue_bytes", "plugin" => name()),
            up: metrics::gauge!("penstock_plugin_up", "plugin" => name()),
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
        self.now.ns_per_event = self.busy_ns as f64 / self.now.events.max(1) as f64;
        self.memory.set(self.now.memory_bytes as f64);
        self.waiting.set(self.now.queue_bytes as f64);
        self.up.set(if self.now.state == State::Running {
            1.0
        } else {
            0.0
        });
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
        self.batches.increment(1);
        self.events.increment(events);
        self.blocks.increment(blocks);
        self.busy_ns += took.as_nanos() as u64;
        self.latency.add(took);
    }

    pub(crate) fn refused(&mut self, batch: &Batch, refusals: &[Refusal]) {
        for refusal in refusals {
            let code = match refusal.code {
                code if code <= MAX_CODE => code.to_string(),
                _ => "other".to_owned(),
            };
            metrics::counter!(
                "penstock_plugin_refused_events_total",
                "plugin" => self.plugin.clone(), "code" => code.clone()
            )
            .increment(1);
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
