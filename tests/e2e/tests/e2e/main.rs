//! End-to-end suites through the real binary.

#![allow(clippy::unwrap_used, reason = "a test's mistake may end the test")]

mod bind_mode;
mod capture_cli;
mod decode_cli;
mod demo;
mod engine_capture;
mod forwarding;
mod lossy;
mod many_sources;
mod shutdown;
mod stall;
