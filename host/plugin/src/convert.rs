//! Between the host's types and those of the interface. Columns go as slices;
//! what comes back is checked.

use crate::bindings::base::exports::penstock::plugin::guest;
use crate::bindings::lookup::exports::penstock::plugin::lookup;
use penstock_event::{Batch, By, Change, ColumnSet, Epoch, Position, Query, Row, SourceId};
use std::collections::HashMap;

/// Words of `u32` that one row of an answer takes.
const ROW_STRIDE: usize = 8;

/// "None" of an optional rank.
const NO_RANK: u32 = u32::MAX;

/// The columns of the interface's `more-columns`.
const MORE: ColumnSet = ColumnSet(
    ColumnSet::TOKENS.0 | ColumnSet::WHOLE_HASHES.0 | ColumnSet::TIMES.0 | ColumnSet::PAYLOAD.0,
);

/// A batch as the guest sees it: only the columns it asked for.
pub(crate) fn batch(batch: &Batch, wants: ColumnSet) -> guest::Batch<'_> {
    let c = &*batch.columns;
    guest::Batch {
        source: batch.source.0,
        epoch: batch.epoch.0,
        sequence: batch.sequence,
        rank: batch.rank.unwrap_or(NO_RANK),
        published: batch.published_us,
        received: batch.received_us,
        skipped: batch.skipped_events(),
        events: &c.events,
        parents: &c.parents,
        hashes: &c.hashes,
        token_hashes: if_asked(wants.contains(ColumnSet::TOKEN_HASHES), &c.token_hashes),
        extra_digests: if_asked(wants.contains(ColumnSet::EXTRA_DIGESTS), &c.extra_digests),
        more: wants.intersects(MORE).then(|| more_columns(batch, wants)),
    }
}

fn more_columns(batch: &Batch, wants: ColumnSet) -> guest::MoreColumns<'_> {
    let c = &*batch.columns;
    let tokens = wants.contains(ColumnSet::TOKENS);
    let whole = wants.contains(ColumnSet::WHOLE_HASHES);
    guest::MoreColumns {
        tokens: if_asked(tokens, &c.tokens),
        token_ends: if_asked(tokens, &c.token_ends),
        whole_hashes: if_asked(whole, &c.whole_hashes),
        whole_hash_ends: if_asked(whole, &c.whole_hash_ends),
        times: if_asked(wants.contains(ColumnSet::TIMES), &c.times),
        payload: if_asked(wants.contains(ColumnSet::PAYLOAD), &batch.payload),
    }
}

fn if_asked<T>(yes: bool, column: &[T]) -> &[T] {
    if yes { column } else { &[] }
}

/// A change of the given kind, with nothing else in it.
pub(crate) fn change(source: SourceId, kind: u8) -> guest::SourceChange<'static> {
    guest::SourceChange {
        source: source.0,
        kind,
        epoch: 0,
        first: 0,
        last: 0,
        reason: 0,
        info: None,
        entries: &[],
    }
}

/// The position that messages caused by a change carry: none that a batch ever
/// has. `now` is where the source stands.
pub(crate) fn position(change: &Change, now: Option<Position>) -> Option<Position> {
    let end_of = |epoch| Position {
        epoch,
        sequence: u64::MAX,
    };
    match change {
        Change::Joined(_) => None,
        Change::Left(_) => Some(end_of(now.map_or(Epoch::default(), |p| p.epoch))),
        Change::Reset { epoch, .. } => Some(end_of(Epoch(epoch.0.saturating_sub(1)))),
        Change::Gap { epoch, last, .. } => Some(Position {
            epoch: *epoch,
            sequence: *last,
        }),
    }
}

/// A question as the guest sees it.
pub(crate) fn query(query: &Query) -> lookup::Query<'_> {
    let (by, tokens, hashes): (u8, &[u32], &[u64]) = match &query.by {
        By::Tokens(tokens) => (0, tokens, &[]),
        By::TokenHashes(hashes) => (1, &[], hashes),
        By::EngineHashes(hashes) => (2, &[], hashes),
    };
    lookup::Query {
        model: &query.model,
        adapter: &query.adapter,
        salt: &query.salt,
        by,
        tokens,
        hashes,
    }
}

/// Reads an answer's words. A guest can say anything: rows must be whole, about
/// sources it knows, and no longer than the question.
///
/// # Errors
/// What cannot be true.
pub(crate) fn rows<V>(
    words: &[u32],
    query: &Query,
    sources: &HashMap<SourceId, V>,
) -> Result<Vec<Row>, String> {
    let (rows, rest) = words.as_chunks::<ROW_STRIDE>();
    if !rest.is_empty() {
        return Err(format!("{} words are no rows of {ROW_STRIDE}", words.len()));
    }
    let mut out = Vec::with_capacity(rows.len());
    for &[source, rank, blocks, tokens, gpu, cpu, disk, other] in rows {
        if !sources.contains_key(&SourceId(source)) {
            return Err(format!("source {source} is not one of its sources"));
        }
        let asked = match &query.by {
            By::Tokens(asked) => (asked.len(), tokens, "tokens"),
            By::TokenHashes(asked) | By::EngineHashes(asked) => (asked.len(), blocks, "blocks"),
        };
        if asked.1 as usize > asked.0 {
            return Err(format!("{} {} held of {} asked", asked.1, asked.2, asked.0));
        }
        if gpu.max(cpu).max(disk).max(other) > tokens {
            return Err(format!("more tokens in one medium than the {tokens} held"));
        }
        if blocks == 0 {
            continue;
        }
        out.push(Row {
            source,
            rank,
            blocks,
            tokens,
            gpu,
            cpu,
            disk,
            other,
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ask(by: By) -> Query {
        Query {
            model: "m".into(),
            adapter: String::new(),
            salt: String::new(),
            by,
            deadline: Duration::from_secs(1),
            include_stale: false,
        }
    }

    #[test]
    fn answers_that_cannot_be_true_are_refused() {
        let known = HashMap::from([(SourceId(3), ())]);
        let tokens = ask(By::Tokens([1, 2, 3, 4].into()));
        let read = |words: &[u32]| rows(words, &tokens, &known);
        let good = read(&[3, 0, 2, 4, 4, 0, 0, 0]).unwrap();
        assert_eq!((good[0].blocks, good[0].gpu), (2, 4));
        assert_eq!(read(&[3, 0, 0, 0, 0, 0, 0, 0]), Ok(vec![]));
        assert!(read(&[3, 0, 2]).is_err());
        assert!(read(&[4, 0, 2, 4, 4, 0, 0, 0]).is_err());
        assert!(read(&[3, 0, 2, 5, 4, 0, 0, 0]).is_err());
        assert!(read(&[3, 0, 2, 4, 0, 5, 0, 0]).is_err());
        let hashes = ask(By::EngineHashes([1].into()));
        assert!(rows(&[3, 0, 2, 0, 0, 0, 0, 0], &hashes, &known).is_err());
    }

    #[test]
    fn changes_have_positions_that_no_batch_has() {
        let at = |epoch, sequence| Position {
            epoch: Epoch(epoch),
            sequence,
        };
        let (source, epoch) = (SourceId(1), Epoch(3));
        let reset = Change::Reset {
            source,
            epoch,
            reason: penstock_event::ResetReason::Backwards,
        };
        let gap = Change::Gap {
            source,
            epoch,
            first: 4,
            last: 9,
            reason: penstock_event::GapReason::Truncated,
        };
        let left = Change::Left(source);
        assert_eq!(position(&reset, None), Some(at(2, u64::MAX)));
        assert_eq!(position(&gap, None), Some(at(3, 9)));
        assert_eq!(position(&left, Some(at(3, 12))), Some(at(3, u64::MAX)));
        assert_eq!(position(&left, None), Some(at(0, u64::MAX)));
    }

    #[test]
    fn columns_not_asked_for_stay_here() {
        let columns = penstock_event::Columns {
            tokens: vec![1, 2],
            token_hashes: vec![9],
            ..Default::default()
        };
        let batch = Batch {
            source: SourceId(1),
            epoch: penstock_event::Epoch(2),
            sequence: 3,
            rank: None,
            published_us: 4,
            received_us: 5,
            replayed: false,
            dictionary_len: 0,
            columns: columns.into(),
            payload: bytes::Bytes::from_static(b"raw"),
            digest: 0,
            skipped: Vec::new(),
        };
        let seen = super::batch(&batch, ColumnSet::TOKEN_HASHES);
        assert_eq!(seen.token_hashes, [9]);
        assert!(seen.more.is_none());
        assert_eq!((seen.rank, seen.epoch, seen.sequence), (u32::MAX, 2, 3));
        let more = super::batch(&batch, ColumnSet::PAYLOAD).more.unwrap();
        assert_eq!((more.payload, more.tokens), (&b"raw"[..], &[][..]));
    }
}
