//! End-to-end suites through the real binary.

#![allow(clippy::unwrap_used, reason = "a test's mistake may end the test")]

mod engine_capture;
