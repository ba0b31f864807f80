//! The host's functions where there is no host: in unit tests and native
//! benchmarks. Counts and messages are kept by thread, a bounded number.

use crate::Medium;
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

/// An event that a plugin emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emitted {
    /// One of the batch, by its index, as it came.
    Kept(u32),
    /// Blocks stored, as the plugin says.
    Stored {
        /// The block before the first.
        parent: Option<u64>,
        /// Where the blocks live.
        medium: Medium,
        /// The blocks.
        hashes: Vec<u64>,
        /// Their tokens.
        tokens: Vec<u32>,
    },
    /// Blocks removed, as the plugin says.
    Removed {
        /// From where.
        medium: Medium,
        /// The blocks.
        hashes: Vec<u64>,
    },
    /// Everything was removed, as the plugin says.
    Cleared,
}

#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) gauges: BTreeMap<String, f64>,
    pub(crate) published: VecDeque<Published>,
    pub(crate) skipped: u64,
    pub(crate) refuse: Option<u32>,
    /// Events of the batch being handled, and which of them were kept; none: no batch is.
    pub(crate) batch: Option<Vec<bool>>,
    pub(crate) emitted: VecDeque<Emitted>,
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

pub(crate) mod emit {
    use super::{Emitted, KEPT, MAX_PUBLISHED};
    use crate::Medium;
    use crate::emit::RawEvents;

    /// A batch of so many events is handled from now on; none: no more.
    pub(crate) fn handles(events: Option<usize>) {
        KEPT.with_borrow_mut(|k| k.batch = events.map(|events| vec![false; events]));
    }

    pub(crate) fn keep(events: &[u32]) -> Result<(), u32> {
        KEPT.with_borrow_mut(|k| {
            let mut kept = k.batch.clone().ok_or(1u32)?;
            for event in events {
                match kept.get_mut(*event as usize) {
                    Some(kept) if !*kept => *kept = true,
                    _ => return Err(3),
                }
            }
            k.batch = Some(kept);
            events
                .iter()
                .for_each(|event| k.push(Emitted::Kept(*event)));
            Ok(())
        })
    }

    pub(crate) fn send(events: &RawEvents) -> Result<(), u32> {
        KEPT.with_borrow_mut(|k| {
            k.batch.as_ref().ok_or(1u32)?;
            let made = read(events).ok_or(4u32)?;
            made.into_iter().for_each(|event| k.push(event));
            Ok(())
        })
    }

    impl super::Kept {
        fn push(&mut self, event: Emitted) {
            if self.emitted.len() == MAX_PUBLISHED {
                self.emitted.pop_front();
            }
            self.emitted.push_back(event);
        }
    }

    /// None: the columns do not fit together.
    fn read(raw: &RawEvents) -> Option<Vec<Emitted>> {
        let (rows, rest) = raw.events.as_chunks::<8>();
        let ends = |i: usize| match raw.token_ends.as_slice() {
            [] => Some(0),
            ends => Some(*ends.get(i)? as usize),
        };
        let (mut blocks, mut tokens, mut out) = (0, 0, Vec::new());
        for (i, row) in rows.iter().enumerate() {
            let hashes = raw.hashes.get(blocks..row[7] as usize)?.to_vec();
            let own = raw.tokens.get(tokens..ends(i)?)?.to_vec();
            (blocks, tokens) = (row[7] as usize, ends(i)?);
            let parent = *raw.parents.get(i)?;
            let medium = Medium::from_code((row[0] >> 8) as u8);
            out.push(match row[0] & 0xff {
                0 => Emitted::Stored {
                    parent: (row[0] >> 16 & 1 == 1).then_some(parent),
                    medium,
                    hashes,
                    tokens: own,
                },
                1 if own.is_empty() => Emitted::Removed { medium, hashes },
                2 if own.is_empty() && hashes.is_empty() => Emitted::Cleared,
                _ => return None,
            });
        }
        let all = rest.is_empty() && blocks == raw.hashes.len() && tokens == raw.tokens.len();
        (all && raw.parents.len() == rows.len()).then_some(out)
    }
}
