//! Answers that are not so: what a host must check, cut or refuse.
//!
//! | fault | in | answer |
//! |---|---|---|
//! | `lie-refusals` | on-batch | events that the batch does not have, code 0 and the largest |
//! | `lie-refusals-huge` | on-batch | 4,000,000 refusals |
//! | `lie-rows-unknown` | find | sources that do not exist |
//! | `lie-rows-length` | find | 13 words, which are no rows |
//! | `lie-rows-absurd` | find | every number at its largest, and the same row twice |
//! | `lie-rows-huge` | find | 2,000,000 rows |
//! | `lie-reply-huge` | handle | 64 MiB |
//! | `lie-interval` | interval | 0 ms |
//! | `lie-piece-huge` | snapshot | 1 byte and 16 MiB above what was asked |
//! | `lie-piece-endless` | snapshot | always one more piece, from the same cursor |
//! | `lie-piece-wrong` | snapshot | bytes that `restore` does not take |

use crate::faults::Fault;
use penstock_sdk::{Piece, Refused, Row};

/// Adds refusals that are not so.
pub fn refusals(fault: Fault, refused: &mut Refused) {
    match fault {
        Fault::LieRefusals => {
            for (event, code) in [(u32::MAX, 1), (0, 0), (0, u32::MAX), (0, 1), (0, 1)] {
                refused.event(event, code);
            }
        }
        Fault::LieRefusalsHuge => {
            for i in 0..4_000_000 {
                refused.event(i, i);
            }
        }
        _ => {}
    }
}

/// Rows that are not so.
#[must_use]
pub fn rows(fault: Fault) -> Option<Vec<u32>> {
    let row = |source| Row {
        source,
        blocks: 1,
        tokens: 16,
        gpu: 16,
        ..Row::default()
    };
    let rows = match fault {
        Fault::LieRowsUnknown => vec![row(u32::MAX), row(u32::MAX - 1), row(1 << 30)],
        Fault::LieRowsLength => return Some(vec![1; 13]),
        Fault::LieRowsAbsurd => {
            let most = Row::from_words(&[0, 0, u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0, 1]);
            let same = Row { source: 1, ..most };
            vec![
                most,
                most,
                same,
                Row {
                    rank: u32::MAX,
                    ..same
                },
            ]
        }
        Fault::LieRowsHuge => vec![row(0); 2_000_000],
        _ => return None,
    };
    Some(rows.iter().flat_map(|row| row.to_words()).collect())
}

/// A reply that is too large.
#[must_use]
pub fn reply(fault: Fault) -> Option<Vec<u8>> {
    (fault == Fault::LieReplyHuge).then(|| vec![b'x'; 64 << 20])
}

/// Milliseconds between ticks.
#[must_use]
pub fn interval(fault: Fault) -> u32 {
    match fault {
        Fault::LieInterval => 0,
        _ => u32::MAX,
    }
}

/// A piece of state that is not so.
#[must_use]
pub fn piece(fault: Fault, cursor: u64, max_bytes: u32) -> Option<Piece> {
    let (bytes, next) = match fault {
        Fault::LiePieceHuge => (vec![0; max_bytes as usize + 1 + (16 << 20)], None),
        Fault::LiePieceEndless => (vec![0; 8], Some(cursor)),
        Fault::LiePieceWrong => (vec![0; 3], None),
        _ => return None,
    };
    Some(Piece { bytes, next })
}
