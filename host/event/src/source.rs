use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A source's number in this process. Never used again for another source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub u32);

/// Which side of the ZeroMQ connection binds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The engine binds (its default), the daemon connects.
    #[default]
    Connect,
    /// The daemon binds, engines connect; each topic is a source of its own.
    Bind,
}

/// One stream of batches as discovery describes it: one engine, or one
/// data-parallel rank of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSpec {
    /// The engine instance, as lookups answer it (`worker` in Dynamo's shape).
    pub instance: String,
    /// Data-parallel rank, when the engine has several.
    pub rank: Option<u32>,
    /// ZeroMQ endpoints of the PUB side. A single publisher stands behind all of them.
    pub endpoints: Vec<String>,
    /// ZeroMQ endpoint of the replay ROUTER. None: gaps cannot be filled.
    pub replay: Option<String>,
    /// Topic prefixes to subscribe to. Empty: everything.
    pub topics: Vec<String>,
    /// Which side binds.
    pub mode: Mode,
    /// Model served, as queries name it. Empty: unknown.
    pub model: String,
    /// Sequence of a publisher's first batch: 0, but 1 for Mooncake.
    pub first_sequence: u64,
    /// Tokens a block, where the operator knows it; 0 otherwise.
    pub block_size: u32,
    /// Free labels, handed to plugins.
    pub labels: BTreeMap<String, String>,
}

impl SourceSpec {
    /// The unique name: `instance`, or `instance/dpN` with a rank.
    #[must_use]
    pub fn name(&self) -> String {
        match self.rank {
            Some(rank) => format!("{}/dp{rank}", self.instance),
            None => self.instance.clone(),
        }
    }

    /// Which stream it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            name: self.name(),
            endpoints: self.endpoints.clone(),
            topics: self.topics.clone(),
        }
    }
}

/// Which stream a position belongs to. What is kept under a name is worth nothing
/// once another stream has that name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The unique name.
    pub name: String,
    /// [`SourceSpec::endpoints`].
    pub endpoints: Vec<String>,
    /// [`SourceSpec::topics`].
    pub topics: Vec<String>,
}

/// What plugins and answers know of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// Number in this process.
    pub id: SourceId,
    /// Unique name.
    pub name: Arc<str>,
    /// What discovery said. For a source learnt from a topic of a bound
    /// socket, `topics` holds that one topic.
    pub spec: SourceSpec,
}
