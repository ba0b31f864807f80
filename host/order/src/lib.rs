//! The order of one source's stream: a pure state machine. It knows no socket, no
//! thread and no clock; time and frames come in, deliveries and requests go out.
//!
//! [`Machine`] has the states and what leads from one to the other.
//!
//! Guarantees: within an epoch, sequences are delivered in rising order, each once;
//! what is left out is covered by gaps told before any later delivery; an epoch
//! begins with a reset; every wait has a deadline; what waits is bounded. It does
//! not decode, and it does not open the replays it asks for.

mod buffer;
mod connection;
mod live;
mod machine;
mod replay;
mod suspects;
mod transition;
mod types;

pub use machine::Machine;
pub use types::{Config, Frame, Input, Micros, Note, Output, ReplayId, Status};
