//! Where the doors are and what they bear.

use crate::QueryError;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Addresses and bounds of the doors. A door without an address stays shut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoorsConfig {
    /// HTTP address, `127.0.0.1:7780` by default. Port 0 takes a free one.
    /// There is no authentication: think before leaving loopback.
    pub http: Option<SocketAddr>,
    /// ZeroMQ endpoint that the ROUTER binds, `tcp://127.0.0.1:7781` by default.
    /// Port 0 or `*` takes a free one.
    pub zmq: Option<String>,
    /// Unix socket for control. None by default.
    pub control: Option<PathBuf>,
    /// Deadline of a lookup that names none, ms, from 1 to `max_deadline_ms`.
    pub deadline_ms: u64,
    /// The longest deadline a lookup may ask for, ms, up to an hour.
    pub max_deadline_ms: u64,
    /// Largest request body, bytes, from 1 KiB to 1 GiB.
    pub max_body_bytes: usize,
    /// Bytes of HTTP bodies being read or waiting, all requests together. At
    /// least `max_body_bytes`.
    pub max_bodies_bytes: usize,
    /// Lookups in flight at once, for each door. Above it: busy.
    pub max_in_flight: usize,
    /// The same for one ZeroMQ client.
    pub max_in_flight_per_client: usize,
    /// Open HTTP connections. Further ones wait in the listen queue.
    pub max_connections: usize,
    /// High-water mark of the ROUTER, messages a client, each way.
    pub zmq_hwm: i32,
}

impl Default for DoorsConfig {
    fn default() -> Self {
        Self {
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7780))),
            zmq: Some("tcp://127.0.0.1:7781".to_owned()),
            control: None,
            deadline_ms: 1_000,
            max_deadline_ms: 600_000,
            max_body_bytes: 16 << 20,
            max_bodies_bytes: 128 << 20,
            max_in_flight: 1_024,
            max_in_flight_per_client: 128,
            max_connections: 1_024,
            zmq_hwm: 1_000,
        }
    }
}

// === impl DoorsConfig ===

impl DoorsConfig {
    /// Checks the bounds against each other.
    ///
    /// # Errors
    /// [`QueryError::Config`] with the key and what it may be.
    pub fn validate(&self) -> Result<(), QueryError> {
        let hour = 3_600_000;
        let gib = 1 << 30;
        let checks = [
            (
                "max_deadline_ms",
                (1..=hour).contains(&self.max_deadline_ms),
                "1 to 3600000",
            ),
            (
                "deadline_ms",
                (1..=self.max_deadline_ms).contains(&self.deadline_ms),
                "1 to max_deadline_ms",
            ),
            (
                "max_body_bytes",
                (1 << 10..=gib).contains(&self.max_body_bytes),
                "1024 to 1073741824",
            ),
            (
                "max_bodies_bytes",
                (self.max_body_bytes..=64 * gib).contains(&self.max_bodies_bytes),
                "max_body_bytes to 64 GiB",
            ),
            (
                "max_in_flight",
                (1..=1 << 20).contains(&self.max_in_flight),
                "1 to 1048576",
            ),
            (
                "max_in_flight_per_client",
                (1..=1 << 20).contains(&self.max_in_flight_per_client),
                "1 to 1048576",
            ),
            (
                "max_connections",
                (1..=1 << 20).contains(&self.max_connections),
                "1 to 1048576",
            ),
            (
                "zmq_hwm",
                (1..=1 << 20).contains(&self.zmq_hwm),
                "1 to 1048576",
            ),
        ];
        match checks.into_iter().find(|(_, fine, _)| !fine) {
            Some((key, _, range)) => Err(QueryError::Config { key, range }),
            None => Ok(()),
        }
    }

    pub(crate) fn max_deadline(&self) -> Duration {
        Duration::from_millis(self.max_deadline_ms)
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked() {
        DoorsConfig::default().validate().unwrap();
        type Spoil = fn(&mut DoorsConfig);
        let table: [(&str, Spoil); 6] = [
            ("deadline_ms", |c| c.deadline_ms = 0),
            ("deadline_ms", |c| c.deadline_ms = 600_001),
            ("max_bodies_bytes", |c| c.max_bodies_bytes = 1 << 20),
            ("max_in_flight", |c| c.max_in_flight = 0),
            ("max_in_flight_per_client", |c| {
                c.max_in_flight_per_client = 0
            }),
            ("zmq_hwm", |c| c.zmq_hwm = 0),
        ];
        for (wanted, spoil) in table {
            let mut config = DoorsConfig::default();
            spoil(&mut config);
            match config.validate() {
                Err(QueryError::Config { key, .. }) => assert_eq!(key, wanted),
                other => panic!("{wanted}: {other:?}"),
            }
        }
    }
}
