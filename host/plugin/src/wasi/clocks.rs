//! `wasi:clocks`. Without the grant `clock` they stand at 0; waits are real all
//! the same, and bounded by the call's deadline.

use super::Pollable;
use crate::Grant;
use crate::bindings::wasi::wasi::clocks::{monotonic_clock, wall_clock};
use crate::ctx::Ctx;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wasmtime::Result;
use wasmtime::component::Resource;

impl Ctx {
    fn has_clock(&self) -> bool {
        self.setup.grants.has(Grant::Clock)
    }

    fn wait_until(&mut self, when: Option<Instant>) -> Result<Resource<Pollable>> {
        Ok(self.table.push(Pollable::At(when))?)
    }
}

impl monotonic_clock::Host for Ctx {
    fn now(&mut self) -> Result<u64> {
        if !self.has_clock() {
            return Ok(0);
        }
        Ok(self.started.elapsed().as_nanos() as u64)
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> Result<Resource<Pollable>> {
        // A clock that stands at 0 is `when` away from `when`.
        let from = if self.has_clock() {
            self.started
        } else {
            Instant::now()
        };
        self.wait_until(from.checked_add(Duration::from_nanos(when)))
    }

    fn subscribe_duration(&mut self, length: u64) -> Result<Resource<Pollable>> {
        self.wait_until(Instant::now().checked_add(Duration::from_nanos(length)))
    }
}

impl wall_clock::Host for Ctx {
    fn now(&mut self) -> Result<wall_clock::Datetime> {
        let now = if self.has_clock() {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
        } else {
            Duration::ZERO
        };
        Ok(wall_clock::Datetime {
            seconds: now.as_secs(),
            nanoseconds: now.subsec_nanos(),
        })
    }

    fn resolution(&mut self) -> Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime {
            seconds: 0,
            nanoseconds: 1_000,
        })
    }
}
