//! End-to-end suites through the real binary.
#![allow(clippy::unwrap_used, reason = "a test's mistake may end the test")]

mod config;
mod plugins_dropin;
mod rig;
