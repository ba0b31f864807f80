mod captures;
mod extras;
mod formats;
mod hashes;
mod hostile;
mod isolation;
mod shapes;
mod splice;
mod write;

use crate::json::Renderer;
use crate::{DecodeError, Decoder, Head};
use penstock_event::{ColumnSet, Columns, Dictionary, Skipped};
use serde_json::Value;
use write::{V, batch};

/// A payload, decoded with every column.
struct Decoded {
    head: Head,
    columns: Columns,
    skipped: Vec<Skipped>,
}

fn try_decode(payload: &[u8]) -> Result<Decoded, DecodeError> {
    let all = try_decode_into(payload, ColumnSet::ALL);
    // Where nobody wants whole hashes, lists of them are read as runs.
    let without = ColumnSet(ColumnSet::ALL.0 & !ColumnSet::WHOLE_HASHES.0);
    match (&all, try_decode_into(payload, without)) {
        (Ok(all), Ok(runs)) => {
            assert_eq!(all.columns.hashes, runs.columns.hashes);
            assert_eq!(all.columns.events, runs.columns.events);
            assert_eq!(all.skipped, runs.skipped);
        }
        (all, runs) => assert_eq!(all.as_ref().err(), runs.err().as_ref()),
    }
    all
}

fn try_decode_into(payload: &[u8], wanted: ColumnSet) -> Result<Decoded, DecodeError> {
    let (mut columns, mut skipped) = (Columns::default(), Vec::new());
    let head = Decoder::default().decode(
        payload,
        wanted,
        &Dictionary::default(),
        &mut columns,
        &mut skipped,
    )?;
    Ok(Decoded {
        head,
        columns,
        skipped,
    })
}

fn decode(payload: &[u8]) -> Decoded {
    try_decode(payload).unwrap()
}

fn lines(payload: &[u8]) -> Vec<Value> {
    Renderer::default().lines(0, payload)
}

/// One event in an ordinary batch, as JSON.
fn line(event: V) -> Value {
    let mut lines = lines(&batch(vec![event]));
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

/// The code with which one event in an ordinary batch is skipped.
fn code(event: V) -> &'static str {
    let decoded = decode(&batch(vec![event]));
    assert!(decoded.columns.is_empty());
    assert_eq!(decoded.skipped.len(), 1);
    decoded.skipped[0].code
}
