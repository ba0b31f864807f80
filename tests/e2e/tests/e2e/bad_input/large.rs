use super::{gaps, lives};
use crate::rig::{CALM, Hand, healthy};
use penstock_testkit::daemon::{Daemon, Setup};
use penstock_testkit::wait;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// The largest message that passes by default.
const LARGEST: usize = 64 << 20;

fn start(engine: &Hand) -> Daemon {
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine.source(setup, "e").start();
    engine.wait_subscribers(1);
    lives(engine, &daemon, 1);
    daemon
}

/// `[1, [events…], nil]`, every event the same.
fn events(count: u32, event: &[u8]) -> Vec<u8> {
    let mut payload = b"\x93\x01\xdd".to_vec();
    payload.extend(count.to_be_bytes());
    for _ in 0..count {
        payload.extend_from_slice(event);
    }
    payload.push(0xc0);
    payload
}

/// A store of one block with so many tokens, of five bytes each.
fn tokens(count: u32) -> Vec<u8> {
    let mut event = b"\x95\xabBlockStored\x91\x07\xc0\xdd".to_vec();
    event.extend(count.to_be_bytes());
    for token in 0..count {
        event.push(0xce);
        event.extend((token | 1 << 16).to_be_bytes());
    }
    event.push(0xce);
    event.extend(count.to_be_bytes());
    event
}

/// A payload made as long as may be by its last element, which nobody reads.
fn padded(mut payload: Vec<u8>) -> Vec<u8> {
    payload.pop();
    let rest = LARGEST - payload.len() - 5;
    payload.push(0xc6);
    payload.extend((rest as u32).to_be_bytes());
    payload.resize(LARGEST, 0);
    payload
}

#[test]
fn sixty_four_mebibytes_do_no_harm() {
    let engine = Hand::start();
    let daemon = start(&engine);
    let cases = [
        ("nothing but padding", padded(events(0, b""))),
        ("one long prompt", events(1, &tokens(13_400_000))),
        ("many prompts", padded(events(60_000, &tokens(200)))),
        (
            "as many events as may be",
            padded(events(65_536, b"\x91\xb0AllBlocksCleared")),
        ),
        ("garbage", vec![0xc1; LARGEST]),
        ("zeros", vec![0; LARGEST]),
    ];
    for (at, (what, payload)) in cases.into_iter().enumerate() {
        assert!(
            payload.len() <= LARGEST && payload.len() > LARGEST - (1 << 20),
            "{what}"
        );
        let start = daemon.process.memory();
        forget_peak(&daemon);
        let payload_bytes = payload.len() as u64;
        engine.publish(payload);
        lives(&engine, &daemon, 2 + at as u64);
        let peak = daemon.process.peak_memory().saturating_sub(start);
        let since = Instant::now();
        let back = wait::within(Duration::from_secs(5), || {
            (daemon.process.memory() < start + 32 * MIB).then_some(())
        });
        let now = daemon.process.memory().saturating_sub(start);
        eprintln!(
            "{what}: {} MiB at the peak, {} MiB after {:?}",
            peak / MIB,
            now / MIB,
            since.elapsed()
        );
        assert!(peak <= 6 * payload_bytes, "{what}: {} MiB", peak / MIB);
        assert!(back.is_some(), "{what}: {} MiB stay", now / MIB);
    }
    assert!(healthy(&daemon));
    assert_eq!(daemon.process.line("panicked"), None);
}

/// VmHWM begins anew.
fn forget_peak(daemon: &Daemon) {
    let file = format!("/proc/{}/clear_refs", daemon.process.pid());
    std::fs::write(file, "5").unwrap();
}

#[test]
fn batches_above_the_limits_are_refused_and_told() {
    let engine = Hand::start();
    let daemon = start(&engine);
    let mut blocks = b"\x92\xacBlockRemoved\xdd".to_vec();
    blocks.extend(1_000_001u32.to_be_bytes());
    blocks.resize(blocks.len() + 1_000_001, 5);
    let cleared = b"\x91\xb0AllBlocksCleared";
    let cases = [
        (events(65_537, cleared), Some("too_many_events")),
        (events(1, &blocks), Some("too_many_blocks")),
        (events(65_536, cleared), None),
    ];
    let mut expected = Vec::new();
    for (at, (payload, code)) in cases.into_iter().enumerate() {
        let sequence = engine.publish(payload);
        lives(&engine, &daemon, 2 + at as u64);
        if let Some(code) = code {
            expected.push((sequence, sequence, "too_large".to_string()));
            let label = format!("code=\"{code}\"");
            let count = crate::rig::series(&daemon, "penstock_source_errors_total", &[&label]);
            assert_eq!(count, 1.0, "{code}");
        }
        assert_eq!(gaps(&daemon), expected, "case {at}");
    }
}
