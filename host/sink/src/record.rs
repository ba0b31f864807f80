//! One line of a `file` sink.
//!
//! ```json
//! {"source":"vllm-0/dp1","epoch":0,"sequence":42,"topic":"kv@a@m","payload":"kpMA"}
//! {"source":"vllm-0/dp1","epoch":0,"sequence":43,"topic":"kv@a@m","json":{"hits":3}}
//! {"source":null,"epoch":0,"sequence":0,"topic_base64":"/w==","json":[]}
//! ```
//!
//! | key | value |
//! |---|---|
//! | `source` | name of the source whose batch caused the message; null when none did |
//! | `epoch`, `sequence` | that batch's position; sequence 18446744073709551615: the engine's life ended, and this says so |
//! | `topic` or `topic_base64` | the topic; the second when it is not UTF-8 |
//! | `json` or `payload` | the payload: as it is when it is a JSON object or array, in base64 (standard alphabet, padded) otherwise |
//!
//! Scalars are never inlined: a byte of msgpack can look like a JSON number. A
//! line has no line feed but the one that ends it; inlined JSON loses those
//! between its tokens and keeps everything else, order and digits included.

use crate::queue::Message;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;

/// Appends one line.
pub(crate) fn append(out: &mut String, message: &Message) {
    // Writing to a String cannot fail, nor can serialising a string.
    out.push_str("{\"source\":");
    match &message.source {
        Some(name) => quote(out, name),
        None => out.push_str("null"),
    }
    let _ = write!(
        out,
        ",\"epoch\":{},\"sequence\":{},",
        message.position.epoch.0, message.position.sequence
    );
    match std::str::from_utf8(&message.topic) {
        Ok(topic) => {
            out.push_str("\"topic\":");
            quote(out, topic);
        }
        Err(_) => {
            out.push_str("\"topic_base64\":\"");
            STANDARD.encode_string(&message.topic, out);
            out.push('"');
        }
    }
    match as_json(&message.payload) {
        Some(json) => {
            out.push_str(",\"json\":");
            out.extend(json.split(['\n', '\r']));
        }
        None => {
            out.push_str(",\"payload\":\"");
            STANDARD.encode_string(&message.payload, out);
            out.push('"');
        }
    }
    out.push_str("}\n");
}

fn quote(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into()));
}

/// The payload as text, when it is one JSON object or array that our own
/// reader takes (nested 127 levels at most).
fn as_json(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str::<serde_json::Value>(text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use penstock_event::{Epoch, Position};

    fn line(topic: &[u8], payload: &[u8]) -> String {
        let mut out = String::new();
        append(
            &mut out,
            &Message {
                topic: Bytes::copy_from_slice(topic),
                payload: Bytes::copy_from_slice(payload),
                source: Some("a\"b".into()),
                position: Position {
                    epoch: Epoch(1),
                    sequence: u64::MAX,
                },
                skipped: 0,
            },
        );
        out
    }

    #[test]
    fn payloads_are_inlined_or_encoded() {
        let head = r#"{"source":"a\"b","epoch":1,"sequence":18446744073709551615,"#;
        let deep = "[".repeat(2_000) + &"]".repeat(2_000);
        for (topic, payload, rest) in [
            (
                &b"t"[..],
                &b"{\"a\":\r\n 1.10}"[..],
                r#""topic":"t","json":{"a": 1.10}}"#,
            ),
            (
                b"t",
                b"[18446744073709551616]",
                r#""topic":"t","json":[18446744073709551616]}"#,
            ),
            (b"", b"1", r#""topic":"","payload":"MQ=="}"#),
            (b"", b"", r#""topic":"","payload":""}"#),
            (b"t", b"{\"a\":}", r#""topic":"t","payload":"eyJhIjp9"}"#),
            (b"t", b"{} {}", r#""topic":"t","payload":"e30ge30="}"#),
            (
                b"t",
                b"[\"\\ud800\"]",
                r#""topic":"t","payload":"WyJcdWQ4MDAiXQ=="}"#,
            ),
            (
                b"\xff",
                b"\x92\xff",
                r#""topic_base64":"/w==","payload":"kv8="}"#,
            ),
        ] {
            let line = line(topic, payload);
            assert_eq!(line, format!("{head}{rest}\n"));
            serde_json::from_str::<serde_json::Value>(&line).unwrap();
        }
        assert!(line(b"", deep.as_bytes()).contains("\"payload\":\"W1tb"));
    }
}
