//! Who must hold what: the judge of every index.
//!
//! It keeps the publisher's own log, decodes it through a tree of values, and
//! replays it to the position that an answer carries. Nothing of it is shared
//! with the code it judges.

mod events;
mod state;

pub use events::{Event, Stored, events};
pub use state::State;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// Publishers' logs by source name: one life (from start to end of the process)
/// after the other, as epochs count them.
#[derive(Default)]
pub struct Oracle {
    sources: HashMap<String, Source>,
}

#[derive(Default)]
struct Source {
    lives: Vec<BTreeMap<u64, Vec<u8>>>,
    cursor: Option<Cursor>,
}

struct Cursor {
    life: usize,
    applied: Option<u64>,
    state: State,
}

// === impl Oracle ===

impl Oracle {
    /// Notes what a source published in its `life`-th life, from 0.
    pub fn publish(&mut self, source: &str, life: usize, sequence: u64, payload: Vec<u8>) {
        let source = self.sources.entry(source.into()).or_default();
        while source.lives.len() <= life {
            source.lives.push(BTreeMap::new());
        }
        source.lives[life].insert(sequence, payload);
    }

    /// What was published, in order: (life, sequence, payload).
    pub fn published(&self, source: &str) -> impl Iterator<Item = (usize, u64, &[u8])> {
        let lives = self
            .sources
            .get(source)
            .into_iter()
            .flat_map(|s| s.lives.iter());
        lives.enumerate().flat_map(|(life, batches)| {
            batches
                .iter()
                .map(move |(seq, payload)| (life, *seq, payload.as_slice()))
        })
    }

    /// The state of a source right after `sequence` of `life` (none: before the
    /// first). Asking in ascending order is cheap, going back starts over.
    ///
    /// # Panics
    /// The source is unknown, or the log cannot be decoded.
    pub fn at(&mut self, source: &str, life: usize, sequence: Option<u64>) -> &State {
        let known = self.sources.get_mut(source);
        let source = known.unwrap_or_else(|| panic!("no log of a source named {source:?}"));
        let reusable = source
            .cursor
            .take()
            .filter(|c| c.life == life && c.applied <= sequence);
        let mut cursor = reusable.unwrap_or_else(|| Cursor {
            life,
            applied: None,
            state: State::default(),
        });
        if let Some(sequence) = sequence {
            // Excluded: the same position may be asked for twice.
            let from = cursor.applied.map_or(Bound::Unbounded, Bound::Excluded);
            let news = (from, Bound::Excluded(sequence + 1));
            let batches = source.lives.get(life).into_iter();
            for (_, payload) in batches.flat_map(|life| life.range(news)) {
                cursor.state.apply(payload);
            }
            cursor.applied = Some(sequence);
        }
        &source.cursor.insert(cursor).state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_can_be_asked_for_twice() {
        let mut oracle = Oracle::default();
        // An empty batch: [timestamp, []].
        oracle.publish("s", 0, 0, vec![0x92, 0x00, 0x90]);
        for _ in 0..2 {
            oracle.at("s", 0, Some(0));
        }
        oracle.at("s", 0, None);
    }
}
