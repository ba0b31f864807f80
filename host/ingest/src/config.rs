//! How ingest behaves. Plain values; the daemon fills them from its config file.

use crate::Sabotage;
use std::time::Duration;

/// How ingest behaves. [`Default`] is meant for production.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Threads that own sockets, 1 to 64. Sources are spread over them.
    pub threads: usize,
    /// Largest frame accepted from an engine, in bytes; a larger one costs the
    /// engine its connection, which is then opened again.
    pub max_message_bytes: usize,
    /// Messages that libzmq may hold for one socket.
    pub receive_hwm: i32,
    /// Messages read from one socket before the next one has its turn.
    pub turn: usize,
    /// Bytes read from one socket before the next one has its turn.
    pub turn_bytes: usize,
    /// Replays running at once, in the whole process.
    pub replays: usize,
    /// Longest random wait before a replay begins, so that many sources do not
    /// stall their engines in the same moment.
    pub replay_jitter: Duration,
    /// Longest wait for the next frame of a replay.
    pub replay_wait: Duration,
    /// Replays of one range without progress before it is reported missing.
    pub replay_attempts: u32,
    /// Fetches for single plugins, waiting or running, in the whole process.
    pub fetches: usize,
    /// Longest time one fetch may take, waiting included.
    pub fetch_wait: Duration,
    /// Live batches of one source that may wait for a replay.
    pub buffer_frames: usize,
    /// Their bytes.
    pub buffer_bytes: usize,
    /// Silence after which the end of a stream is checked.
    pub tail_after: Duration,
    /// Disconnected for this long, a source is stale.
    pub stale_after: Duration,
    /// Disconnected for this long, a source is forgotten.
    pub leave_after: Duration,
    /// Time after which a source that is silent or unreachable is worth a hint.
    pub hint_after: Duration,
    /// Sources in one ZeroMQ context, 1 to 330: a monitored socket takes three of
    /// the 1,023 that a context has.
    pub sources_per_context: usize,
    /// Topics that one bound socket may teach.
    pub topics_per_bind: usize,
    /// Limits of the decoder.
    pub limits: penstock_decode::Limits,
    /// Seed of the jitter.
    pub seed: u64,
    /// How dead peers are found.
    pub keepalive: Keepalive,
    /// First wait before a connection is tried again; it doubles up to `reconnect_max`.
    pub reconnect: Duration,
    /// Longest wait before a connection is tried again.
    pub reconnect_max: Duration,
    /// Longest time for TCP to connect, and again for the ZeroMQ handshake.
    pub handshake: Duration,
    /// A fault made on purpose, to prove that the self-test notices. None in service.
    pub sabotage: Option<Sabotage>,
}

/// TCP keepalive. (ZMTP heartbeats stay off: with a reader that pauses they make
/// libzmq abort the process.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Probes without an answer before the connection is given up.
    pub count: u32,
}

// === impl IngestConfig ===

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            threads: 2,
            max_message_bytes: 64 << 20,
            receive_hwm: 100_000,
            turn: 256,
            turn_bytes: 8 << 20,
            replays: 8,
            replay_jitter: Duration::from_millis(20),
            replay_wait: Duration::from_secs(2),
            replay_attempts: 3,
            fetches: 64,
            fetch_wait: Duration::from_secs(60),
            buffer_frames: 20_000,
            buffer_bytes: 256 << 20,
            tail_after: Duration::from_secs(1),
            stale_after: Duration::from_secs(15),
            leave_after: Duration::from_secs(300),
            hint_after: Duration::from_secs(10),
            sources_per_context: 300,
            topics_per_bind: 1024,
            limits: penstock_decode::Limits::default(),
            seed: 0,
            keepalive: Keepalive::default(),
            reconnect: Duration::from_millis(100),
            reconnect_max: Duration::from_millis(1500),
            handshake: Duration::from_secs(5),
            sabotage: None,
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(5),
            interval: Duration::from_secs(3),
            count: 3,
        }
    }
}

/// A duration as the order machine counts it.
pub(crate) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
