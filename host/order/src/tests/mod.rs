//! What is demanded of the machine, by example and by chance.

mod checker;
mod desk;
mod engine;
mod mutants;
mod properties;
mod scenarios;
mod shared;

use crate::{Frame, Input, Micros, Output};
use std::fmt;

/// A unique batch: who published it, and as which.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    /// The incarnation of the engine.
    pub(super) life: u32,
    /// Which of two publishers.
    pub(super) track: u32,
    pub(super) sequence: u64,
}

/// The batch that `b3` names: the fourth of the second life.
fn batch(name: &str) -> Batch {
    let (life, sequence) = name.split_at(1);
    Batch {
        life: u32::from(life.as_bytes()[0] - b'a'),
        track: 0,
        sequence: sequence.parse().expect("a letter and a number"),
    }
}

impl Batch {
    fn name(&self) -> String {
        let life = char::from(b'a' + u8::try_from(self.life).expect("few lives"));
        format!("{life}{}", self.sequence)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}/{}", self.track, self.life, self.sequence)
    }
}

impl Frame for Batch {
    fn digest(&self) -> u64 {
        let key = [u64::from(self.life), u64::from(self.track), self.sequence];
        let bytes = key.map(u64::to_le_bytes).concat();
        penstock_event::digest(&bytes)
    }

    fn bytes(&self) -> usize {
        100
    }
}

/// One second.
const SECOND: Micros = 1_000_000;

fn config() -> crate::Config {
    crate::Config {
        replay: true,
        shared: false,
        first: 0,
        buffer_frames: 1000,
        buffer_bytes: 1 << 20,
        replay_wait: 2 * SECOND,
        replay_attempts: 3,
        tail_after: SECOND,
    }
}

type In = Input<Batch>;
type Out = Output<Batch>;
