use crate::{Link, Position, SourceId};
use std::sync::Arc;
use std::time::Duration;

/// What a lookup asks by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A prompt's tokens; the plugin cuts them into blocks of each size it holds.
    Tokens(Arc<[u32]>),
    /// Token hashes of consecutive blocks, from the prompt's start.
    TokenHashes(Arc<[u64]>),
    /// The engine's own block hashes (low 64 bits), from the prompt's start.
    EngineHashes(Arc<[u64]>),
}

/// Who holds the longest prefix of this prompt?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Model; empty: sources without a model.
    pub model: String,
    /// Adapter (LoRA) name; empty: none.
    pub adapter: String,
    /// Cache salt; empty: none.
    pub salt: String,
    /// The prefix.
    pub by: By,
    /// How long the asker waits.
    pub deadline: Duration,
    /// Also answer for sources that are stale.
    pub include_stale: bool,
}

/// One (source, rank) that holds at least one block of the prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The source's number.
    pub source: u32,
    /// Data-parallel rank named by its batches; 0 without one.
    pub rank: u32,
    /// Consecutive blocks held from the start, in whatever medium.
    pub blocks: u32,
    /// The same in tokens; 0 when asked by hashes of unknown block size.
    pub tokens: u32,
    /// Tokens of those blocks that are in device memory.
    pub gpu: u32,
    /// In host memory. A block in two media counts in both.
    pub cpu: u32,
    /// On disk.
    pub disk: u32,
    /// In an external store, or in a medium not named or unknown.
    pub other: u32,
}

/// How far one source has been applied in the plugin that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// Whose.
    pub source: SourceId,
    /// Its unique name.
    pub name: Arc<str>,
    /// Its engine instance.
    pub instance: Arc<str>,
    /// The last batch applied; none before the first.
    pub position: Option<Position>,
    /// Nothing is known to be missing: no gap since the last reset or clear.
    pub complete: bool,
    /// The end of the stream can be checked (there is a replay endpoint).
    pub verified: bool,
    /// State of the connection.
    pub link: Link,
}

/// What a plugin and the host answer together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Holders, in no order.
    pub rows: Vec<Row>,
    /// Every source of the model, holder or not, at the moment of the lookup.
    pub positions: Vec<SourcePosition>,
    /// Names of sources that are not answered for now: stale ones, and those of an
    /// instance that is down.
    pub unavailable: Vec<Arc<str>>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// No plugin of that name answers lookups.
    NoPlugin(String),
    /// No plugin of that name takes requests.
    NoRequests(String),
    /// The plugin, or any at all for an empty name, is being loaded. Ask again soon.
    Loading(String),
    /// No source serves the model; the models known are named.
    NoModel(Vec<String>),
    /// The queue of lookups is full. Ask again later.
    Busy,
    /// The deadline passed before the plugin answered.
    Deadline,
    /// The plugin is down or answered with an error.
    Failed(String),
}

impl std::fmt::Display for LookupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoPlugin(name) if name.is_empty() => write!(f, "no plugin answers lookups"),
            Self::NoPlugin(name) => write!(f, "no plugin named {name:?} answers lookups"),
            Self::NoRequests(name) => write!(f, "no plugin named {name:?} takes requests"),
            Self::Loading(name) if name.is_empty() => {
                write!(f, "plugins are being loaded; ask again soon")
            }
            Self::Loading(name) => write!(f, "{name} is being loaded; ask again soon"),
            Self::NoModel(known) => write!(f, "no source serves that model; known: {known:?}"),
            Self::Busy => write!(f, "busy: the queue of lookups is full"),
            Self::Deadline => write!(f, "the deadline passed before the plugin answered"),
            Self::Failed(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for LookupError {}
