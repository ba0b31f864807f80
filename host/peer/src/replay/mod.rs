//! An engine-shaped replay: recent batches, asked for by sequence.
//!
//! A client sends `["", start: 8 bytes big endian]` and gets every batch held
//! whose sequence is at least `start`, oldest first, then an end marker. Which
//! frames it gets depends on the release imitated: see [`Framing`]. A start
//! older than the buffer silently begins at the oldest batch held, as with an
//! engine. A request of any other shape gets no answer, and is counted.
//!
//! [`ReplayBuffer`] is the memory, [`ReplayServer`] the socket. They are apart
//! so that a publisher and a sink can each keep their buffer where they want.

mod buffer;
mod server;

pub use buffer::ReplayBuffer;
pub use server::{ReplayConfig, ReplayServer, ReplayStats, Served};

use serde::{Deserialize, Serialize};

/// The sequence in an end marker.
pub const END: [u8; 8] = [0xff; 8];

/// How replies are framed. The delimiter in front is empty in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// `["", sequence, payload]`, end `["", ff×8, ""]`: vLLM up to 0.25,
    /// SGLang up to 0.5.21.
    Old,
    /// `["", topic, sequence, payload]`, end `["", "", ff×8, ""]`: later ones.
    #[default]
    New,
}

impl std::str::FromStr for Framing {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "old" => Ok(Self::Old),
            "new" => Ok(Self::New),
            _ => Err(format!("{text:?}: expected old or new")),
        }
    }
}

#[cfg(test)]
mod tests;
