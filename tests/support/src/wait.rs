//! Conditions with a deadline.

use std::time::{Duration, Instant};

/// Asks `condition` until it gives something.
///
/// # Panics
/// Nothing came within `limit`; the message names `what`.
pub fn until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    within(limit, condition).unwrap_or_else(|| panic!("{what}: not within {limit:?}"))
}

/// Asks `condition` until it gives something; none when nothing came in time.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let found = condition();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
