//! The plugin host: load, check, limit, call and rebuild WebAssembly components.
//! The only crate that knows wasmtime.
//!
//! ```text
//! bytes -- Host::compile --> Compiled      checked without being run
//!           Compiled + Setup --> Instance  a Store of its own; describe, init
//!             Instance --> Candidate --> Runner   a thread, fed by a `Feed`
//!                                          |  items, lookups, requests, ticks
//!                                          v
//!                                        Status, Answer
//! ```
//!
//! What a plugin may use is in [`Grants`], how much of it in [`Limits`]. It
//! cannot block, crash or starve the host: each call has a deadline, and a call
//! that traps or misses it costs the plugin its Store, nothing else.
//!
//! Not here: which source goes to which plugin (`penstock-route`), where
//! published messages go (`penstock-sink`), who asks (`penstock-query`).

mod answers;
mod background;
mod backoff;
mod bindings;
mod bundle;
mod cache;
mod cell;
mod check;
mod clock;
mod convert;
mod ctx;
mod emission;
mod engine;
mod error;
mod feed;
mod grants;
mod handover;
mod heirs;
mod host;
mod instance;
mod latency;
mod limits;
mod mailbox;
mod memory;
mod meter;
mod peek;
mod reply;
mod runner;
mod setup;
mod shape;
mod status;
mod trail;
mod wasi;
mod worker;

pub use background::run as in_background;
pub use backoff::{OnFailure, Restarts};
pub use bundle::{Bundle, Recent};
pub use cache::Cache;
pub use check::{Features, Summary};
pub use engine::{Compiled, Host};
pub use error::{CallError, LoadError, TrialError};
pub use feed::{Feed, Waiting};
pub use grants::{Grant, Grants};
pub use handover::{At, HandoverError, Heir, Moved, Past};
pub use heirs::{Heirs, hand_over_all};
pub use instance::{Description, Instance, Piece, Refusal};
pub use limits::Limits;
pub use peek::{exports, sha256};
pub use reply::Reply;
pub use runner::{Candidate, Runner, RunnerConfig};
pub use setup::Setup;
pub use shape::{Interface, Shape, producers, wit};
pub use status::{LastError, RecentRefusal, Shadow, State, Status};
pub use trail::{Pen, Trail};
pub use worker::Role;
