//! How often prefixes are used: the most frequent of them, in `k` counters.
//!
//! The Space-Saving algorithm (Metwally, Agrawal, El Abbadi 2005): a prefix without a
//! counter takes over the smallest one, and keeps what that had as its `error`.
//! Guarantees, after `n` hits without [`Sketch::halve`]:
//!
//! - what is counted lies between `hits - error` and `hits`, and `error` is at most
//!   `n / k`;
//! - every prefix with more than `n / k` hits has a counter.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Hits of the prefixes that have most of them.
#[derive(Debug)]
pub struct Sketch {
    k: usize,
    counters: BTreeMap<u64, Counter>,
    /// Hits and prefix of each counter: the smallest first.
    order: BTreeSet<(u64, u64)>,
}

/// A prefix: what it is and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// Hash over all of its blocks.
    pub id: u64,
    /// Length in blocks.
    pub blocks: u32,
    /// Length in tokens.
    pub tokens: u32,
}

/// What is known of one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Whose.
    pub prefix: Prefix,
    /// Times it was used again, `error` too many at most.
    pub hits: u64,
    /// What it took over.
    pub error: u64,
}

// === impl Sketch ===

impl Sketch {
    /// Nothing counted, and `k` counters.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self {
            k,
            counters: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Counts one use of a prefix.
    pub fn hit(&mut self, prefix: Prefix) {
        let error = match self.counters.get(&prefix.id) {
            Some(counter) => {
                let counter = Counter {
                    hits: counter.hits.saturating_add(1),
                    ..*counter
                };
                return self.put(counter);
            }
            None if self.counters.len() < self.k => 0,
            None => self.take_smallest(),
        };
        self.put(Counter {
            prefix,
            hits: error.saturating_add(1),
            error,
        });
    }

    /// Takes a counter over from elsewhere; the smaller ones go when there are too many.
    pub fn restore(&mut self, counter: Counter) {
        self.put(counter);
        while self.counters.len() > self.k {
            self.take_smallest();
        }
    }

    /// Halves all counts; what comes to nothing is forgotten.
    pub fn halve(&mut self) {
        self.order.clear();
        self.counters.retain(|_, counter| {
            counter.hits /= 2;
            counter.error /= 2;
            counter.hits > 0
        });
        let order = self.counters.values().map(|c| (c.hits, c.prefix.id));
        self.order.extend(order);
    }

    /// All counters, by prefix.
    pub fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.counters.values()
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// True when nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    fn put(&mut self, counter: Counter) {
        let id = counter.prefix.id;
        if let Some(old) = self.counters.insert(id, counter) {
            self.order.remove(&(old.hits, id));
        }
        self.order.insert((counter.hits, id));
    }

    /// Takes the smallest counter away, and answers its hits.
    fn take_smallest(&mut self) -> u64 {
        let Some((hits, id)) = self.order.pop_first() else {
            return 0;
        };
        self.counters.remove(&id);
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(id: u64) -> Prefix {
        Prefix {
            id,
            blocks: 1,
            tokens: 16,
        }
    }

    proptest! {
        #[test]
        fn counts_are_within_their_error_and_the_frequent_are_there(
            // Low numbers are frequent.
            hits in prop::collection::vec((0u64..60, 0u64..60).prop_map(|(a, b)| a * b / 40), 0..800),
            k in 1usize..20,
        ) {
            let mut sketch = Sketch::new(k);
            let mut exact = BTreeMap::<u64, u64>::new();
            for id in &hits {
                sketch.hit(prefix(*id));
                *exact.entry(*id).or_default() += 1;
            }
            let share = (hits.len() / k) as u64;
            prop_assert!(sketch.len() <= k);
            for counter in sketch.counters() {
                let right = exact[&counter.prefix.id];
                prop_assert!((counter.hits - counter.error..=counter.hits).contains(&right));
                prop_assert!(counter.error <= share);
            }
            for (id, times) in exact {
                prop_assert!(times <= share || sketch.counters().any(|c| c.prefix.id == id));
            }
        }
    }

    #[test]
    fn counts_halve_and_the_small_ones_go() {
        let mut sketch = Sketch::new(4);
        for id in [1, 1, 1, 1, 2, 2, 3] {
            sketch.hit(prefix(id));
        }
        sketch.halve();
        let left: Vec<_> = sketch.counters().map(|c| (c.prefix.id, c.hits)).collect();
        assert_eq!(left, [(1, 2), (2, 1)]);
        sketch.hit(prefix(2));
        sketch.hit(prefix(2));
        for id in 10..14 {
            sketch.hit(prefix(id));
        }
        let has = |id| sketch.counters().any(|c| c.prefix.id == id);
        assert!(
            has(2) && !has(10),
            "the order of counters is that of halved counts"
        );
    }

    #[test]
    fn what_is_taken_over_keeps_the_largest() {
        let mut sketch = Sketch::new(2);
        for (id, hits) in [(1, 5), (2, 9), (3, 1), (4, 7), (2, 10)] {
            sketch.restore(Counter {
                prefix: prefix(id),
                hits,
                error: 0,
            });
        }
        let left: Vec<_> = sketch.counters().map(|c| (c.prefix.id, c.hits)).collect();
        assert_eq!(left, [(2, 10), (4, 7)]);
    }
}
