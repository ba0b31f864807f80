//! The plugin author's kit: typed events over the columns, names instead of
//! dictionary codes, logging, metrics, clock, publishing, and [emitting](emit).
//!
//! A plugin is a type that implements [`Plugin`] and is handed to [`export!`].
//! This one counts stored blocks by adapter and refuses events of a group it
//! does not know:
//!
//! ```
//! use penstock_sdk::{Batch, Event, NoConfig, Plugin, Refused, metrics};
//! use std::collections::BTreeMap;
//!
//! #[derive(Default)]
//! struct Adapters {
//!     blocks: BTreeMap<String, u64>,
//! }
//!
//! impl Plugin for Adapters {
//!     const NAME: &'static str = "adapters";
//!     const VERSION: &'static str = "0.1.0";
//!     type Config = NoConfig;
//!
//!     fn new(_: NoConfig) -> Result<Self, String> {
//!         Ok(Self::default())
//!     }
//!
//!     fn on_batch(&mut self, batch: &Batch<'_>, refused: &mut Refused) {
//!         for event in batch.events() {
//!             match event {
//!                 Event::Stored(s) if s.group() > 7 => refused.event(s.index(), 1),
//!                 Event::Stored(s) => {
//!                     let name = s.adapter().as_str().unwrap_or("-").to_owned();
//!                     *self.blocks.entry(name).or_default() += s.hashes().len() as u64;
//!                     metrics::add("stored_blocks", s.hashes().len() as u64);
//!                 }
//!                 _ => {}
//!             }
//!         }
//!     }
//! }
//!
//! penstock_sdk::export!(Adapters);
//!
//! // Outside a component the same code runs natively, for tests.
//! use penstock_sdk::testing::{self, Host};
//! let mut host = Host::<Adapters>::start("{}").unwrap();
//! host.join(1, "vllm-0", "llama");
//! let refusals = host.send(
//!     testing::batch(1)
//!         .stored(testing::stored(16, &[10, 11]).adapter("sql"))
//!         .stored(testing::stored(16, &[12]).group(9)),
//! );
//! assert_eq!(refusals, [(1, 1)]);
//! assert_eq!(host.plugin().blocks["sql"], 2);
//! assert_eq!(testing::counter("stored_blocks"), 2);
//! ```
//!
//! The crate is a `cdylib` and is built with
//! `cargo build --release --target wasm32-wasip2`, or with `cargo component`.
//!
//! In a component the feature `allocator`, on by default, is the `#[global_allocator]`: a batch's
//! columns cost next to nothing in it. `default-features = false` leaves room for another one.
//!
//! Guarantees: columns that contradict each other (which only a broken host
//! could send) read as empty, never out of bounds; a panic is reported with
//! file, line and the batch being handled, and ends the instance, not the host.
//! What this crate does not do: keep events, order batches, or retry. What a plugin
//! holds may outlive its build: [`state`].

// One thread is what it is made for.
#[cfg(any(
    all(
        target_arch = "wasm32",
        feature = "allocator",
        not(target_feature = "atomics")
    ),
    test
))]
mod arena;
pub mod batch;
pub mod emit;
pub mod event;
mod export;
#[doc(hidden)]
pub mod generated;
pub mod hash;
mod host;
mod instance;
pub mod json;
mod lookup;
#[cfg(not(target_arch = "wasm32"))]
mod native;
mod plugin;
mod source;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use batch::Batch;
pub use event::{Block, Event, Kind, Medium};
#[doc(hidden)]
pub use export::{answers_may_be_freed_by_c, during};
pub use host::{clock, log, metrics, publish};
pub use instance::Instance;
pub use lookup::{By, Query, Row};
pub use plugin::{
    Columns, Description, Lookup, NoConfig, Piece, Plugin, Refused, Request, State, Tick,
};
pub use source::{Change, Label, Name, NameKind, Names, SourceChange, SourceInfo};

/// A batch as it crosses the boundary: columns side by side.
pub type RawBatch = generated::base::exports::penstock::plugin::guest::Batch;

/// An event refused, as it crosses the boundary.
pub type Refusal = generated::base::exports::penstock::plugin::guest::Refusal;

/// A change of a source, as it crosses the boundary.
pub type RawChange = generated::base::exports::penstock::plugin::guest::SourceChange;

/// A source's number, given by the host, never used again for another source.
pub type SourceId = u32;
