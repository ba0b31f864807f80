//! Plain types of the event path. No I/O, no policy.
//!
//! ```text
//! discovery -> ingest -> decode -> route -> plugin -> sink
//!  SourceSpec   Payload   Columns   Item     Lookup    Publish
//! ```
//!
//! Every other crate of the host speaks in these types; none of them knows
//! a socket, a thread or wasmtime.

mod batch;
mod columns;
mod dictionary;
mod lookup;
mod position;
mod seams;
mod source;
mod state;
mod wakeups;

pub use batch::{Batch, Payload, Skipped, digest};
pub use columns::{
    ColumnSet, Columns, EVENT_STRIDE, EventRow, Kind, Medium, Pool, PooledColumns, flags,
};
pub use dictionary::{Dictionary, Entry, MAX_ENTRIES, NameKind, UNLISTED, token_seed};
pub use lookup::{Answer, By, LookupError, Query, Row, SourcePosition};
pub use position::{Epoch, Mark, Position, Sequence};
pub use seams::{
    Change, Emit, Emitted, GapReason, Item, Outlet, Publish, PublishError, ResetReason,
};
pub use source::{Identity, Mode, SourceId, SourceInfo, SourceSpec};
pub use state::{Beginning, Incident, Link, SourceState, Totals};
pub use wakeups::Wakeups;
