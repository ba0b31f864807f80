//! The small traits that join the rooms.

use crate::{
    Batch, ColumnSet, Columns, Epoch, Position, Sequence, SourceId, SourceInfo, SourceState,
};
use bytes::Bytes;
use std::sync::Arc;

/// One step of a source's stream, in order.
#[derive(Clone, Debug)]
pub enum Item {
    /// A batch.
    Batch(Arc<Batch>),
    /// Something a plugin must know before any later batch.
    Change(Change),
}

/// What happened to a source beside batches.
#[derive(Clone, Debug)]
pub enum Change {
    /// The source is new to this plugin.
    Joined(Arc<SourceState>),
    /// The source is gone for good; forget it.
    Left(SourceId),
    /// The engine restarted: its cache is empty, its sequence starts over.
    Reset {
        /// Whose.
        source: SourceId,
        /// The epoch that begins.
        epoch: Epoch,
        /// How it was noticed.
        reason: ResetReason,
    },
    /// Batches that will never come.
    Gap {
        /// Whose.
        source: SourceId,
        /// The epoch they belong to.
        epoch: Epoch,
        /// First sequence missing.
        first: Sequence,
        /// Last sequence missing.
        last: Sequence,
        /// Why they are missing.
        reason: GapReason,
    },
}

/// Why batches are missing. The code is what plugins and metrics see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum GapReason {
    /// The source has no replay endpoint.
    NoReplay = 1,
    /// The engine's replay buffer no longer holds them.
    Truncated = 2,
    /// Replay did not answer in time, as often as it was asked.
    ReplayTimeout = 3,
    /// Too much was buffered while waiting for them.
    BufferFull = 4,
    /// The payload could not be decoded.
    Undecodable = 5,
    /// The batch was above the limits on events or blocks.
    TooLarge = 6,
    /// The plugin's lane was full and its policy is `drop`.
    LaneFull = 7,
    /// Neither the host's ring nor the engine holds what the plugin missed.
    Missed = 8,
    /// A batch on which the plugin failed was set aside.
    PluginFailed = 9,
}

/// How a restart was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ResetReason {
    /// The sequence went back behind the highest live one.
    Backwards = 1,
    /// After a reconnect, the last batch had another content.
    ContentDiffers = 2,
    /// After a reconnect, continuity could not be shown.
    Unproven = 3,
    /// The discovery says the engine is a new one.
    Announced = 4,
}

macro_rules! names {
    ($ty:ty { $($variant:ident => $name:literal),* $(,)? }) => {
        impl $ty {
            /// The name in metrics and JSON.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

names!(GapReason {
    NoReplay => "no_replay",
    Truncated => "truncated",
    ReplayTimeout => "replay_timeout",
    BufferFull => "buffer_full",
    Undecodable => "undecodable",
    TooLarge => "too_large",
    LaneFull => "lane_full",
    Missed => "missed",
    PluginFailed => "plugin_failed",
});

names!(ResetReason {
    Backwards => "backwards",
    ContentDiffers => "content_differs",
    Unproven => "unproven",
    Announced => "announced",
});

impl Change {
    /// Whose change it is.
    #[must_use]
    pub fn source(&self) -> SourceId {
        match self {
            Self::Joined(state) => state.info.id,
            Self::Left(source) | Self::Reset { source, .. } | Self::Gap { source, .. } => *source,
        }
    }
}

impl Item {
    /// Whose item it is.
    #[must_use]
    pub fn source(&self) -> SourceId {
        match self {
            Self::Batch(batch) => batch.source,
            Self::Change(change) => change.source(),
        }
    }
}

/// Where ingest delivers: the router. Calls for one source come from one
/// thread, in order, and never block.
pub trait Outlet: Send + Sync {
    /// Columns that some plugin of this source wants now.
    fn wanted(&self, source: SourceId) -> ColumnSet;
    /// The next step of the source's stream.
    fn deliver(&self, state: &Arc<SourceState>, item: Item);
    /// A source that goes on from a checkpoint ([`Beginning`](crate::Beginning)) has an
    /// engine that is still the same: its replay has what came before, too. Otherwise
    /// a reset is delivered.
    fn proven(&self, _state: &Arc<SourceState>) {}
}

/// What an operator passes on of one batch: all of these, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emitted {
    /// Events of the batch, by their index, as they came.
    Kept(Vec<u32>),
    /// Events of the operator's own: `events`, `parents`, `hashes`, `tokens` and
    /// `token_ends`, which fit together.
    Made(Box<Columns>),
}

/// Where an operator's events go: to the plugins after it. Calls come from the thread of
/// the instance that leads, in each source's order, and never block.
pub trait Emit: Send + Sync {
    /// A batch was handled: what is passed on in its place, under its number.
    fn batch(&self, batch: &Arc<Batch>, emitted: Vec<Emitted>);
    /// A change was told: those after it are told as well.
    fn change(&self, change: &Change);
}

/// Where plugins publish: a sink. Calls come from plugin threads and never block.
pub trait Publish: Send + Sync {
    /// Queues one message. `position` says which batch caused it. A message that is
    /// refused leaves a number out, as [`Publish::skip`] does.
    ///
    /// # Errors
    /// [`PublishError`]: the queue is full or closed, or the message too large.
    fn publish(
        &self,
        topic: Bytes,
        payload: Bytes,
        source: Option<&SourceInfo>,
        position: Position,
    ) -> Result<(), PublishError>;

    /// Leaves one number out of the sink's sequence, before the next message: those
    /// who follow the sink are to see a gap.
    ///
    /// # Errors
    /// [`PublishError::Closed`].
    fn skip(&self) -> Result<(), PublishError>;
}

/// Why a message was not queued. The code is what plugins see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum PublishError {
    /// The queue is full: the sink is slower than the plugin.
    Full = 1,
    /// No sink of that name in this plugin's config.
    NoSink = 2,
    /// The sink is shutting down.
    Closed = 3,
    /// The message is above the limit.
    TooLarge = 4,
}

names!(PublishError {
    Full => "full",
    NoSink => "no_sink",
    Closed => "closed",
    TooLarge => "too_large",
});
