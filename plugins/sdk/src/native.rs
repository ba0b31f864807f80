//! The host's functions where there is no host: in unit tests and native
//! benchmarks. Counts and messages are kept by thread, a bounded number.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

/// A message that a plugin published: `payload` is none for `forward`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The sink named.
    pub sink: String,
    /// The topic.
    pub topic: Vec<u8>,
    /// The payload; none when the batch's own was forwarded.
    pub payload: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) gauges: BTreeMap<String, f64>,
    pub(crate) published: VecDeque<Published>,
    pub(crate) skipped: u64,
    pub(crate) refuse: Option<u32>,
}

thread_local! {
    pub(crate) static KEPT: RefCell<Kept> = RefCell::default();
}

/// Messages kept; a benchmark that never looks must not grow for ever.
const MAX_PUBLISHED: usize = 10_000;

pub(crate) mod log {
    pub(crate) fn write(level: u8, message: &str) {
        let name = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
        let name = name.get(level as usize).copied().unwrap_or("TRACE");
        eprintln!("{name} {message}");
    }
}

pub(crate) mod metrics {
    use super::KEPT;

    pub(crate) fn add(name: &str, value: u64) {
        KEPT.with_borrow_mut(|k| match k.counters.get_mut(name) {
            Some(counter) => *counter = counter.saturating_add(value),
            None => drop(k.counters.insert(name.to_owned(), value)),
        });
    }

    pub(crate) fn set(name: &str, value: f64) {
        KEPT.with_borrow_mut(|k| match k.gauges.get_mut(name) {
            Some(gauge) => *gauge = value,
            None => drop(k.gauges.insert(name.to_owned(), value)),
        });
    }
}

pub(crate) mod clock {
    use std::sync::LazyLock;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(crate) fn now() -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |d| d.as_micros() as i64)
    }

    pub(crate) fn monotonic() -> u64 {
        START.elapsed().as_nanos() as u64
    }
}

pub(crate) mod publish {
    use super::{KEPT, MAX_PUBLISHED, Published};

    pub(crate) fn send(sink: &str, topic: &[u8], payload: &[u8]) -> Result<(), u32> {
        keep(sink, topic, Some(payload.to_vec()))
    }

    pub(crate) fn forward(sink: &str, topic: &[u8]) -> Result<(), u32> {
        keep(sink, topic, None)
    }

    pub(crate) fn skip(_sink: &str) -> Result<(), u32> {
        KEPT.with_borrow_mut(|k| match k.refuse {
            Some(code) => Err(code),
            None => {
                k.skipped += 1;
                Ok(())
            }
        })
    }

    fn keep(sink: &str, topic: &[u8], payload: Option<Vec<u8>>) -> Result<(), u32> {
        KEPT.with_borrow_mut(|k| {
            if let Some(code) = k.refuse {
                return Err(code);
            }
            if k.published.len() == MAX_PUBLISHED {
                k.published.pop_front();
            }
            k.published.push_back(Published {
                sink: sink.to_owned(),
                topic: topic.to_vec(),
                payload,
            });
            Ok(())
        })
    }
}
