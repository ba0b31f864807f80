//! End-to-end suites through the real binary.
#![allow(clippy::unwrap_used, reason = "a test's mistake may end the test")]

mod bad_input;
mod config;
mod plugins_dropin;
mod plugins_hostile;
mod plugins_lanes;
mod query;
mod rig;
