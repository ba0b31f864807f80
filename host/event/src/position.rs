use serde::{Deserialize, Serialize};
use std::fmt;

/// The publisher's number of a batch: one a batch, from 0 (Mooncake: 1), and
/// from the start again when the publisher restarts.
pub type Sequence = u64;

/// How many restarts of a source this daemon has seen. There is none on the
/// wire; the order machine counts it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// A place in a source's stream: the last batch applied.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Restarts seen before this batch.
    pub epoch: Epoch,
    /// The batch's sequence number.
    pub sequence: Sequence,
}

/// A place at which a source can be known again: the batch there, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Where.
    pub position: Position,
    /// [`digest`](crate::digest) of that batch's payload.
    pub digest: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch.0, self.sequence)
    }
}
