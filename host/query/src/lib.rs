//! Lookups and control: the doors through which the outside asks.
//!
//! ```text
//! router (client) --HTTP--------> http    --+
//! router (client) --ZeroMQ------> router  --+--> Lookups (a plugin's queue) --> reply
//! operator        --Unix socket-> control ----> Control (the daemon)
//! ```
//!
//! The daemon implements two traits, [`Lookups`] and [`Control`]; this crate
//! builds the doors over them. [`client`] is the other side, for `penstock
//! query` and `penstock ctl`.
//!
//! Guarantees: every request that came in whole gets one reply or is counted;
//! requests in flight, bytes of bodies and connections are bounded, and what is
//! above a bound is told `busy`; a lookup ends at its deadline, whatever the
//! plugin does. The crate holds no index and knows no plugin.

pub mod client;
mod config;
mod control;
mod doors;
mod error;
mod health;
mod http;
mod meter;
mod msgpack;
mod router;
mod shape;
mod types;
mod wire;

pub use config::DoorsConfig;
pub use doors::{Addresses, Doors};
pub use error::{Code, ControlError, ErrorBody, QueryError};
pub use health::{Beat, Gate, Heartbeats, Readiness, ReadyLatch};
pub use router::RouterTotals;
pub use shape::{AnswerBody, InstanceBody, PositionBody, Rank};
pub use types::{
    Control, Health, Lookups, PluginStatus, PositionStatus, Register, Reloaded, Reply,
    SourceStatus, Status, Turn, Turned, Unregister,
};
