//! The order of one source's stream: a pure state machine. It knows no socket,
//! no thread and no clock; time and frames come in, deliveries and requests go out.
//! (The states and their transitions are drawn in `machine.rs`.)
//!
//! It guarantees, whatever comes in: within an epoch sequences rise, each jump is
//! covered by [`Output::Gap`] before the delivery behind it, each change of epoch is
//! announced by [`Output::Reset`], and what waits is bounded in frames, in bytes and
//! in time. Each wait shows in [`Machine::deadline`].
//!
//! It does not decode, does not open replays itself, and does not know topics: a
//! socket that carries several streams needs a machine for each.

mod buffer;
mod fill;
mod join;
mod live;
mod machine;
#[cfg(test)]
mod mutant;
mod suspects;
mod tail;
#[cfg(test)]
mod tests;
mod transition;
mod types;
mod verify;

pub use machine::Machine;
pub(crate) use transition::Transition;
pub use types::{Config, Frame, Input, Micros, Note, Output, ReplayId, Status};
