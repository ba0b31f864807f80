//! What this crate encodes, the decoder reads: every release, one meaning.

#![allow(clippy::unwrap_used, reason = "a test's helpers too")]

use penstock_decode::Decoder;
use penstock_event::{ColumnSet, Columns, Dictionary, Kind};
use penstock_peer::encode::{HashForm, RELEASES, Release, Style, encode_batch};
use penstock_peer::event::Event;
use penstock_peer::trace::{Trace, TraceConfig, TraceEngine, Workload, WorkloadConfig};
use std::path::Path;
use std::sync::Arc;

fn batches() -> Vec<Vec<Event>> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/traces/mooncake_trace_1000.jsonl");
    let config = WorkloadConfig {
        adapter_share: 0.3,
        ..WorkloadConfig::default()
    };
    let workload = Workload::new(Arc::new(Trace::load(&path).unwrap()), config);
    let config = TraceConfig {
        capacity_blocks: 4_000,
        clear_every: Some(10),
        group: Some(0),
        ..TraceConfig::default()
    };
    let engine = TraceEngine::new(Arc::new(workload), config);
    engine.take(150).map(|batch| batch.events).collect()
}

#[test]
fn every_release_means_the_same() {
    let batches = batches();
    let all = || batches.iter().flatten();
    assert!(all().any(|e| matches!(e, Event::Cleared)));
    assert!(all().any(|e| matches!(e, Event::Removed(_))));
    for (name, release) in RELEASES {
        for hashes in [HashForm::Unsigned, HashForm::Signed, HashForm::Bytes] {
            let style = Style { release, hashes };
            let mut decoder = Decoder::default();
            let dictionary = Dictionary::default();
            for events in &batches {
                let payload = encode_batch(1.5, events, Some(3), style);
                let (mut columns, mut skipped) = (Columns::default(), Vec::new());
                let head = decoder
                    .decode(
                        &payload,
                        ColumnSet::ALL,
                        &dictionary,
                        &mut columns,
                        &mut skipped,
                    )
                    .unwrap_or_else(|e| panic!("{name} {hashes:?}: {e}"));
                assert_eq!(skipped, [], "{name} {hashes:?}");
                let ranked = !matches!(release, Release::Aibrix | Release::Vllm0_9_0);
                assert_eq!(head.rank, ranked.then_some(3), "{name}");
                same(name, events, &columns);
            }
        }
    }
}

fn same(name: &str, events: &[Event], columns: &Columns) {
    assert_eq!(columns.len(), events.len(), "{name}");
    for (at, event) in events.iter().enumerate() {
        let row = columns.event(at);
        let blocks = &columns.hashes[columns.blocks(at)];
        match event {
            Event::Stored(e) => {
                assert_eq!(row.kind, Kind::Stored, "{name}");
                assert_eq!(blocks, e.hashes, "{name}");
                assert_eq!(columns.tokens_of(at), e.tokens, "{name}");
                assert_eq!(columns.parents[at], e.parent.unwrap_or(0), "{name}");
                assert_eq!(row.block_size, e.block_size, "{name}");
            }
            Event::Removed(e) => {
                assert_eq!(row.kind, Kind::Removed, "{name}");
                assert_eq!(blocks, e.hashes, "{name}");
            }
            Event::Cleared => assert_eq!(row.kind, Kind::Cleared, "{name}"),
        }
    }
}
