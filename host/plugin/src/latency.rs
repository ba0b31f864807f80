//! How long calls take: a histogram of 256 buckets, each at most an eighth wider
//! than the one before, that forgets by halving.

use std::time::Duration;

pub(crate) struct Latency {
    buckets: Box<[u32; BUCKETS]>,
    total: u64,
}

const BUCKETS: usize = 256;
/// Buckets a doubling.
const STEPS: u32 = 8;
/// Calls after which the past counts half.
const HALF_LIFE: u64 = 8_192;

// === impl Latency ===

impl Latency {
    pub(crate) fn new() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
            total: 0,
        }
    }

    pub(crate) fn add(&mut self, took: Duration) {
        if let Some(bucket) = self.buckets.get_mut(bucket(took.as_nanos() as u64)) {
            *bucket += 1;
            self.total += 1;
        }
        if self.total >= HALF_LIFE {
            self.buckets.iter_mut().for_each(|b| *b /= 2);
            self.total = self.buckets.iter().map(|b| u64::from(*b)).sum();
        }
    }

    /// A time that 99 of 100 calls stay within; 0 before the first.
    pub(crate) fn p99(&self) -> Duration {
        let mut above = self.total / 100;
        for (at, bucket) in self.buckets.iter().enumerate().rev() {
            let count = u64::from(*bucket);
            if count > above {
                return Duration::from_nanos(upper(at));
            }
            above -= count;
        }
        Duration::ZERO
    }
}

fn bucket(ns: u64) -> usize {
    let ns = ns.max(u64::from(STEPS));
    let octave = ns.ilog2() - STEPS.ilog2();
    let step = (ns >> octave) as u32 - STEPS;
    ((octave * STEPS + step) as usize).min(BUCKETS - 1)
}

/// The first time above a bucket.
fn upper(at: usize) -> u64 {
    let (octave, step) = (at as u64 / u64::from(STEPS), at as u64 % u64::from(STEPS));
    (u64::from(STEPS) + step + 1) << octave
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_times() {
        for ns in [0, 7, 8, 9, 15, 16, 17, 1_000, 123_456, 99_999_999] {
            let at = bucket(ns);
            assert!(ns < upper(at), "{ns} in {at}");
            assert!(at == 0 || ns >= upper(at - 1), "{ns} in {at}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn p99_is_near_the_slowest_of_a_hundred() {
        let mut latency = Latency::new();
        assert_eq!(latency.p99(), Duration::ZERO);
        for us in 1..=1_000 {
            latency.add(Duration::from_micros(us));
        }
        let p99 = latency.p99().as_micros();
        assert!((980..1_130).contains(&p99), "{p99}");
    }
}
