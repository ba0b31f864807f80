//! End-to-end suites through the real binary.

#![allow(clippy::unwrap_used, reason = "a test's mistake may end the test")]

mod bad_input;
mod bind_mode;
mod capture_cli;
mod chains;
mod checkpoints;
mod config;
mod config_reload;
mod counter_js;
mod decode_cli;
mod demo;
mod engine_capture;
mod forwarding;
mod hot_prefixes;
mod lossy;
mod many_sources;
mod plugin_cli;
mod plugin_guide;
mod plugin_kit;
mod plugins_dropin;
mod plugins_failure;
mod plugins_hostile;
mod plugins_lanes;
mod plugins_swap;
mod query;
mod query_cli;
mod relayed;
mod rig;
mod shards;
mod shutdown;
mod soak;
mod stall;
