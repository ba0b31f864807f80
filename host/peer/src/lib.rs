//! An engine's side of the protocol: publish, replay, recorded frames, traces.
//!
//! ```text
//!  .frames file ──┐                        ┌─ PUB  [topic][sequence][payload]
//!                 ├─ engine ─ publisher ───┤
//!  trace ─ encode ┘     │                  └─ ROUTER replay, from a bounded buffer
//!                       └─ log: what was published, for tests to compare with
//!
//!  any PUB ─ subscriber ─ capture ─ .frames file
//!  any replay ROUTER ─ subscriber::fetch
//! ```
//!
//! It stands in for an inference engine in the demo and in tests, records any
//! stream, and lends its replay server to the PUB sink. It uses plain threads
//! and `zmq::poll`; a socket belongs to the thread that opened it. Every queue,
//! buffer and length is bounded, every linger too, and ZMTP heartbeats stay
//! off.
//!
//! It does not decode events: what it publishes it made or was given.

pub mod capture;
pub mod encode;
pub mod endpoint;
pub mod engine;
mod error;
pub mod event;
pub mod faults;
pub mod frames;
pub mod monitor;
pub mod publisher;
pub mod replay;
pub mod subscriber;
pub mod trace;

pub use error::PeerError;
pub use zmq::Context;

/// What this crate's calls answer.
pub type Result<T> = std::result::Result<T, PeerError>;
