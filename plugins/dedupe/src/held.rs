//! What one source holds, and how much of it those after this plugin were told.
//!
//! ```text
//!             engine   told           engine   told
//! store A        1       1   passes      1       1
//! store A        2       1               2       2   passes: with B, which is new
//! remove A       1       1               1       1   passes: 2 told are one too many
//! remove A       0       0   passes      0       0   passes
//! ```
//! What was told is never more than what the engine holds, and at least one as long as it
//! holds any.

use foldhash::fast::FixedState;
use penstock_sdk::Batch;
use penstock_sdk::batch::EVENT_STRIDE;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What one source holds.
#[derive(Debug, Default)]
pub struct Held {
    places: Vec<Place>,
    blocks: HashMap<Key, Block, FixedState>,
    /// Blocks may be held that are not known here.
    doubts: bool,
}

/// Where blocks are told apart: the same hash in two places is two blocks. Names are codes
/// of the source's dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    rank: u32,
    medium: u8,
    medium_name: u32,
    group: u32,
    model: u32,
}

/// A place's number and a block's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(u32, u64);

/// A block that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Block {
    /// Stores less removes.
    held: u32,
    /// The same of what was passed on.
    told: u32,
    /// Stored below a parent that is not held: an index may have refused it.
    loose: bool,
}

/// What a source's state is made of.
#[derive(Serialize, Deserialize)]
pub enum Record {
    /// Blocks may be held that are not known.
    Doubts(bool),
    /// The next place.
    Place(Place),
    /// The next block, in the place of that number.
    Block(u32, u64, u32, u32, bool),
}

/// What becomes of a stored event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// It passes.
    pub passes: bool,
    /// Blocks of it for which there was no room.
    pub untracked: u64,
}

/// What becomes of a removed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It passes.
    All,
    /// These blocks of it do.
    Some(Vec<u64>),
    /// It changes nothing.
    None,
}

/// A name that the source's dictionary has no room for.
const UNLISTED: u32 = u32::MAX;

/// Places of one source; more, which no engine has, are not told apart.
const MAX_PLACES: usize = 4_096;

// === impl Place ===

impl Place {
    /// Where the blocks of an event of a batch are.
    #[must_use]
    pub fn of(batch: &Batch<'_>, event: u32) -> Self {
        let (rows, _) = batch.raw().events.as_chunks::<EVENT_STRIDE>();
        let row = rows.get(event as usize).copied().unwrap_or_default();
        Self {
            rank: batch.rank().unwrap_or(u32::MAX),
            medium: (row[0] >> 8) as u8,
            medium_name: row[6],
            group: row[1],
            model: row[5],
        }
    }

    /// False where several names look like one.
    fn certain(&self) -> bool {
        self.medium_name != UNLISTED && self.model != UNLISTED
    }
}

// === impl Held ===

impl Held {
    /// Blocks known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True when nothing is known to be held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Something is missing: nothing that is known is certain any more.
    pub fn doubt(&mut self) {
        *self = Self {
            doubts: true,
            ..Self::default()
        };
    }

    /// The cache of a rank was emptied.
    pub fn clear(&mut self, rank: Option<u32>, room: &mut usize) {
        let rank = rank.unwrap_or(u32::MAX);
        let before = self.blocks.len();
        let places = &self.places;
        let stays = |key: &Key| places.get(key.0 as usize).is_some_and(|p| p.rank != rank);
        self.blocks.retain(|key, _| stays(key));
        *room += before - self.blocks.len();
        if self.blocks.is_empty() {
            *self = Self::default();
        }
    }

    /// Blocks were stored, the first one below `parent`. `room`: for so many new ones.
    pub fn store(
        &mut self,
        place: Place,
        parent: Option<u64>,
        hashes: &[u64],
        room: &mut usize,
    ) -> Stored {
        let Some(place) = self.number(place) else {
            return self.untracked(hashes);
        };
        let known = |hash: &u64| self.blocks.get(&Key(place, *hash));
        let loose = parent.is_some_and(|parent| known(&parent).is_none_or(|block| block.loose));
        let old = |hash: &u64| known(hash).is_some_and(|block| !block.loose);
        let mut stored = Stored {
            passes: loose || !hashes.iter().all(old),
            untracked: 0,
        };
        for hash in hashes {
            match self.blocks.get_mut(&Key(place, *hash)) {
                Some(block) => {
                    block.held = block.held.saturating_add(1);
                    if stored.passes {
                        block.told = block.told.saturating_add(1);
                        block.loose &= loose;
                    }
                }
                None if *room > 0 => {
                    *room -= 1;
                    let (held, told) = (1, 1);
                    self.blocks
                        .insert(Key(place, *hash), Block { held, told, loose });
                }
                None => {
                    stored.untracked += 1;
                    self.doubts = true;
                }
            }
        }
        stored
    }

    /// Blocks were removed.
    pub fn remove(&mut self, place: Place, hashes: &[u64], room: &mut usize) -> Removed {
        let Some(place) = self.number(place) else {
            return Removed::All;
        };
        let mut pass = Vec::new();
        for hash in hashes {
            let key = Key(place, *hash);
            let Some(block) = self.blocks.get_mut(&key) else {
                if self.doubts {
                    pass.push(*hash);
                }
                continue;
            };
            block.held = block.held.saturating_sub(1);
            if block.told > block.held {
                block.told -= 1;
                pass.push(*hash);
            }
            if block.held == 0 {
                self.blocks.remove(&key);
                *room += 1;
            }
        }
        match pass.len() {
            0 => Removed::None,
            all if all == hashes.len() => Removed::All,
            _ => Removed::Some(pass),
        }
    }

    fn untracked(&mut self, hashes: &[u64]) -> Stored {
        self.doubts = true;
        Stored {
            passes: true,
            untracked: hashes.len() as u64,
        }
    }

    /// A place's number, a new one if need be; none: it cannot be told from others.
    fn number(&mut self, place: Place) -> Option<u32> {
        let at = self.places.iter().position(|known| *known == place);
        let at = match at {
            Some(at) => at,
            None if place.certain() && self.places.len() < MAX_PLACES => {
                self.places.push(place);
                self.places.len() - 1
            }
            None => return None,
        };
        u32::try_from(at).ok()
    }

    /// Its state; the order holds as long as nothing is stored or removed.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let places = self.places.iter().map(|place| Record::Place(*place));
        let blocks = self
            .blocks
            .iter()
            .map(|(key, block)| Record::Block(key.0, key.1, block.held, block.told, block.loose));
        std::iter::once(Record::Doubts(self.doubts))
            .chain(places)
            .chain(blocks)
    }

    /// Takes over a record of another build.
    ///
    /// # Errors
    /// It is of no place that came before it.
    pub fn restore(&mut self, record: Record, room: &mut usize) -> Result<(), String> {
        match record {
            Record::Doubts(doubts) => self.doubts |= doubts,
            Record::Place(place) => self.places.push(place),
            Record::Block(place, ..) if place as usize >= self.places.len() => {
                return Err(format!("a block in place {place}, which there is not"));
            }
            // This build has room for fewer: the rest is in doubt.
            Record::Block(..) if *room == 0 => self.doubts = true,
            Record::Block(place, hash, held, told, loose) => {
                *room -= 1;
                self.blocks
                    .insert(Key(place, hash), Block { held, told, loose });
            }
        }
        Ok(())
    }
}
