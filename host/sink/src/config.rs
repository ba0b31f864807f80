//! What an operator writes for a sink.
//!
//! ```toml
//! [sink.router]
//! kind = "zmq-pub"
//! endpoint = "tcp://*:5657"
//! replay = "tcp://*:5658"
//!
//! [sink.audit]
//! kind = "file"
//! path = "/var/log/penstock/events.jsonl"
//! max_bytes = 1073741824
//! ```
//!
//! Sizes are in bytes, times in milliseconds. Keys that a kind does not know
//! are errors. What serde cannot see (empty or contradicting values) is found
//! by [`SinkConfig::check`], which opens nothing.

use penstock_event::Mode;
use penstock_peer::replay::Framing;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const MIB: usize = 1024 * 1024;

/// One sink, by its `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SinkConfig {
    /// Everybody who subscribes gets every message: an engine's own shape.
    ZmqPub(PubConfig),
    /// Each message goes to one of the peers.
    ZmqPush(PushConfig),
    /// JSON lines in a file.
    File(FileConfig),
}

/// A ZeroMQ PUB side with an optional replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PubConfig {
    /// `tcp://*:5657`, `tcp://*:*` (any free port, see the status), `ipc://…`
    /// or `inproc://…`. Required.
    pub endpoint: String,
    /// `bind` (default), or `connect` to a subscriber or proxy that binds.
    pub mode: Mode,
    /// Adds a fourth frame, msgpack `[source name, epoch, sequence]`. Off by
    /// default: most consumers of engine streams take exactly three frames.
    pub positions: bool,
    /// Endpoint that the replay ROUTER binds. Absent: no replay.
    pub replay: Option<String>,
    /// Shape of replay answers: `new` with a topic frame (default), or `old` without.
    pub replay_framing: Framing,
    /// Messages kept for replay, at most.
    pub replay_batches: usize,
    /// Bytes of topics and payloads kept for replay, at most.
    pub replay_bytes: usize,
    /// Messages waiting in the sink, at most.
    pub queue_messages: usize,
    /// Bytes of topics and payloads waiting in the sink, at most.
    pub queue_bytes: usize,
    /// Bytes of one topic and payload, at most.
    pub max_message_bytes: usize,
    /// Messages that libzmq buffers for each subscriber, at most (send high-water mark).
    pub hwm: u32,
    /// How long the pipe of some subscriber may stay full before messages are
    /// dropped. Counted from the moment it filled up, not for each message.
    pub full_wait_ms: u64,
    /// How long libzmq may go on sending after the sink is closed. Never
    /// longer than what is left of the shutdown deadline.
    pub linger_ms: u64,
}

impl Default for PubConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            mode: Mode::Bind,
            positions: false,
            replay: None,
            replay_framing: Framing::default(),
            replay_batches: 10_000,
            replay_bytes: 64 * MIB,
            queue_messages: 16_384,
            queue_bytes: 64 * MIB,
            max_message_bytes: 64 * MIB,
            hwm: 10_000,
            full_wait_ms: 200,
            linger_ms: 1_000,
        }
    }
}

/// A ZeroMQ PUSH side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushConfig {
    /// As for `zmq-pub`. Required.
    pub endpoint: String,
    /// `connect` (default) to a PULL that binds, or `bind`.
    pub mode: Mode,
    /// Adds a fourth frame, msgpack `[source name, epoch, sequence]` (default true).
    pub positions: bool,
    /// Messages waiting in the sink, at most.
    pub queue_messages: usize,
    /// Bytes of topics and payloads waiting in the sink, at most.
    pub queue_bytes: usize,
    /// Bytes of one topic and payload, at most.
    pub max_message_bytes: usize,
    /// Messages that libzmq buffers for each peer, at most (send high-water mark).
    pub hwm: u32,
    /// How long each message waits for a peer with room before it is dropped.
    pub full_wait_ms: u64,
    /// As for `zmq-pub`.
    pub linger_ms: u64,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            mode: Mode::Connect,
            positions: true,
            queue_messages: 16_384,
            queue_bytes: 64 * MIB,
            max_message_bytes: 64 * MIB,
            hwm: 10_000,
            full_wait_ms: 5_000,
            linger_ms: 1_000,
        }
    }
}

/// A file of JSON lines; [`crate::record`] has the schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// The file, appended to; its directory must exist. Required. One sink a file.
    pub path: PathBuf,
    /// Size above which the file is rotated to `PATH.1`, `PATH.1` to `PATH.2`
    /// and so on. 0 (default): never.
    pub max_bytes: u64,
    /// Rotated files kept beside the current one, 1 to 1,000.
    pub keep: u32,
    /// Messages waiting in the sink, at most.
    pub queue_messages: usize,
    /// Bytes of topics and payloads waiting in the sink, at most.
    pub queue_bytes: usize,
    /// Bytes of one topic and payload, at most.
    pub max_message_bytes: usize,
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            max_bytes: 0,
            keep: 5,
            queue_messages: 16_384,
            queue_bytes: 64 * MIB,
            max_message_bytes: 64 * MIB,
        }
    }
}

/// Bounds of a sink's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub messages: usize,
    pub bytes: usize,
    pub message_bytes: usize,
}

impl SinkConfig {
    /// The `kind` as it is written.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ZmqPub(_) => "zmq-pub",
            Self::ZmqPush(_) => "zmq-push",
            Self::File(_) => "file",
        }
    }

    /// Whether the values can work, without opening anything.
    ///
    /// # Errors
    /// A sentence that begins with the key concerned.
    pub fn check(&self) -> Result<(), String> {
        let limits = self.limits();
        at_least_one("queue_messages", limits.messages)?;
        at_least_one("max_message_bytes", limits.message_bytes)?;
        if limits.bytes < limits.message_bytes {
            return Err(format!(
                "queue_bytes: {} cannot hold one message of max_message_bytes ({})",
                limits.bytes, limits.message_bytes
            ));
        }
        match self {
            Self::ZmqPub(c) => {
                endpoint("endpoint", &c.endpoint, c.mode)?;
                socket(c.hwm, c.full_wait_ms, c.linger_ms)?;
                let Some(replay) = &c.replay else {
                    return Ok(());
                };
                endpoint("replay", replay, Mode::Bind)?;
                if *replay == c.endpoint && !any_port(replay) {
                    return Err(format!("replay: {replay} is also the endpoint"));
                }
                at_least_one("replay_batches", c.replay_batches)?;
                at_least_one("replay_bytes", c.replay_bytes)
            }
            Self::ZmqPush(c) => {
                endpoint("endpoint", &c.endpoint, c.mode)?;
                socket(c.hwm, c.full_wait_ms, c.linger_ms)
            }
            Self::File(c) => {
                if c.path.file_name().is_none() {
                    return Err("path: must name a file".into());
                }
                if !(1..=1_000).contains(&c.keep) {
                    return Err(format!("keep: {} is not in 1..=1000", c.keep));
                }
                Ok(())
            }
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        let (messages, bytes, message_bytes) = match self {
            Self::ZmqPub(c) => (c.queue_messages, c.queue_bytes, c.max_message_bytes),
            Self::ZmqPush(c) => (c.queue_messages, c.queue_bytes, c.max_message_bytes),
            Self::File(c) => (c.queue_messages, c.queue_bytes, c.max_message_bytes),
        };
        Limits {
            messages,
            bytes,
            message_bytes,
        }
    }
}

fn at_least_one(key: &str, value: usize) -> Result<(), String> {
    if value == 0 {
        return Err(format!("{key}: must be at least 1"));
    }
    Ok(())
}

fn socket(hwm: u32, full_wait_ms: u64, linger_ms: u64) -> Result<(), String> {
    // Zero means "no limit" to libzmq, which is what this key exists against.
    if hwm == 0 || i32::try_from(hwm).is_err() {
        return Err(format!("hwm: {hwm} is not in 1..=2147483647"));
    }
    for (key, value) in [("full_wait_ms", full_wait_ms), ("linger_ms", linger_ms)] {
        if value > 600_000 {
            return Err(format!("{key}: {value} is above 600000 (ten minutes)"));
        }
    }
    Ok(())
}

fn any_port(endpoint: &str) -> bool {
    endpoint.ends_with(":*") || endpoint.ends_with(":0")
}

fn endpoint(key: &str, value: &str, mode: Mode) -> Result<(), String> {
    if value.is_empty() {
        return Err(format!("{key}: missing, e.g. \"tcp://*:5657\""));
    }
    // A NUL would make the zmq crate panic.
    if value.contains('\0') {
        return Err(format!("{key}: contains a NUL character"));
    }
    let Some((transport, address)) = value.split_once("://") else {
        return Err(format!(
            "{key}: `{value}` has no transport, e.g. tcp://{value}"
        ));
    };
    if !["tcp", "ipc", "inproc"].contains(&transport) || address.is_empty() {
        return Err(format!(
            "{key}: `{value}` is none of tcp://HOST:PORT, ipc://PATH, inproc://NAME"
        ));
    }
    if transport == "tcp" {
        let Some((host, port)) = address.rsplit_once(':') else {
            return Err(format!("{key}: `{value}` has no port"));
        };
        let wild = host == "*" || any_port(value);
        if mode == Mode::Connect && wild {
            return Err(format!("{key}: cannot connect to the wildcard `{value}`"));
        }
        if host.is_empty() || (port != "*" && port.parse::<u16>().is_err()) {
            return Err(format!("{key}: `{value}` is not tcp://HOST:PORT"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SinkConfig, String> {
        let config: SinkConfig = serde_json::from_str(text).map_err(|e| e.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn defaults_fill_what_is_absent() {
        let config = parse(r#"{"kind":"zmq-pub","endpoint":"tcp://*:*","replay":"tcp://*:*"}"#);
        let Ok(SinkConfig::ZmqPub(c)) = config else {
            panic!("{config:?}")
        };
        assert_eq!((c.mode, c.positions, c.hwm), (Mode::Bind, false, 10_000));
        let config = parse(r#"{"kind":"zmq-push","endpoint":"tcp://collector:9000"}"#);
        let Ok(SinkConfig::ZmqPush(c)) = config else {
            panic!("{config:?}")
        };
        assert_eq!((c.mode, c.positions), (Mode::Connect, true));
        let config = parse(r#"{"kind":"file","path":"events.jsonl"}"#);
        assert!(matches!(config, Ok(SinkConfig::File(c)) if c.max_bytes == 0 && c.keep == 5));
    }

    #[test]
    fn mistakes_name_the_key() {
        for (text, said) in [
            (r#"{"kind":"zmq-pub"}"#, "endpoint: missing"),
            (r#"{"kind":"zmq-sub"}"#, "unknown variant `zmq-sub`"),
            (r#"{"endpoint":"tcp://*:1"}"#, "missing field `kind`"),
            (
                r#"{"kind":"file","path":"a","max_byte":1}"#,
                "unknown field `max_byte`",
            ),
            (r#"{"kind":"file"}"#, "path: must name a file"),
            (r#"{"kind":"file","path":"a","keep":0}"#, "keep: 0"),
            (
                r#"{"kind":"zmq-pub","endpoint":"*:5557"}"#,
                "has no transport",
            ),
            (r#"{"kind":"zmq-pub","endpoint":"udp://a:1"}"#, "is none of"),
            (
                r#"{"kind":"zmq-pub","endpoint":"tcp://a:70000"}"#,
                "is not tcp",
            ),
            (r#"{"kind":"zmq-pub","endpoint":"ipc://a\u0000"}"#, "NUL"),
            (
                r#"{"kind":"zmq-push","endpoint":"tcp://*:5557"}"#,
                "cannot connect to the wildcard",
            ),
            (
                r#"{"kind":"zmq-pub","endpoint":"tcp://*:1","replay":"tcp://*:1"}"#,
                "replay: tcp://*:1 is also the endpoint",
            ),
            (
                r#"{"kind":"zmq-pub","endpoint":"tcp://*:1","hwm":0}"#,
                "hwm: 0",
            ),
            (
                r#"{"kind":"zmq-pub","endpoint":"tcp://*:1","queue_bytes":10}"#,
                "queue_bytes: 10 cannot hold",
            ),
            (
                r#"{"kind":"zmq-pub","endpoint":"tcp://*:1","queue_messages":0}"#,
                "queue_messages: must be at least 1",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
