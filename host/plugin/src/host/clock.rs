//! `clock`. Granted or not linked at all, so these are always the real clocks.

use crate::bindings::base::penstock::plugin::clock::Host;
use crate::ctx::Ctx;
use std::time::{SystemTime, UNIX_EPOCH};

impl Host for Ctx {
    fn now(&mut self) -> i64 {
        // Before 1970 only on a machine whose clock is wrong.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        now.as_micros() as i64
    }

    fn monotonic(&mut self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
}
