//! What plugins emit leaves here: ZeroMQ PUB and PUSH, files.
//!
//! ```text
//!                         ┌ bounded queue ┐    thread of the sink
//! plugin ── publish() ──> │ messages,     │ ──> zmq-pub   XPUB + replay ROUTER
//!   <── full, closed ──── │ bytes         │     zmq-push  PUSH
//!                         └───────────────┘     file      JSON lines
//! ```
//!
//! Guarantees: `publish` never blocks on the outside world; messages leave in
//! the order they were accepted; each is counted once under what became of it
//! ([`SinkStatus`]); memory is bounded by the queue, the replay buffer and the
//! high-water mark; shutting down ends by its deadline, whatever a peer or a
//! disk does. A sink belongs to the daemon, by name and config: it outlives the
//! plugins that publish to it, and so does its sequence.
//!
//! It does not look into payloads, choose topics, or retry over a restart of
//! the process. Exactly-once needs a consumer that de-duplicates by the
//! position that messages carry.

mod config;
mod error;
mod file;
mod outgoing;
mod push;
mod queue;
pub mod record;
mod sink;
mod socket;
mod status;
mod subscriptions;
#[cfg(test)]
mod tests;
mod xpub;

pub use config::{FileConfig, PubConfig, PushConfig, SinkConfig};
pub use error::SinkError;
pub use penstock_peer::replay::Framing;
pub use sink::Sink;
pub use status::SinkStatus;
