use std::time::{Duration, Instant};

/// One wake-up for many messages: says how long a thread that is woken very often stays
/// away before it looks again.
///
/// A thread that sleeps after each message costs more in switches than in work, on
/// busy machines most of all. So above 3,000 messages a second it rests for
/// 1 ms when nothing is left to do, and finds several at once. Below that a
/// message is handled as soon as it comes.
///
/// ```
/// use penstock_event::Wakeups;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let mut wakeups = Wakeups::new(start);
/// assert_eq!(wakeups.rest(start + Duration::from_millis(9), 20), None);
/// assert!(wakeups.rest(start + Duration::from_millis(18), 200).is_some());
/// assert!(wakeups.rest(start + Duration::from_millis(19), 1).is_some());
/// assert_eq!(wakeups.rest(start + Duration::from_millis(90), 1), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Wakeups {
    since: Instant,
    handled: u64,
    often: bool,
}

/// Messages a second above which a thread rests.
const OFTEN: u64 = 3_000;

/// How long it rests.
const REST: Duration = Duration::from_millis(1);

/// How long messages are counted before they are judged.
const SPAN: Duration = Duration::from_millis(8);

// === impl Wakeups ===

impl Wakeups {
    /// Nothing was handled yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            handled: 0,
            often: false,
        }
    }

    /// To be asked when nothing is left to do, with the number of messages handled
    /// since it was asked last. How long to stay away; none: until something comes.
    pub fn rest(&mut self, now: Instant, handled: u64) -> Option<Duration> {
        self.handled += handled;
        let passed = now.saturating_duration_since(self.since);
        if passed >= SPAN {
            let many = u128::from(self.handled) * 1_000_000;
            self.often = many >= passed.as_micros() * u128::from(OFTEN);
            self.since = now;
            self.handled = 0;
        }
        self.often.then_some(REST)
    }
}
