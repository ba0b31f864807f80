//! How much a plugin may use. Everything has a default and none may be 0.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Limits of one instance: the table `limits` of a plugin's TOML file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Linear memory, all memories of the instance together, in bytes.
    pub memory_bytes: u64,
    /// Longest call, in milliseconds: `on-batch`, `on-source`, `find`, `handle`,
    /// `tick`, `snapshot`.
    pub deadline_ms: u64,
    /// Longest `describe`, `init` or `restore`, in milliseconds.
    pub init_deadline_ms: u64,
    /// Data that one call may hand from the plugin to the host (results, and each
    /// host call's arguments), in bytes.
    pub hostcall_bytes: usize,
    /// Elements of all tables (function pointers).
    pub table_elements: usize,
    /// Core instances, and as many memories and tables.
    pub instances: usize,
    /// Host resources open at once (WASI streams and pollables).
    pub resources: usize,
    /// Log lines a second, twice as many in a burst; more are dropped and counted.
    pub log_lines_per_s: u32,
    /// Bytes a log line; the rest is cut.
    pub log_line_bytes: usize,
    /// Series under `metrics`; further ones are dropped and counted.
    pub metric_series: usize,
    /// Bytes that one call may publish by `send`; more is "message too large".
    pub publish_bytes: usize,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            deadline_ms: 100,
            init_deadline_ms: 5_000,
            hostcall_bytes: 16 << 20,
            table_elements: 100_000,
            instances: 32,
            resources: 256,
            log_lines_per_s: 100,
            log_line_bytes: 4_096,
            metric_series: 100,
            publish_bytes: 16 << 20,
        }
    }
}

impl Limits {
    /// The longest call.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.max(1))
    }

    /// The longest call on the way up.
    #[must_use]
    pub fn init_deadline(&self) -> Duration {
        Duration::from_millis(self.init_deadline_ms.max(1))
    }

    /// The key of the first limit that is 0, for the operator.
    #[must_use]
    pub fn zero(&self) -> Option<&'static str> {
        let all = [
            ("memory_bytes", self.memory_bytes == 0),
            ("deadline_ms", self.deadline_ms == 0),
            ("init_deadline_ms", self.init_deadline_ms == 0),
            ("hostcall_bytes", self.hostcall_bytes == 0),
            ("table_elements", self.table_elements == 0),
            ("instances", self.instances == 0),
            ("resources", self.resources == 0),
            ("log_lines_per_s", self.log_lines_per_s == 0),
            ("log_line_bytes", self.log_line_bytes == 0),
            ("metric_series", self.metric_series == 0),
            ("publish_bytes", self.publish_bytes == 0),
        ];
        all.into_iter().find(|(_, zero)| *zero).map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_not_named_keep_their_default_and_unknown_ones_are_errors() {
        let limits: Limits = serde_json::from_str(r#"{"deadline_ms": 7}"#).unwrap();
        assert_eq!(limits.deadline(), Duration::from_millis(7));
        assert_eq!(limits.memory_bytes, Limits::default().memory_bytes);
        let wrong = serde_json::from_str::<Limits>(r#"{"deadline": 7}"#);
        assert!(wrong.unwrap_err().to_string().contains("deadline_ms"));
    }

    #[test]
    fn zero_is_named() {
        assert_eq!(Limits::default().zero(), None);
        let limits = Limits {
            resources: 0,
            ..Limits::default()
        };
        assert_eq!(limits.zero(), Some("resources"));
    }
}
