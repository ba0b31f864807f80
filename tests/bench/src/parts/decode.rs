//! Payload bytes to the columns that `prefix-index` asks for, token hashes included; beside it
//! Dynamo's `decode_event_batch`, which hashes nothing. Stored events alone: a removed block
//! has no tokens and would flatter the figure.

use crate::measure::{ns_each, thread_time, warmed};
use crate::peer::Peer;
use crate::report::{Beside, Row};
use crate::stream::Stream;
use anyhow::{Result, ensure};
use penstock_decode::Decoder;
use penstock_event::{ColumnSet, Columns, Dictionary};

/// Blocks decoded in one sample: more bytes than caches hold.
const BLOCKS: usize = 200_000;

/// What `prefix-index` asks for.
pub const WANTED: ColumnSet = ColumnSet(ColumnSet::TOKEN_HASHES.0 | ColumnSet::EXTRA_DIGESTS.0);

/// Row, style, events a batch, and for whom it stands.
const CASES: [(&str, &str, usize, &str); 4] = [
    (
        "decode-maps-1",
        "vllm-0.33",
        1,
        "vLLM, maps, 1 event a batch",
    ),
    (
        "decode-maps-4",
        "vllm-0.33",
        4,
        "vLLM, maps, 4 events a batch",
    ),
    (
        "decode-maps-64",
        "vllm-0.33",
        64,
        "vLLM, maps, 64 events a batch",
    ),
    (
        "decode-arrays-4",
        "vllm-0.9",
        4,
        "vLLM up to 0.23, arrays, 4 events a batch",
    ),
];

/// Both sides in turn, round by round.
pub fn run(rounds: usize, peer: &mut Peer) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, style, events, what) in CASES {
        eprintln!("{name}: {rounds} rounds of {BLOCKS} blocks");
        let stream = Stream::stored(style, events, BLOCKS)?;
        peer.load(&stream, 16)?;
        let mut decoder = Decoder::default();
        let (ours, theirs) = warmed(
            rounds,
            || sample(&stream, &mut decoder),
            || {
                let decoded = peer.decode()?;
                let blocks = (decoded.stored, decoded.removed);
                ensure!(
                    blocks == (stream.work.blocks, stream.work.removes),
                    "{name}: the peer decodes {blocks:?} blocks"
                );
                Ok(decoded.ns as f64 / decoded.stored as f64)
            },
        )?;
        rows.push(Row {
            name,
            what: format!("decode: {what}"),
            unit: "ns/block",
            ours,
            beside: Some(Beside::times_faster(&peer.version, theirs)),
            work: stream.work,
            ..Row::default()
        });
    }
    Ok(rows)
}

fn sample(stream: &Stream, decoder: &mut Decoder) -> Result<f64> {
    let dictionary = Dictionary::default();
    let (mut columns, mut skipped) = (Columns::default(), Vec::new());
    let (mut blocks, mut without) = (0, 0);
    let begun = thread_time();
    for (_, payload) in &stream.payloads {
        decoder.decode(payload, WANTED, &dictionary, &mut columns, &mut skipped)?;
        blocks += columns.hashes.len() as u64;
        without += usize::from(columns.token_hashes.last().is_none_or(|hash| *hash == 0));
    }
    let time = thread_time().saturating_sub(begun);
    let expected = stream.work.blocks;
    ensure!(blocks == expected, "decoded {blocks} blocks of {expected}");
    ensure!(skipped.is_empty(), "events were skipped");
    ensure!(
        without == 0,
        "{without} batches have no token hash at their end"
    );
    Ok(ns_each(time, blocks))
}
