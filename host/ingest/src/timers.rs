//! Deadlines of many owners in one heap. An owner has at most one entry that
//! counts: it remembers the time, and an entry of another time is skipped when it
//! comes up. So a deadline that moves away with every message costs nothing until
//! the time it first named, and a thousand idle sources cost nothing at all.

use penstock_order::Micros;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub(crate) struct Timers<K> {
    heap: BinaryHeap<Reverse<(Micros, K)>>,
}

/// What an owner remembers of its entry.
#[derive(Debug, Default)]
pub(crate) struct Armed(Option<Micros>);

impl<K: Ord> Default for Timers<K> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
        }
    }
}

impl<K: Ord> Timers<K> {
    /// Makes sure that `key` comes up at `at` or before.
    pub(crate) fn arm(&mut self, armed: &mut Armed, at: Option<Micros>, key: K) {
        let Some(at) = at else { return };
        if armed.0.is_none_or(|then| at < then) {
            armed.0 = Some(at);
            self.heap.push(Reverse((at, key)));
        }
    }

    /// The next time to wake up at.
    pub(crate) fn next(&self) -> Option<Micros> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next entry that is due, and its time.
    pub(crate) fn due(&mut self, now: Micros) -> Option<(Micros, K)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

impl Armed {
    /// True when the entry of time `at` is the one that counts; it is then spent.
    pub(crate) fn spend(&mut self, at: Micros) -> bool {
        let mine = self.0 == Some(at);
        if mine {
            self.0 = None;
        }
        mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_earliest_counts() {
        let mut timers = Timers::default();
        let mut armed = Armed::default();
        timers.arm(&mut armed, Some(50), 'a');
        timers.arm(&mut armed, Some(70), 'a');
        timers.arm(&mut armed, Some(30), 'a');
        timers.arm(&mut armed, None, 'a');
        assert_eq!(timers.next(), Some(30));
        assert_eq!(timers.due(29), None);
        let (at, _) = timers.due(60).unwrap();
        assert!(armed.spend(at));
        let (at, _) = timers.due(60).unwrap();
        assert_eq!(at, 50);
        assert!(!armed.spend(at), "the entry of 50 was replaced");
        assert_eq!(timers.due(u64::MAX), None);
    }
}
