//! Recorded streams against the events expected.

use crate::json::Renderer;
use serde_json::Value;
use std::path::Path;

/// Payloads of a `.frames` file with their sequence numbers.
pub(super) fn payloads(name: &str) -> Vec<(u64, Vec<u8>)> {
    let bytes = std::fs::read(path(name, "frames")).unwrap();
    let mut at = 0;
    let word = |bytes: &[u8], at: &mut usize| {
        let word = u32::from_le_bytes(bytes[*at..*at + 4].try_into().unwrap());
        *at += 4;
        word as usize
    };
    let mut payloads = Vec::new();
    while at < bytes.len() {
        let mut frames = Vec::new();
        for _ in 0..word(&bytes, &mut at) {
            let len = word(&bytes, &mut at);
            frames.push(bytes[at..at + len].to_vec());
            at += len;
        }
        let payload = frames.pop().unwrap();
        let sequence = frames.pop().unwrap();
        payloads.push((u64::from_be_bytes(sequence.try_into().unwrap()), payload));
    }
    payloads
}

fn path(name: &str, ext: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/captures/{name}.{ext}"))
}

#[test]
fn captures_decode_to_what_is_expected() {
    for name in ["vllm-0.9.2", "vllm-0.32.0-engine", "sglang-0.5.23"] {
        let mut renderer = Renderer::default();
        let found: Vec<Value> = payloads(name)
            .iter()
            .flat_map(|(sequence, payload)| renderer.lines(*sequence, payload))
            .collect();
        let expected = std::fs::read_to_string(path(name, "expected.jsonl")).unwrap();
        let expected: Vec<Value> = expected
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(expected.len() > 500, "{name}");
        assert_eq!(found.len(), expected.len(), "{name}");
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(&found[key], value, "{name}, line {}, {key}", i + 1);
            }
        }
    }
}
