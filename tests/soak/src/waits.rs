//! How long clients waited, and when.
//!
//! The longest wait of each 10 ms is kept, for the pause of a swap, and all waits of a
//! phase in steps of 10 µs, for percentiles.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Length of a slot, in ns.
const SLOT: u64 = 10_000_000;
/// Steps of a phase's percentiles, in µs, and how many of them there are: 2 s.
const STEP: u64 = 10;
const STEPS: usize = 200_000;

/// What goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The index fills, or is as busy as it can be.
    Busy,
    /// Half of the load, no swaps.
    Calm,
    /// The same load, swaps.
    Swaps,
}

/// All waits of one kind of client.
pub struct Waits {
    longest: Longest,
    phases: [Vec<u32>; 3],
}

/// The longest wait in each slot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Longest {
    /// Number of the first slot.
    first: u64,
    /// In µs.
    slots: Vec<u32>,
}

/// ns of a clock that all processes of the machine share.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative for this clock.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

// === impl Phase ===

impl Phase {
    /// By number; what is not known is the first.
    pub fn of(number: u64) -> Self {
        match number {
            1 => Self::Calm,
            2 => Self::Swaps,
            _ => Self::Busy,
        }
    }
}

// === impl Waits ===

impl Default for Waits {
    /// None so far.
    fn default() -> Self {
        Self {
            longest: Longest {
                first: now() / SLOT,
                slots: Vec::new(),
            },
            phases: std::array::from_fn(|_| vec![0; STEPS]),
        }
    }
}

impl Waits {
    /// Somebody waited from `begun` to `ended`.
    pub fn add(&mut self, phase: Phase, begun: u64, ended: u64) {
        let us = ended.saturating_sub(begun) / 1_000;
        let step = usize::try_from(us / STEP).unwrap_or(STEPS).min(STEPS - 1);
        self.phases[phase as usize][step] += 1;
        self.longest.note(begun, us);
        self.longest.note(ended, us);
    }

    /// The wait in ms that `share` of those in a phase do not exceed.
    pub fn percentile(&self, phase: Phase, share: f64) -> f64 {
        let steps = &self.phases[phase as usize];
        let all: u64 = steps.iter().map(|n| u64::from(*n)).sum();
        let mut left = (all as f64 * share).ceil() as u64;
        for (at, count) in steps.iter().enumerate() {
            left = left.saturating_sub(u64::from(*count));
            if left == 0 {
                return if all == 0 {
                    0.0
                } else {
                    (at + 1) as f64 * STEP as f64 / 1_000.0
                };
            }
        }
        0.0
    }

    /// How many there were.
    pub fn count(&self, phase: Phase) -> u64 {
        self.phases[phase as usize]
            .iter()
            .map(|n| u64::from(*n))
            .sum()
    }

    pub fn into_longest(self) -> Longest {
        self.longest
    }
}

// === impl Longest ===

impl Longest {
    fn note(&mut self, at: u64, us: u64) {
        let slot = (at / SLOT).saturating_sub(self.first) as usize;
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, 0);
        }
        let us = u32::try_from(us).unwrap_or(u32::MAX);
        self.slots[slot] = self.slots[slot].max(us);
    }

    /// The longest wait that began or ended between two times, in ms.
    pub fn between(&self, from: u64, to: u64) -> f64 {
        let slot =
            |at: u64| ((at / SLOT).saturating_sub(self.first) as usize).min(self.slots.len());
        let (from, to) = (slot(from), slot(to));
        let most = self.slots[from..to.max(from)].iter().max();
        f64::from(most.copied().unwrap_or(0)) / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_where_it_begins_and_ends() {
        let mut waits = Waits::default();
        let start = now();
        let ms = |n: u64| start + n * 1_000_000;
        waits.add(Phase::Calm, ms(100), ms(101));
        waits.add(Phase::Swaps, ms(200), ms(270));
        assert_eq!(waits.percentile(Phase::Calm, 0.99), 1.01);
        assert_eq!(waits.percentile(Phase::Busy, 0.99), 0.0);
        assert_eq!(
            (waits.count(Phase::Swaps), waits.count(Phase::Busy)),
            (1, 0)
        );
        let longest = waits.into_longest();
        assert_eq!(longest.between(ms(50), ms(150)), 1.0);
        assert_eq!(longest.between(ms(150), ms(230)), 70.0);
        assert_eq!(longest.between(ms(250), ms(900)), 70.0);
        assert_eq!(longest.between(ms(300), ms(200)), 0.0);
    }
}
