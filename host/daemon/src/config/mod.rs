//! The config file: its keys, their defaults, and mistakes told with file, line,
//! key and the nearest valid name.
//!
//! Every key has an environment override: `PENSTOCK_` and the key in capitals,
//! tables joined by two underscores (`PENSTOCK_QUERY__HTTP=127.0.0.1:9000`). The
//! value is read as TOML where it parses as TOML, as a plain string otherwise.

mod addresses;
mod check;
mod error;
mod keys;
mod load;
mod place;
mod plugin;
mod sources;

pub use error::{ConfigError, nearest};
pub use keys::keys;
pub use load::{Loaded, file, load, name};
pub use plugin::{PluginFile, Swap, load_plugin};

use penstock_event::Mode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Log filter: `info`, `debug`, `penstock_ingest=debug,info`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Where plugins are dropped. Relative to the config file.
    pub plugins_dir: PathBuf,
    /// Where compiled plugins are kept: a path, `auto` or `off`.
    pub cache_dir: String,
    /// Where the daemon keeps what it is to find again: checkpoints, batches set aside.
    /// A path, `auto` or `off`.
    pub state_dir: String,
    /// How often the directory is read, beside file events, in milliseconds.
    pub scan_ms: u64,
    /// Longest drain at shutdown, in milliseconds.
    pub drain_ms: u64,
    /// Engines.
    pub sources: Vec<Source>,
    /// Receiving.
    pub ingest: Ingest,
    /// Rings and lanes.
    pub route: Route,
    /// Lookups and control.
    pub query: Query,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// One engine, `[[sources]]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The instance's name, as lookups answer it.
    pub name: String,
    /// Where the engine publishes: `tcp://host:5557`, `ipc:///path`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The same, when the publisher is reached at several endpoints.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Where the engine answers replays. Without it, gaps cannot be filled and
    /// answers are marked unverified.
    #[serde(default)]
    pub replay: Option<String>,
    /// Topic prefixes. Empty: everything.
    #[serde(default)]
    pub topics: Vec<String>,
    /// `connect` (the engine binds) or `bind` (engines connect to us; each topic
    /// is a source).
    #[serde(default)]
    pub mode: Mode,
    /// Model served, as queries name it.
    #[serde(default)]
    pub model: String,
    /// Data-parallel ranks, at consecutive ports.
    #[serde(default = "one")]
    pub ranks: u32,
    /// Sequence of the engine's first batch: 0, but 1 for Mooncake.
    #[serde(default)]
    pub first_sequence: u64,
    /// Tokens a block, 0 when unknown.
    #[serde(default)]
    pub block_size: u32,
    /// Free labels, handed to plugins.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

/// `[ingest]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// Threads that own the engines' sockets.
    pub threads: usize,
    /// Largest message in bytes (`ZMQ_MAXMSGSIZE`).
    pub max_message_bytes: u64,
    /// Messages a socket queues (`ZMQ_RCVHWM`).
    pub receive_hwm: u32,
    /// Messages taken from a socket before the next one's turn.
    pub turn: usize,
    /// Batches a source may hold while a replay runs.
    pub buffer_batches: usize,
    /// Their bytes.
    pub buffer_bytes: usize,
    /// Longest wait for the next batch of a replay, in milliseconds.
    pub replay_wait_ms: u64,
    /// Replays without progress before a gap is given up.
    pub replay_attempts: u32,
    /// Replays at once in the whole process.
    pub replays: usize,
    /// Silence after which the end of a stream is checked, in milliseconds.
    pub tail_after_ms: u64,
    /// Time disconnected after which a source is stale, in milliseconds.
    pub stale_after_ms: u64,
    /// Time disconnected after which its blocks are dropped, in milliseconds.
    pub leave_after_ms: u64,
}

/// `[route]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Recent payloads kept for each source, in bytes.
    pub ring_bytes: usize,
    /// Recent payloads kept in all.
    pub ring_total_bytes: usize,
    /// Bytes queued for all plugins together.
    pub lanes_total_bytes: usize,
}

/// `[query]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Address of the HTTP door; `off` closes it.
    pub http: String,
    /// Endpoint of the ZeroMQ door; `off` closes it.
    pub zmq: String,
    /// Path of the control socket; `off` closes it.
    pub control: String,
    /// The plugin that answers lookups which name none. Needed once two could.
    pub lookup: Option<String>,
    /// Longest wait for an answer unless the asker says otherwise, in milliseconds.
    pub deadline_ms: u64,
    /// Lookups that may wait at each plugin.
    pub queue: usize,
    /// Largest HTTP body in bytes.
    pub max_body_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: "info".into(),
            log_format: LogFormat::Text,
            plugins_dir: "plugins.d".into(),
            cache_dir: "auto".into(),
            state_dir: "auto".into(),
            scan_ms: 2_000,
            drain_ms: 4_000,
            sources: Vec::new(),
            ingest: Ingest::default(),
            route: Route::default(),
            query: Query::default(),
        }
    }
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            threads: 2,
            max_message_bytes: 64 << 20,
            receive_hwm: 100_000,
            turn: 256,
            buffer_batches: 100_000,
            buffer_bytes: 64 << 20,
            replay_wait_ms: 2_000,
            replay_attempts: 3,
            replays: 8,
            tail_after_ms: 1_000,
            stale_after_ms: 15_000,
            leave_after_ms: 300_000,
        }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            ring_total_bytes: 256 << 20,
            lanes_total_bytes: 256 << 20,
        }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self {
            http: "127.0.0.1:7780".into(),
            zmq: "tcp://127.0.0.1:7781".into(),
            control: "penstock.sock".into(),
            lookup: None,
            deadline_ms: 1_000,
            queue: 1_024,
            max_body_bytes: 16 << 20,
        }
    }
}

/// Variables that are no keys: where the config is.
const NOT_KEYS: &[&str] = &["PENSTOCK_CONFIG_FILE"];

/// The environment's overrides.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        // What is no UTF-8 is not passed over: it fails as the value that it is not.
        let (name, value) = (
            name.into_string().ok()?,
            value.to_string_lossy().into_owned(),
        );
        (!NOT_KEYS.contains(&name.as_str()) && !of_a_service(&name)).then_some((name, value))
    })
}

/// Kubernetes puts `PENSTOCK_PORT=tcp://…`, `PENSTOCK_SERVICE_HOST` and the like into
/// every pod beside a Service named `penstock`.
fn of_a_service(name: &str) -> bool {
    let rest = name.strip_prefix("PENSTOCK_").unwrap_or_default();
    let begins = |with| rest == with || rest.starts_with(&format!("{with}_"));
    begins("PORT") || begins("SERVICE_HOST") || begins("SERVICE_PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_says_of_a_service_is_no_key() {
        for name in [
            "PENSTOCK_PORT",
            "PENSTOCK_PORT_7780_TCP_ADDR",
            "PENSTOCK_SERVICE_HOST",
            "PENSTOCK_SERVICE_PORT_HTTP",
        ] {
            assert!(of_a_service(name), "{name}");
        }
        for name in ["PENSTOCK_LOG", "PENSTOCK_PORTS", "PENSTOCK_QUERY__HTTP"] {
            assert!(!of_a_service(name), "{name}");
        }
    }
}
