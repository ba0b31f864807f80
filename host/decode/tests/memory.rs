//! What the decoder allocates: nothing once warm, and never far beyond the payload.

#![allow(clippy::unwrap_used)]

use penstock_decode::Decoder;
use penstock_event::{ColumnSet, Columns, Dictionary};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

/// Of one thread: the test harness allocates on others meanwhile.
#[derive(Clone, Copy)]
struct Counts {
    calls: usize,
    held: isize,
    peak: isize,
}

thread_local! {
    static COUNTS: Cell<Counts> = const {
        Cell::new(Counts { calls: 0, held: 0, peak: 0 })
    };
}

fn count(calls: usize, bytes: isize) {
    // Gone only while the thread ends.
    let _ = COUNTS.try_with(|counts| {
        let mut now = counts.get();
        now.calls += calls;
        now.held += bytes;
        now.peak = now.peak.max(now.held);
        counts.set(now);
    });
}

// An allocator cannot be written without `unsafe`; this one only counts and
// passes on.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `work` did: allocations, bytes at the peak, bytes still held.
fn counted(work: impl FnOnce()) -> (usize, isize, isize) {
    let start = COUNTS.get();
    COUNTS.set(Counts {
        peak: start.held,
        ..start
    });
    work();
    let end = COUNTS.get();
    (
        end.calls - start.calls,
        end.peak - start.held,
        end.held - start.held,
    )
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    rmp::encode::write_str(bytes, text).unwrap();
}

fn list(bytes: &mut Vec<u8>, values: impl ExactSizeIterator<Item = u32>) {
    rmp::encode::write_array_len(bytes, values.len() as u32).unwrap();
    for value in values {
        rmp::encode::write_uint(bytes, u64::from(value)).unwrap();
    }
}

/// A batch of one event with everything that needs memory.
fn rich() -> Vec<u8> {
    let mut bytes = vec![0x92, 0xc0, 0x91, 0x88];
    string(&mut bytes, "type");
    string(&mut bytes, "BlockStored");
    string(&mut bytes, "block_hashes");
    list(&mut bytes, 0..8u32);
    string(&mut bytes, "token_ids");
    list(&mut bytes, (0..128u32).map(|t| t * 500));
    string(&mut bytes, "block_size");
    bytes.push(16);
    for (key, name) in [
        ("lora_name", "ada"),
        ("cache_salt", "s"),
        ("medium", "TAPE"),
    ] {
        string(&mut bytes, key);
        string(&mut bytes, name);
    }
    string(&mut bytes, "extra_keys");
    bytes.push(0x98);
    for _ in 0..8 {
        // [["ab", 0]]
        bytes.extend([0x91, 0x92, 0xa2, b'a', b'b', 0]);
    }
    bytes
}

#[test]
fn a_warm_decoder_does_not_allocate() {
    let payload = rich();
    let dictionary = Dictionary::default();
    let mut decoder = Decoder::default();
    let (mut columns, mut skipped) = (Columns::default(), Vec::new());
    for want in [
        ColumnSet::default(),
        ColumnSet::TOKEN_HASHES,
        ColumnSet::ALL,
    ] {
        let mut decode = || {
            decoder
                .decode(&payload, want, &dictionary, &mut columns, &mut skipped)
                .unwrap();
        };
        decode();
        let (calls, ..) = counted(|| (0..100).for_each(|_| decode()));
        assert_eq!(calls, 0, "{want:?}");
    }
    assert_eq!(columns.hashes.len(), 8);
    assert!(skipped.is_empty());
}

/// A stored event with one giant field: `head`, then `SIZE` times `fill`.
fn giant(key: &str, head: &[u8], fill: u8) -> Vec<u8> {
    let mut bytes = vec![0x92, 0xc0, 0x91, 0x83];
    string(&mut bytes, "type");
    string(&mut bytes, "BlockStored");
    if key != "block_hashes" {
        string(&mut bytes, "block_hashes");
        bytes.push(0x90);
    } else {
        bytes.extend([0xa0, 0xc0]);
    }
    string(&mut bytes, key);
    bytes.extend_from_slice(head);
    bytes.resize(bytes.len() + SIZE, fill);
    bytes
}

/// Below a million, so that as many hashes of a byte are no reason to refuse.
const SIZE: usize = 900_000;

#[test]
fn large_payloads_stay_within_a_few_times_their_size() {
    let claim = |marker: u8, len: usize| {
        let mut head = vec![marker];
        head.extend((len as u32).to_be_bytes());
        head
    };
    let list = || claim(0xdd, SIZE);
    let text = || claim(0xdb, SIZE);
    // Times the payload that may be held. A hash of a byte is the worst: four
    // columns of 8 bytes and one of 4, some of them twice while they grow.
    let table = [
        ("tokens of a byte", giant("token_ids", &list(), 1), 5),
        ("tokens that are none", giant("token_ids", &list(), 0xc2), 5),
        ("empty token lists", giant("token_ids", &list(), 0x90), 1),
        ("hashes of a byte", giant("block_hashes", &list(), 1), 48),
        ("extra keys", giant("extra_keys", &list(), 0x90), 1),
        ("an unknown string", giant("x", &text(), 1), 1),
        ("an unknown list", giant("x", &list(), 0x90), 1),
        ("nesting", giant("x", &[], 0x91), 1),
        ("a lie", giant("token_ids", &claim(0xdd, 1 << 31), 1), 1),
        ("a long name", giant("lora_name", &text(), b'x'), 1),
    ];
    for (name, payload, times) in table {
        for want in [ColumnSet::TOKEN_HASHES, ColumnSet::ALL] {
            let mut decoder = Decoder::default();
            let (_, peak, held) = counted(|| {
                let (mut columns, mut skipped) = (Columns::default(), Vec::new());
                let done = decoder.decode(
                    &payload,
                    want,
                    &Dictionary::default(),
                    &mut columns,
                    &mut skipped,
                );
                assert!(done.is_ok(), "{name}: {done:?}");
                assert_eq!(columns.len() + skipped.len(), 1, "{name}");
            });
            let most = times * payload.len() as isize + 1024;
            assert!(peak <= most, "{name}: {peak} bytes, {most} allowed");
            // What stays with the decoder is what an ordinary batch needs.
            assert!(held <= 512 << 10, "{name}: {held} bytes kept");
        }
    }
}
