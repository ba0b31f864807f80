//! The publishers' log, as it goes to the judge: 32 bytes an entry, little endian.
//!
//! ```text
//! engine u32 | kind u32 | sequence u64 | digest u64 | time u64
//! kind: 0 a batch is about to be published | 1 a phase begins, its number in `sequence`
//! ```

use std::io::{Read, Result, Write};

/// Bytes of an entry.
const BYTES: usize = 32;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A batch is about to be published.
    Batch {
        /// By whom.
        engine: u32,
        /// Its number.
        sequence: u64,
        /// XXH3-64 of the payload.
        digest: u64,
        /// When, in ns.
        at: u64,
    },
    /// Something else begins.
    Phase(u64),
}

// === impl Entry ===

impl Entry {
    pub fn write(self, to: &mut impl Write) -> Result<()> {
        let (engine, kind, numbers) = match self {
            Self::Batch {
                engine,
                sequence,
                digest,
                at,
            } => (engine, 0u32, [sequence, digest, at]),
            Self::Phase(number) => (0, 1, [number, 0, 0]),
        };
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(&engine.to_le_bytes());
        bytes[4..8].copy_from_slice(&kind.to_le_bytes());
        for (at, number) in numbers.iter().enumerate() {
            bytes[8 + 8 * at..16 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        to.write_all(&bytes)
    }

    /// The next one; an error at the end.
    pub fn read(from: &mut impl Read) -> Result<Self> {
        let mut bytes = [0; BYTES];
        from.read_exact(&mut bytes)?;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let first = word(0);
        Ok(match first >> 32 {
            0 => Self::Batch {
                engine: first as u32,
                sequence: word(8),
                digest: word(16),
                at: word(24),
            },
            _ => Self::Phase(word(8)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let entries = [
            Entry::Batch {
                engine: 3,
                sequence: 1 << 40,
                digest: u64::MAX - 5,
                at: 77,
            },
            Entry::Phase(2),
        ];
        let mut bytes = Vec::new();
        entries.iter().for_each(|e| e.write(&mut bytes).unwrap());
        let mut from = bytes.as_slice();
        let read = std::array::from_fn(|_| Entry::read(&mut from).unwrap());
        assert_eq!(entries, read);
        assert!(Entry::read(&mut from).is_err());
    }
}
