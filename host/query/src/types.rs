//! The two traits that the daemon implements, and what an operator sees.
//!
//! Status types are read back by `penstock ctl`, so all of them go both ways
//! through serde, and fields added later need a default.

use crate::{ControlError, Readiness};
use penstock_event::{Answer, LookupError, Query};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where an answer goes. Called once, from any thread; it never blocks. Dropping
/// it without a call tells the asker that the lookup failed.
pub type Reply<T> = Box<dyn FnOnce(Result<T, LookupError>) + Send>;

/// Lookups go to a plugin's queue; the reply comes from the plugin's thread.
pub trait Lookups: Send + Sync {
    /// Queues a lookup, for `plugin` or for the default one. Never blocks; may
    /// reply before it returns.
    fn ask(&self, plugin: Option<&str>, query: Query, reply: Reply<Answer>);

    /// Queues a request in the plugin's own form. Never blocks.
    fn request(&self, plugin: &str, body: Vec<u8>, reply: Reply<Vec<u8>>);
}

/// Everything an operator sees or does. `ready` and `health` are asked from the
/// doors' own loops and must not block; the others may take their time.
pub trait Control: Send + Sync {
    /// All there is to see.
    fn status(&self) -> Status;
    /// The plugins, loaded or refused.
    fn plugins(&self) -> Vec<PluginStatus>;
    /// The sources, from every kind of discovery.
    fn sources(&self) -> Vec<SourceStatus>;
    /// Adds a source, or one rank of an instance. Registering the same again is fine.
    ///
    /// # Errors
    /// [`ControlError`]: the endpoint cannot be right, or contradicts another source.
    fn register(&self, source: Register) -> Result<(), ControlError>;
    /// Removes what `register` added. Returns how many sources went.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] when nothing matches.
    fn unregister(&self, which: Unregister) -> Result<usize, ControlError>;
    /// Compares config and plugin directory with what runs, now.
    ///
    /// # Errors
    /// [`ControlError`]: what ran before still runs.
    fn reload(&self) -> Result<Reloaded, ControlError>;
    /// Changes what runs under a plugin's name.
    ///
    /// # Errors
    /// [`ControlError`]: there is nothing to change to, or it does not start; what runs
    /// goes on.
    fn turn(&self, plugin: &str, turn: Turn) -> Result<Turned, ControlError>;
    /// May traffic come?
    fn ready(&self) -> Readiness;
    /// Do the loops turn?
    fn health(&self) -> Health;
    /// All metrics in Prometheus text.
    fn metrics(&self) -> String;
}

/// Do the daemon's loops turn?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Yes.
    pub ok: bool,
    /// Loops that have not turned for longer than they may.
    #[serde(default)]
    pub stuck: Vec<String>,
}

/// A source that an operator or an engine registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The engine instance.
    pub instance: String,
    /// Its PUB endpoint.
    pub endpoint: String,
    /// Model served; empty: unknown.
    pub model: String,
    /// Tokens a block; 0: unknown.
    pub block_size: u32,
    /// Data-parallel rank, when the engine has several.
    pub rank: Option<u32>,
    /// Its replay ROUTER.
    pub replay: Option<String>,
    /// Topic prefixes; empty: everything.
    pub topics: Vec<String>,
    /// Labels for plugins.
    pub labels: BTreeMap<String, String>,
}

/// Which registered sources to remove. What is left out matches all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unregister {
    /// The engine instance.
    pub instance: String,
    /// Only those of this model.
    pub model: Option<String>,
    /// Only this rank.
    pub rank: Option<u32>,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Plugins and sources that changed, by name.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Keys that changed in the file and take effect at the next start.
    #[serde(default)]
    pub next_start: Vec<String>,
    /// What was refused, and why.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
}

/// What is to become of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The build that ran before is to run again.
    Back,
    /// It is down, and is to run again.
    Restart,
}

/// What runs under a plugin's name now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turned {
    /// The plugin.
    pub plugin: String,
    /// The build that runs now, or soon.
    pub generation: u64,
}

/// The daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// May traffic come?
    pub ready: Readiness,
    /// Do the loops turn?
    pub health: Health,
    /// Bytes in all lanes together.
    pub queued_bytes: u64,
    /// The plugins.
    pub plugins: Vec<PluginStatus>,
    /// The sources.
    pub sources: Vec<SourceStatus>,
    /// What has no field of its own: sinks, doors, last reload.
    pub more: BTreeMap<String, serde_json::Value>,
}

/// One plugin, loaded or refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginStatus {
    /// Its file's name without the ending.
    pub name: String,
    /// As it describes itself.
    pub version: String,
    /// Which of its builds this is, from 1 since the daemon started.
    pub generation: u64,
    /// SHA-256 of the component, hex.
    pub digest: String,
    /// `running`, `loading`, `waiting`, `backoff`, `disabled`, `refused`, …
    pub state: String,
    /// Instances that share its sources. What can be summed is summed over them.
    pub shards: u64,
    /// The component's path.
    pub file: String,
    /// Seconds since this generation runs.
    pub age_s: f64,
    /// Events handed over.
    pub events: u64,
    /// Batches handed over.
    pub batches: u64,
    /// Plugins whose events it gets; empty: those of the engines.
    pub after: Vec<String>,
    /// Events it emitted for the plugins after it.
    pub emitted: u64,
    /// Events it refused.
    pub refusals: u64,
    /// Lookups it answered.
    pub lookups: u64,
    /// Events a second, lately.
    pub events_per_s: f64,
    /// Mean time of an event, ns.
    pub ns_per_event: f64,
    /// 99th percentile of a call, µs.
    pub call_p99_us: f64,
    /// Deadline of a call, ms.
    pub deadline_ms: u64,
    /// Linear memory in use, bytes.
    pub memory_bytes: u64,
    /// Its limit, bytes.
    pub memory_limit: u64,
    /// Items waiting in its lanes.
    pub queue_items: u64,
    /// Bytes waiting in its lanes.
    pub queue_bytes: u64,
    /// Batches it was not given, and was told of as gaps: its lane was full, or
    /// neither the host nor the engine held them any more.
    #[serde(default)]
    pub missed: u64,
    /// Batches set aside, since each killed two instances in a row.
    pub set_aside: u64,
    /// Instances rebuilt after a trap or a missed deadline.
    pub restarts: u64,
    /// The last trap, missed deadline or error.
    pub last_error: Option<String>,
    /// True: the build before stands ready to take over again.
    pub probation: bool,
    /// Builds that were rolled back and are not loaded again, and why.
    pub quarantine: Vec<String>,
    /// Why the newest file was refused, while an older one may run.
    pub load_error: Option<String>,
    /// Its sinks, by name.
    pub sinks: serde_json::Value,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceStatus {
    /// Unique name.
    pub name: String,
    /// The engine instance.
    pub instance: String,
    /// Data-parallel rank.
    pub rank: Option<u32>,
    /// Model served; empty: unknown.
    pub model: String,
    /// ZeroMQ endpoints.
    pub endpoints: Vec<String>,
    /// Replay endpoint.
    pub replay: Option<String>,
    /// `connecting`, `live`, `down`, `stale` or `left`.
    pub link: String,
    /// The end of its stream can be checked.
    pub verified: bool,
    /// Nothing is known to be missing since the last reset.
    pub complete: bool,
    /// The last batch delivered.
    pub position: Option<PositionStatus>,
    /// State of the order machine.
    pub order_state: String,
    /// Seconds since the last message; none before the first.
    pub last_message_age_s: Option<f64>,
    /// Its counters.
    pub totals: BTreeMap<String, u64>,
    /// Gaps and resets that were reported, oldest first, at most the last thousand.
    pub incidents: Vec<penstock_event::Incident>,
}

/// A place in a source's stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionStatus {
    /// Restarts seen.
    pub epoch: u32,
    /// The publisher's number.
    pub sequence: u64,
}

impl From<penstock_event::Position> for PositionStatus {
    fn from(p: penstock_event::Position) -> Self {
        Self {
            epoch: p.epoch.0,
            sequence: p.sequence,
        }
    }
}
