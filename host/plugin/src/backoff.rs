//! How long a plugin that failed waits before it starts again.
//!
//! ```text
//! fails -> wait `first` -> starts -> fails -> wait twice as long ... up to `longest`
//!                             | lives for `healthy`: the count starts over
//!          fails `give_up` times without that: it stays down until it is replaced
//! ```

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restarts {
    /// First wait, in milliseconds.
    pub first_ms: u64,
    /// Longest wait, in milliseconds.
    pub longest_ms: u64,
    /// Life after which the count starts over, in milliseconds.
    pub healthy_ms: u64,
    /// Failures in a row after which it stays down; 0: never.
    pub give_up: u32,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Another instance is made after a wait.
    #[default]
    Restart,
    /// It ends for good, and is fed nothing any more.
    Disable,
    /// It stays down and keeps its place: once it is started again it goes on there, as
    /// far as host and engines still hold what it missed.
    Hold,
}

/// The policy's state.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: Restarts,
    in_a_row: u32,
}

// === impl Restarts ===

impl Default for Restarts {
    fn default() -> Self {
        Self {
            first_ms: 1_000,
            longest_ms: 30_000,
            healthy_ms: 10_000,
            give_up: 10,
        }
    }
}

// === impl Backoff ===

impl Backoff {
    pub(crate) fn new(policy: Restarts) -> Self {
        Self {
            policy,
            in_a_row: 0,
        }
    }

    /// It starts over, by hand.
    pub(crate) fn forgive(&mut self) {
        self.in_a_row = 0;
    }

    /// It failed after having lived so long. How long to wait; none: give up.
    /// `jitter` in 0..1 spreads the wait over its last quarter, so that plugins
    /// that die together do not replay together.
    pub(crate) fn failed(&mut self, lived: Duration, jitter: f64) -> Option<Duration> {
        if lived >= Duration::from_millis(self.policy.healthy_ms) {
            self.in_a_row = 0;
        }
        self.in_a_row += 1;
        if self.policy.give_up > 0 && self.in_a_row >= self.policy.give_up {
            return None;
        }
        let doubled = 2u64.saturating_pow(self.in_a_row - 1);
        let wait = self.policy.first_ms.saturating_mul(doubled);
        let wait = Duration::from_millis(wait.min(self.policy.longest_ms));
        Some(wait.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_a_healthy_life_forgives() {
        let mut backoff = Backoff::new(Restarts::default());
        let mut next = |lived| backoff.failed(Duration::from_secs(lived), 1.0);
        let waits: Vec<_> = (0..7).map(|_| next(1).unwrap().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(next(10), Some(Duration::from_secs(1)));
    }

    #[test]
    fn too_many_in_a_row_is_the_end_and_jitter_only_shortens() {
        let mut backoff = Backoff::new(Restarts {
            give_up: 3,
            ..Restarts::default()
        });
        let none = Duration::ZERO;
        assert_eq!(backoff.failed(none, 0.0), Some(Duration::from_millis(750)));
        assert_eq!(
            backoff.failed(none, 0.0),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(backoff.failed(none, 0.0), None);
    }
}
