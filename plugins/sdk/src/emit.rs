//! Grant `emit`: events for the plugins that come after this one.
//!
//! Whatever a batch comes to, those after get one batch in its place, with the events that
//! were emitted while it was handled, in the order of the calls: none, if none were. It
//! goes once [`on_batch`](crate::Plugin::on_batch) has returned.
//!
//! This operator passes what concerns device memory, and of stored events no more than
//! their first two blocks:
//!
//! ```
//! use penstock_sdk::{Batch, Event, Medium, NoConfig, Plugin, Refused, emit, error};
//!
//! struct Beginnings;
//!
//! impl Plugin for Beginnings {
//!     const NAME: &'static str = "beginnings";
//!     const VERSION: &'static str = "0.1.0";
//!     type Config = NoConfig;
//!
//!     fn new(_: NoConfig) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn on_batch(&mut self, batch: &Batch<'_>, _: &mut Refused) {
//!         let mut out = emit::Events::new();
//!         for event in batch.events() {
//!             match event {
//!                 Event::Stored(s) if s.medium() == Medium::Gpu && s.hashes().len() > 2 => {
//!                     out.stored(&s, s.parent(), &s.hashes()[..2], &[]);
//!                 }
//!                 Event::Cleared(_) => out.keep(&event),
//!                 event if event.common().medium() == Medium::Gpu => out.keep(&event),
//!                 _ => {}
//!             }
//!         }
//!         if let Err(error) = out.emit() {
//!             error!("a batch is not passed on: {error}");
//!         }
//!     }
//! }
//! penstock_sdk::export!(Beginnings);
//!
//! use penstock_sdk::testing::{self, Emitted, Host, batch, stored};
//! let mut host = Host::<Beginnings>::start("{}").unwrap();
//! host.join(1, "vllm-0", "llama");
//! host.send(
//!     batch(1)
//!         .stored(stored(16, &[10, 11]))
//!         .removed(Medium::Cpu, 0, &[9])
//!         .stored(stored(16, &[12, 13, 14]).parent(11))
//!         .cleared(),
//! );
//! let emitted = testing::emitted();
//! assert_eq!(emitted[0], Emitted::Kept(0));
//! assert!(matches!(&emitted[1], Emitted::Stored { parent: Some(11), hashes, .. } if hashes == &[12, 13]));
//! assert_eq!(emitted[2..], [Emitted::Kept(3)]);
//! ```

#[cfg(target_arch = "wasm32")]
use crate::generated::emit::penstock::plugin::emit as imports;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::emit as imports;

use crate::batch::flags;
use crate::event::{Common, Event, Stored};
use std::fmt;

/// Events as they cross the boundary.
pub type RawEvents = crate::generated::emit::penstock::plugin::emit::EmittedEvents;

/// Why nothing of a call was emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmitError {
    /// Called outside of a batch.
    NoBatch,
    /// More than may be emitted for one batch.
    TooMuch,
    /// The batch has no event of that index, or it was kept before.
    NoEvent,
    /// The columns do not fit together.
    Misfit,
    /// A code of a later host.
    Other(u32),
}

/// What is to be emitted for a batch, in its order: one call or few, however many events.
#[derive(Debug, Default)]
pub struct Events {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Kept(Vec<u32>),
    Made(RawEvents),
}

/// Passes events of the batch being handled on, by index, as they came. Each of them once.
///
/// # Errors
/// [`EmitError`]; none of them was.
pub fn keep(events: &[u32]) -> Result<(), EmitError> {
    match events {
        [] => Ok(()),
        events => imports::keep(events).map_err(EmitError::from_code),
    }
}

/// Passes new events on, column by column: see [`Events`] for the way that is easier.
///
/// # Errors
/// [`EmitError`]; none of them was.
pub fn send(events: &RawEvents) -> Result<(), EmitError> {
    imports::send(events).map_err(EmitError::from_code)
}

// === impl EmitError ===

impl EmitError {
    /// The error of a code from the host.
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        match code {
            1 => Self::NoBatch,
            2 => Self::TooMuch,
            3 => Self::NoEvent,
            4 => Self::Misfit,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBatch => write!(f, "called outside of a batch"),
            Self::TooMuch => write!(f, "more than may be emitted for one batch"),
            Self::NoEvent => write!(f, "no such event in the batch, or kept before"),
            Self::Misfit => write!(f, "columns that do not fit together"),
            Self::Other(code) => write!(f, "refused with code {code}"),
        }
    }
}

impl std::error::Error for EmitError {}

// === impl Events ===

impl Events {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { parts: Vec::new() }
    }

    /// Passes an event of the batch on, as it came.
    pub fn keep(&mut self, event: &Event<'_>) {
        let index = event.common().index();
        match self.parts.last_mut() {
            Some(Part::Kept(events)) => events.push(index),
            _ => self.parts.push(Part::Kept(vec![index])),
        }
    }

    /// Blocks were stored, of the kind that `like` stores: its medium, group, block size,
    /// adapter, salt and model. `tokens`: as many as these blocks have, or none at all.
    /// Without them those after have no token hashes.
    pub fn stored(
        &mut self,
        like: &Stored<'_>,
        parent: Option<u64>,
        hashes: &[u64],
        tokens: &[u32],
    ) {
        let flag = if parent.is_some() { flags::PARENT } else { 0 };
        let keep = flags::BIGRAM | flags::GROUP | flags::REMOTE;
        self.push(
            like,
            0,
            flag | like.flags() & keep,
            (parent, hashes, tokens),
        );
    }

    /// Blocks were removed, from the medium and group that `like` is about.
    pub fn removed(&mut self, like: &Common<'_>, hashes: &[u64]) {
        let flag = like.flags() & (flags::GROUP | flags::REMOTE);
        self.push(like, 1, flag, (None, hashes, &[]));
    }

    fn push(
        &mut self,
        like: &Common<'_>,
        kind: u32,
        flag: u32,
        (parent, hashes, tokens): (Option<u64>, &[u64], &[u32]),
    ) {
        if !matches!(self.parts.last(), Some(Part::Made(_))) {
            self.parts.push(Part::Made(RawEvents {
                events: vec![],
                parents: vec![],
                hashes: vec![],
                tokens: vec![],
                token_ends: vec![],
            }));
        }
        let Some(Part::Made(made)) = self.parts.last_mut() else {
            return;
        };
        let [head, group, size, adapter, salt, model, name, _] = *like.row;
        let (size, adapter, salt) = match kind {
            0 => (size, adapter, salt),
            _ => (0, 0, 0),
        };
        made.hashes.extend_from_slice(hashes);
        made.tokens.extend_from_slice(tokens);
        let end = made.hashes.len() as u32;
        let head = kind | (head & 0xff00) | flag << 16;
        let row = [head, group, size, adapter, salt, model, name, end];
        made.events.extend_from_slice(&row);
        made.parents.push(parent.unwrap_or(0));
        made.token_ends.push(made.tokens.len() as u32);
    }

    /// True when nothing is to be emitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Emits it all.
    ///
    /// # Errors
    /// [`EmitError`] of the first call that failed: what came before it was emitted.
    pub fn emit(self) -> Result<(), EmitError> {
        self.parts.iter().try_for_each(|part| match part {
            Part::Kept(events) => keep(events),
            Part::Made(events) => send(events),
        })
    }
}
