//! What is spliced out of a payload, decoded again.

use super::captures::payloads;
use super::write::{V, batch};
use super::{decode, try_decode};
use crate::{Part, events, splice};
use penstock_event::{ColumnSet, Columns, Dictionary, EVENT_STRIDE, Skipped, flags};
use serde_json::Value;

/// Every recording there is.
const CAPTURES: [&str; 3] = ["vllm-0.9.2", "vllm-0.32.0-engine", "sglang-0.5.23"];

fn lines(payload: &[u8]) -> Vec<Value> {
    crate::json::Renderer::default().lines(0, payload)
}

/// An event as a consumer sees it, without its place in the batch.
fn shown(payload: &[u8]) -> Vec<String> {
    let hide = |mut line: Value| {
        if let Some(line) = line.as_object_mut() {
            line.remove("event");
        }
        line.to_string()
    };
    lines(payload).into_iter().map(hide).collect()
}

fn kept(indices: impl IntoIterator<Item = u32>) -> Vec<Part<'static>> {
    indices.into_iter().map(Part::Kept).collect()
}

#[test]
fn any_subset_of_a_recording_decodes_to_that_subset() {
    for name in CAPTURES {
        for (sequence, payload) in payloads(name) {
            let whole = decode(&payload);
            let count = whole.columns.len() as u32;
            let all = splice(&payload, &whole.skipped, &kept(0..count)).unwrap();
            assert_eq!(decode(&all).columns, whole.columns, "{name} {sequence}");
            let before = shown(&payload);
            for step in [2, 3] {
                let chosen: Vec<u32> = (0..count)
                    .filter(|i| (u64::from(*i) + sequence) % step == 0)
                    .collect();
                let some = splice(&payload, &whole.skipped, &kept(chosen.iter().copied())).unwrap();
                let expected: Vec<_> = chosen.iter().map(|i| before[*i as usize].clone()).collect();
                assert_eq!(shown(&some), expected, "{name} {sequence}");
                assert_eq!(decode(&some).head, whole.head);
            }
            let none = decode(&splice(&payload, &whole.skipped, &[]).unwrap());
            assert!(none.columns.is_empty() && none.head == whole.head);
        }
    }
}

fn removed(hash: u64) -> V {
    V::A(vec![
        V::S("BlockRemoved"),
        V::A(vec![V::U(hash)]),
        V::S("GPU"),
    ])
}

#[test]
fn what_was_skipped_stays_and_order_is_the_callers() {
    let bad = V::A(vec![V::S("BlockRemoved"), V::S("no list")]);
    let payload = batch(vec![removed(1), bad, removed(2), removed(3)]);
    let whole = decode(&payload);
    assert_eq!(whole.skipped.len(), 1);
    let parts = [Part::Kept(2), Part::Kept(0)];
    let spliced = splice(&payload, &whole.skipped, &parts).unwrap();
    let found = decode(&spliced);
    assert_eq!(found.columns.hashes, [3, 1]);
    let lost = |skipped: &[Skipped]| skipped.iter().map(|s| (s.lost, s.code)).collect::<Vec<_>>();
    assert_eq!(lost(&found.skipped), lost(&whole.skipped));
    let none = decode(&splice(&payload, &whole.skipped, &[]).unwrap());
    assert_eq!(lost(&none.skipped), lost(&whole.skipped));
}

#[test]
fn a_payload_that_breaks_off_stays_broken() {
    let whole = batch(vec![removed(1), removed(2), removed(3), removed(4)]);
    for cut in 1..12 {
        let payload = &whole[..whole.len() - cut];
        let Ok(before) = try_decode(payload) else {
            continue;
        };
        if before.columns.len() < 2 {
            continue;
        }
        let spliced = splice(payload, &before.skipped, &[Part::Kept(1)]).unwrap();
        let after = decode(&spliced);
        assert_eq!(after.columns.hashes, [2], "cut {cut}");
        let lost = |skipped: &[Skipped]| skipped.iter().map(|s| s.lost).sum::<u32>();
        assert_eq!(lost(&after.skipped), lost(&before.skipped), "cut {cut}");
    }
}

#[test]
fn what_is_no_batch_is_an_error() {
    for payload in [
        &b""[..],
        b"\xc0",
        b"\x92\xc0\xc0",
        b"\x81\xa1x\xc0",
        b"\x91\x90",
    ] {
        assert!(splice(payload, &[], &[]).is_err(), "{payload:?}");
    }
}

/// Columns of recordings, written and read again: what plugins may send is nearly all
/// that there is.
#[test]
fn recordings_survive_being_written_anew() {
    for name in CAPTURES {
        let names = Dictionary::default();
        let mut decoder = crate::Decoder::default();
        let mut read = |payload: &[u8]| {
            let (mut columns, mut skipped) = (Columns::default(), Vec::new());
            let want = ColumnSet(ColumnSet::TOKENS.0 | ColumnSet::TOKEN_HASHES.0);
            decoder
                .decode(payload, want, &names, &mut columns, &mut skipped)
                .unwrap();
            columns
        };
        for (sequence, payload) in payloads(name) {
            let mut before = read(&payload);
            let made = events(&before, &names);
            let parts: Vec<_> = made.iter().map(|bytes| Part::Made(bytes)).collect();
            let mut after = read(&splice(&payload, &[], &parts).unwrap());
            // Extra keys and times have no column of their own.
            let hide = !((flags::EXTRA_KEYS | flags::TIME) << 16);
            for columns in [&mut before, &mut after] {
                columns
                    .events
                    .iter_mut()
                    .step_by(EVENT_STRIDE)
                    .for_each(|word| *word &= hide);
            }
            assert_eq!(before.events, after.events, "{name} {sequence}");
            assert_eq!(before.hashes, after.hashes);
            assert_eq!(before.parents, after.parents);
            assert_eq!(before.tokens, after.tokens);
        }
    }
}
