//! Health and readiness, kept apart.
//!
//! *Health* asks whether loops turn: each loop owns a [`Beat`] and touches it;
//! one that has been still for longer than it may is named. *Readiness* is a
//! latch of three gates that open once, at start, and never shut again: config
//! valid, plugins warm, first discovery done. Whether an engine is up is part of
//! neither: a daemon without engines is healthy and ready.

use crate::Health;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// May traffic come?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Yes.
    pub ready: bool,
    /// What is still awaited.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// Something to wait for at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Gate {
    /// The config was read and is valid.
    Config = 1,
    /// The plugins found at start run, or were refused.
    Plugins = 2,
    /// Every discovery has spoken once.
    Discovery = 4,
}

/// The gates of readiness. Each opens once.
#[derive(Debug, Default)]
pub struct ReadyLatch(AtomicU8);

/// The loops of the process.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<Arc<Pulse>>>>);

/// One loop's sign of life. Dropping it means that the loop ended on purpose.
#[derive(Debug)]
pub struct Beat(Arc<Pulse>);

#[derive(Debug)]
struct Pulse {
    name: String,
    limit: Duration,
    started: Instant,
    /// ms after `started` of the last turn.
    last: AtomicU64,
    ended: AtomicBool,
}

// === impl ReadyLatch ===

impl ReadyLatch {
    /// Opens a gate.
    pub fn open(&self, gate: Gate) {
        self.0.fetch_or(gate as u8, Ordering::Release);
    }

    /// Which gates are still shut.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let open = self.0.load(Ordering::Acquire);
        let reasons: Vec<String> = [
            (Gate::Config, "config: not read yet"),
            (Gate::Plugins, "plugins: not warm yet"),
            (Gate::Discovery, "discovery: no first result yet"),
        ]
        .into_iter()
        .filter(|(gate, _)| open & *gate as u8 == 0)
        .map(|(_, reason)| reason.to_owned())
        .collect();
        Readiness {
            ready: reasons.is_empty(),
            reasons,
        }
    }
}

// === impl Heartbeats ===

impl Heartbeats {
    /// Watches a loop that must turn at least once in `limit`.
    pub fn watch(&self, name: impl Into<String>, limit: Duration) -> Beat {
        let pulse = Arc::new(Pulse {
            name: name.into(),
            limit,
            started: Instant::now(),
            last: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|p| !p.ended.load(Ordering::Relaxed));
        all.push(pulse.clone());
        Beat(pulse)
    }

    /// The loops that are stuck.
    #[must_use]
    pub fn health(&self) -> Health {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stuck: Vec<String> = all
            .iter()
            .filter(|p| !p.ended.load(Ordering::Relaxed) && p.still() > p.limit)
            .map(|p| format!("{}: no turn for {:.1} s", p.name, p.still().as_secs_f64()))
            .collect();
        Health {
            ok: stuck.is_empty(),
            stuck,
        }
    }
}

impl Beat {
    /// The loop has turned.
    pub fn touch(&self) {
        let ms = self.0.started.elapsed().as_millis() as u64;
        self.0.last.store(ms, Ordering::Relaxed);
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        // A panic is no end on purpose: the loop then shows as stuck.
        if !std::thread::panicking() {
            self.0.ended.store(true, Ordering::Relaxed);
        }
    }
}

impl Pulse {
    fn still(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_open_once_and_in_any_order() {
        let latch = ReadyLatch::default();
        assert_eq!(latch.readiness().reasons.len(), 3);
        latch.open(Gate::Discovery);
        latch.open(Gate::Discovery);
        latch.open(Gate::Config);
        assert_eq!(latch.readiness().reasons, ["plugins: not warm yet"]);
        latch.open(Gate::Plugins);
        assert!(latch.readiness().ready);
    }

    #[test]
    fn a_still_loop_is_named_and_an_ended_one_is_not() {
        let beats = Heartbeats::default();
        let still = beats.watch("still", Duration::ZERO);
        let turning = beats.watch("turning", Duration::from_secs(3600));
        turning.touch();
        let until = Instant::now() + Duration::from_secs(5);
        while beats.health().ok && Instant::now() < until {
            std::thread::yield_now();
        }
        let health = beats.health();
        assert!(!health.ok && health.stuck.len() == 1);
        assert!(health.stuck[0].starts_with("still: "));
        drop(still);
        assert!(beats.health().ok);
    }

    #[test]
    fn a_loop_that_panicked_stays_in_view() {
        let beats = Heartbeats::default();
        let beat = beats.watch("broken", Duration::ZERO);
        let thread = std::thread::spawn(move || {
            let _beat = beat;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        let until = Instant::now() + Duration::from_secs(5);
        while beats.health().ok && Instant::now() < until {
            std::thread::yield_now();
        }
        assert!(!beats.health().ok);
    }
}
