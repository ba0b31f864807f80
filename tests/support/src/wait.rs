//! Conditions with a deadline.

use std::time::{Duration, Instant};

/// Asks `condition` until it gives something.
///
/// # Panics
/// Nothing came within `limit`; the message names `what`.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
