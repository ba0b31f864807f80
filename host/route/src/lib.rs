//! Which plugin gets which source, and what happens when one is slow.
//!
//! ```text
//!            ring of recent payloads (a source)
//!           ┌──────────────────────────────┐
//! ingest ──>│ …  41  42  43  gap  44  45   │──> lane A (attached: pushed at once)
//!           └──────▲───────────────────────┘──> lane B (attached)
//!                  └── cursor of lane C: detached, catches up by itself
//! ```
//!
//! Each plugin instance owns a [`Lane`]: a queue bounded in bytes, all lanes
//! together bounded by a [`Budget`]. Ingest never waits: when a lane is full, its
//! source *detaches* from that lane alone (`catch-up`) or the batch becomes a gap
//! of that lane (`drop`). A detached source is read by the lane's own thread from
//! the source's ring, from its cursor on; what the ring no longer holds is fetched
//! from the engine's replay; what neither has is told as a gap. At the ring's head
//! the source attaches again. A plugin that is dropped in late, or rebuilt after a
//! trap, starts the same way: detached, at the beginning.
//!
//! A source may go on from a checkpoint ([`Beginning`](penstock_event::Beginning)): all
//! before its point counts as lost from the ring. Until the engine has shown that it is
//! still the same, or a reset says otherwise, nobody reads or fetches. Lanes with a past
//! of their own may be behind the point, and fetch the difference, or ahead of it, and
//! are not told twice.
//!
//! What an operator makes of its sources is [`Derived`]: streams with the same numbers, in
//! a router of their own, beside the engines'. A lane may read from several routers
//! ([`Reading`]), each source from one of them.
//!
//! Per lane and source, every sequence number arrives once, in order, or within a
//! gap told before any later one.

mod budget;
mod catchup;
mod derived;
mod fetch;
mod filter;
mod lane;
mod reader;
mod reading;
mod ring;
mod router;
mod scope;
#[cfg(test)]
mod tests;

pub use budget::Budget;
pub use derived::Derived;
pub use fetch::{Fetch, Fetched};
pub use filter::Filter;
pub use lane::{Lane, LaneConfig, LaneStatus, WhenFull};
pub use reading::Reading;
pub use router::{Router, RouterConfig};
pub use scope::Scope;
