//! What goes into the machine and what comes out.

use penstock_event::{Epoch, GapReason, Position, ResetReason, Sequence};

/// Time since an arbitrary start, in microseconds.
pub type Micros = u64;

/// What the machine needs to know of a frame's payload.
pub trait Frame {
    /// Digest of the payload (`penstock_event::digest`).
    fn digest(&self) -> u64;
    /// Bytes it holds while it waits.
    fn bytes(&self) -> usize;
}

/// How patient the machine is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The source has a replay endpoint.
    pub replay: bool,
    /// Several publishers may share this stream (a bound socket): sequences that go
    /// back and interleave are two publishers, not restarts.
    pub shared: bool,
    /// Sequence of a publisher's first batch.
    pub first: Sequence,
    /// Live frames that may wait for a replay.
    pub buffer_frames: usize,
    /// Their bytes.
    pub buffer_bytes: usize,
    /// Longest wait for the next frame of a replay, once it has started.
    pub replay_wait: Micros,
    /// Replays of one range that may end without progress before it is given up.
    pub replay_attempts: u32,
    /// Silence after which the end of the stream is checked.
    pub tail_after: Micros,
}

/// A replay asked for. Never used twice by one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplayId(pub u64);

/// What happens to a source.
#[derive(Debug)]
pub enum Input<P> {
    /// The connection is up (again). Fed *before* frames drained in the same turn.
    Connected,
    /// The connection was lost.
    Disconnected,
    /// A live frame.
    Live {
        /// Its sequence.
        sequence: Sequence,
        /// Its payload.
        frame: P,
    },
    /// A replay left the queue and its request was sent: its wait begins now.
    ReplayStarted {
        /// Which.
        replay: ReplayId,
    },
    /// A frame of a replay.
    Replayed {
        /// Of which.
        replay: ReplayId,
        /// Its sequence.
        sequence: Sequence,
        /// Its payload.
        frame: P,
    },
    /// The end marker of a replay.
    ReplayEnd {
        /// Which.
        replay: ReplayId,
    },
    /// The replay's socket failed.
    ReplayFailed {
        /// Which.
        replay: ReplayId,
    },
    /// Discovery says the engine is a new one.
    Announced,
    /// Time passed.
    Tick,
}

/// What the machine wants done, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output<P> {
    /// The next batch.
    Deliver {
        /// Restarts before it.
        epoch: Epoch,
        /// Its sequence.
        sequence: Sequence,
        /// Its payload.
        frame: P,
        /// Digest of the payload.
        digest: u64,
        /// It came by replay.
        replayed: bool,
    },
    /// These will never come.
    Gap {
        /// Restarts before it.
        epoch: Epoch,
        /// The first one missing.
        first: Sequence,
        /// The last one missing.
        last: Sequence,
        /// Why.
        reason: GapReason,
    },
    /// The engine restarted.
    Reset {
        /// The epoch that begins.
        epoch: Epoch,
        /// How it was noticed.
        reason: ResetReason,
    },
    /// The engine is the one of the checkpoint that the machine began with. A reset
    /// comes in its place where that cannot be shown.
    Resumed,
    /// Ask the engine for everything from `from` on. At most one replay is asked
    /// for at a time; a new one replaces the one before.
    StartReplay {
        /// Its name from now on.
        replay: ReplayId,
        /// The first sequence wanted.
        from: Sequence,
    },
    /// Close the replay: its frames are not wanted any more.
    StopReplay {
        /// Which.
        replay: ReplayId,
    },
    /// For counters alone.
    Note(Note),
}

/// What counters should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// A frame was seen before.
    Duplicate,
    /// Sequence numbers are missing; a replay may fill them.
    GapOpened,
    /// A gap was closed with nothing missing.
    GapFilled,
    /// A frame of a second publisher on one topic was left out.
    TwoPublishers,
    /// A frame of an engine that is gone was left out: the reset before or after it
    /// makes it void.
    Stale,
}

/// What `penstock ctl sources` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Name of the state.
    pub state: &'static str,
    /// The last batch delivered.
    pub position: Option<Position>,
    /// Nothing is known to be missing since the last reset.
    pub complete: bool,
    /// Frames waiting.
    pub buffered: usize,
}
