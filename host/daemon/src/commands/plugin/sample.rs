//! Batches for those who have no recording of their own: a few of every kind for the
//! tests of a new plugin, and many for measuring.

use anyhow::Result;
use bytes::Bytes;
use penstock_peer::encode::{HashForm, Release, Style, encode_batch};
use penstock_peer::event::{Event, Removed, Stored};
use penstock_peer::frames::{FramesWriter, Recorded};
use std::path::Path;

/// Tokens a block of the small sample.
const BLOCK: u32 = 4;
/// 2025-01-01, so that no run differs.
const BEGUN: f64 = 1_735_689_600.0;

/// Batches of the large sample.
const BATCHES: u64 = 2_000;
/// Stored events a batch, blocks an event, and tokens a block.
const LARGE: (u64, u64, u32) = (4, 16, 16);
/// Batches after which blocks are removed again.
const KEPT: u64 = 200;

const STYLE: Style = Style {
    release: Release::Vllm0_26,
    hashes: HashForm::Unsigned,
};

fn stored(first: u64, blocks: u64, parent: Option<u64>, block_size: u32) -> Stored {
    let tokens = first * u64::from(block_size)..(first + blocks) * u64::from(block_size);
    Stored {
        hashes: (first..first + blocks).collect(),
        parent,
        tokens: tokens.map(|t| (t % 150_000) as u32).collect(),
        block_size,
        medium: Some("GPU".into()),
        ..Stored::default()
    }
}

fn removed(hashes: &[u64]) -> Event {
    Event::Removed(Removed {
        hashes: hashes.to_vec(),
        medium: Some("GPU".into()),
        group: None,
    })
}

/// One of each kind, number 3 missing: sequence and payload.
pub fn small() -> Vec<(u64, Vec<u8>)> {
    let adapter = Stored {
        lora_id: Some(1),
        lora_name: Some("sql".into()),
        ..stored(20, 1, None, BLOCK)
    };
    let cpu = Stored {
        medium: Some("CPU".into()),
        ..stored(1, 2, None, BLOCK)
    };
    let batches = [
        (0, vec![Event::Stored(stored(1, 3, None, BLOCK))]),
        (1, vec![Event::Stored(stored(4, 2, Some(3), BLOCK))]),
        (2, vec![removed(&[5]), Event::Stored(adapter)]),
        (4, vec![Event::Stored(cpu)]),
        (5, vec![Event::Cleared]),
    ];
    let payload =
        |(n, events): (u64, Vec<Event>)| (n, encode_batch(BEGUN + n as f64, &events, None, STYLE));
    batches.into_iter().map(payload).collect()
}

/// Writes [`small`] as a recording.
pub fn write(path: &Path) -> Result<()> {
    let mut writer = FramesWriter::create(path)?;
    for (sequence, payload) in small() {
        let sequence = Bytes::copy_from_slice(&sequence.to_be_bytes());
        writer.write(&[Bytes::from_static(b"kv-events"), sequence, payload.into()])?;
    }
    writer.flush()?;
    Ok(())
}

/// Prompts that come and go, in many batches.
pub fn large() -> Vec<Recorded> {
    let (events, blocks, block_size) = LARGE;
    let a_batch = events * blocks;
    let batch = |n: u64| {
        let prompt = |i| {
            Event::Stored(stored(
                1 + n * a_batch + i * blocks,
                blocks,
                None,
                block_size,
            ))
        };
        let mut all: Vec<_> = (0..events).map(prompt).collect();
        if let Some(old) = n.checked_sub(KEPT) {
            let first = 1 + old * a_batch;
            all.push(removed(&(first..first + a_batch).collect::<Vec<_>>()));
        }
        Recorded {
            topic: Bytes::from_static(b"kv-events"),
            sequence: n,
            payload: encode_batch(BEGUN + n as f64, &all, None, STYLE).into(),
        }
    };
    (0..BATCHES).map(batch).collect()
}
