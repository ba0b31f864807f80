//! Payload bytes of every known engine to a batch in columns. Pure: no I/O, no
//! clock, no thread.
//!
//! ```text
//! payload -> batch -> event -> fields -> hashes, tokens   ... read in one pass
//!                       |
//!                       +-> extra keys, names, media, token hashes -> Columns
//! ```
//!
//! Guarantees:
//! - No tree of values is built. A warm decoder, given columns from a pool, does
//!   not allocate.
//! - One bad event never costs its batch: it is left out, with a code.
//! - No input panics, recurses, or makes it reserve memory by a length that the
//!   payload's size belies.
//!
//! The way back is short: [`splice`] puts other events into a payload, and [`events`]
//! writes columns as events, for operators that hand a stream on.
//!
//! It does not judge order, gaps or restarts, and it keeps nothing from one batch
//! to the next but memory.
//!
//! ```
//! use penstock_decode::Decoder;
//! use penstock_event::{ColumnSet, Columns, Dictionary};
//!
//! // [1.0, [["BlockRemoved", [7], "GPU"]]]
//! let payload = b"\x92\xcb\x3f\xf0\0\0\0\0\0\0\x91\x93\xacBlockRemoved\x91\x07\xa3GPU";
//! let (mut columns, mut skipped) = (Columns::default(), Vec::new());
//! let head = Decoder::default().decode(
//!     payload,
//!     ColumnSet::default(),
//!     &Dictionary::default(),
//!     &mut columns,
//!     &mut skipped,
//! )?;
//! assert_eq!(head.published_us, 1_000_000);
//! assert_eq!(columns.hashes, [7]);
//! # Ok::<(), penstock_decode::DecodeError>(())
//! ```

mod batch;
mod encode;
mod error;
mod event;
mod extra;
mod fields;
mod hashes;
pub mod json;
mod media;
mod names;
mod reader;
mod splice;
mod time;
mod tokens;

#[cfg(test)]
mod tests;

pub use batch::{Decoder, Head, Limits};
pub use encode::events;
pub use error::{DecodeError, Field};
pub use splice::{Part, splice};
