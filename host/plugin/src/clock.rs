//! How long a call may run: its limit in time on a processor.
//!
//! Time in which the machine had no processor to spare, or the whole process stood
//! still, is not the plugin's: it alone ends no call before [`PATIENCE`] times the
//! limit. Short calls cost no look at a clock.

use crate::Host;
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;
use wasmtime::UpdateDeadline;

/// A call ends after so many times its limit, whatever kept it.
const PATIENCE: u64 = 10;
/// Ticks before the first look.
const FIRST: u64 = 2;
/// Ticks between two looks at most: the plugin may have to end meanwhile.
const AGAIN: u64 = 20;

/// The running call's.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    limit: Duration,
    /// Ticks granted so far.
    granted: u64,
    /// The thread's time on a processor at the first look.
    begun: Option<Duration>,
}

// === impl Clock ===

impl Clock {
    /// A call begins. In how many ticks to look for the first time.
    pub(crate) fn begin(&mut self, limit: Duration) -> u64 {
        let ticks = Host::ticks(limit).min(FIRST);
        *self = Self {
            limit,
            granted: ticks,
            begun: None,
        };
        ticks
    }

    /// The granted ticks have passed: is there more?
    pub(crate) fn look(&mut self) -> UpdateDeadline {
        self.judge(on_processor())
    }

    fn judge(&mut self, now: Duration) -> UpdateDeadline {
        let begun = *self.begun.get_or_insert(now);
        let used = now.saturating_sub(begun);
        let most = Host::ticks(self.limit).saturating_mul(PATIENCE);
        if used >= self.limit || self.granted >= most {
            return UpdateDeadline::Interrupt;
        }
        let more = Host::ticks(self.limit - used)
            .min(most - self.granted)
            .min(AGAIN);
        self.granted += more;
        UpdateDeadline::Continue(more)
    }
}

/// The time that this thread spent on a processor.
pub(crate) fn on_processor() -> Duration {
    // Of the C library: rustix's own way to this clock ends the process under valgrind.
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    fn goes_on(clock: &mut Clock, used_ms: u64) -> bool {
        let now = Duration::from_millis(7_000 + used_ms);
        matches!(clock.judge(now), UpdateDeadline::Continue(ticks) if ticks > 0)
    }

    #[test]
    fn what_it_used_counts() {
        let mut clock = Clock::default();
        clock.begin(LIMIT);
        assert!(goes_on(&mut clock, 0) && goes_on(&mut clock, 99));
        assert!(!goes_on(&mut clock, 100));
        clock.begin(LIMIT);
        assert!(goes_on(&mut clock, 300), "a call of its own");
    }

    #[test]
    fn waiting_for_a_processor_ends_as_well() {
        let mut clock = Clock::default();
        let mut ticks = clock.begin(LIMIT);
        while let UpdateDeadline::Continue(more) = clock.judge(Duration::ZERO) {
            ticks += more;
        }
        assert_eq!(ticks, Host::ticks(LIMIT) * PATIENCE);
    }
}
