//! The plugin host against components made to test it (`tests/guests`).

#![allow(clippy::unwrap_used)] // Helpers of tests, outside of #[test].

mod calls;
mod common;
mod load;
mod runner;
