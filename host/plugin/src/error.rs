use std::time::Duration;

/// Why a component is not loaded. What ran before goes on running.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// No WebAssembly at all.
    #[error("not WebAssembly: the file begins with {0}")]
    NotWasm(String),
    /// A module without the component around it.
    #[error(
        "not a component: this is a core module; build it with --target wasm32-wasip2, \
         or with `cargo component build`"
    )]
    CoreModule,
    /// The wasm cannot be read or compiled.
    #[error("half written or damaged: {0}")]
    Damaged(String),
    /// Above the host's limit on files.
    #[error("{size} bytes are above the limit of {limit} bytes a component")]
    TooLarge {
        /// Size of the file.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// A component of another kind.
    #[error("not a plugin: it does not export penstock:plugin/guest")]
    NotAPlugin,
    /// Made for an interface that this host does not have.
    #[error("built for penstock:plugin@{found}, this host has {ours}")]
    Version {
        /// What the component was built for.
        found: String,
        /// What this host speaks.
        ours: &'static str,
    },
    /// The operator has not granted an import.
    #[error("imports {import}, which is not granted; add \"{key}\" to `grants`")]
    NotGranted {
        /// The whole name of the import.
        import: String,
        /// What to write in `grants`.
        key: &'static str,
    },
    /// The host has no such interface.
    #[error("imports {0}, which this host does not have")]
    UnknownImport(String),
    /// An interface has the right name and another shape.
    #[error("does not fit penstock:plugin@{ours}: {why}")]
    Interface {
        /// What this host speaks.
        ours: &'static str,
        /// What differs.
        why: String,
    },
    /// It would begin above its limit.
    #[error(
        "asks for {asked} bytes of memory to begin with, above `memory_bytes` = {limit} \
         in `limits`"
    )]
    Memory {
        /// Bytes of its largest memory at the start.
        asked: u64,
        /// The limit.
        limit: u64,
    },
    /// It died on the way up.
    #[error("`{call}` failed: {source}")]
    Start {
        /// Which call: `instantiate`, `describe`, `init` or `interval`.
        call: &'static str,
        /// How.
        source: CallError,
    },
    /// `init` returned an error.
    #[error("`init` refused the config: {0}")]
    Init(String),
}

/// How a call into a plugin ended badly.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The guest trapped: a panic, a bad access, `unreachable`.
    #[error("trap: {message}{}", said(.words))]
    Trap {
        /// What wasmtime says.
        message: String,
        /// The last lines it wrote to stderr or logged as errors in this call.
        words: String,
    },
    /// The call took longer than it may.
    #[error("missed its deadline of {limit:?}{}", said(.words))]
    Deadline {
        /// How long the call may take.
        limit: Duration,
        /// What it said last.
        words: String,
    },
    /// It died after it was refused memory.
    #[error("out of memory: the limit is {limit} bytes{}", said(.words))]
    Memory {
        /// `limits.memory_bytes`.
        limit: u64,
        /// What it said last.
        words: String,
    },
    /// It handed more data to the host in one call than it may.
    #[error("handed over more than `hostcall_bytes` = {0} in one call")]
    Output(usize),
    /// It holds more host resources than it may.
    #[error("holds more than `resources` = {0} host resources")]
    Resources(usize),
    /// It called `exit`.
    #[error("called exit{}", said(.0))]
    Exit(String),
    /// It called a part of WASI that plugins do not have.
    #[error("called {0}, which plugins do not have")]
    Inert(String),
    /// The plugin answered with an error of its own; it lives.
    #[error("{0}")]
    Refused(String),
    /// The answer is not one the host can believe; it lives.
    #[error("gave an answer that cannot be true: {0}")]
    Lie(String),
    /// A batch or change of a source that it was never told of; it lives.
    #[error("source {0} has not joined")]
    NotJoined(u32),
    /// The plugin does not export this interface; it lives.
    #[error("the plugin does not export `{0}`")]
    Missing(&'static str),
    /// An earlier call killed the instance.
    #[error("the instance is dead")]
    Dead,
}

fn said(words: &str) -> String {
    let words = words.trim();
    if words.is_empty() {
        String::new()
    } else {
        format!("; it said: {words}")
    }
}

// === impl LoadError ===

impl LoadError {
    /// A short code from a bounded set, as in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotWasm(_) => "not_wasm",
            Self::CoreModule => "core_module",
            Self::Damaged(_) => "damaged",
            Self::TooLarge { .. } => "too_large",
            Self::NotAPlugin => "not_a_plugin",
            Self::Version { .. } => "version",
            Self::NotGranted { .. } => "not_granted",
            Self::UnknownImport(_) => "unknown_import",
            Self::Interface { .. } => "interface",
            Self::Memory { .. } => "memory",
            Self::Start { .. } => "start",
            Self::Init(_) => "init",
        }
    }
}

/// Why a candidate is refused before it saw an event of today.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// It failed.
    #[error(transparent)]
    Failed(#[from] CallError),
    /// It would miss its deadline on a busier day.
    #[error("a call of {call} took {took:?}, more than half of its deadline ({half:?})")]
    Slow {
        /// Which call.
        call: &'static str,
        /// Its time on a processor.
        took: std::time::Duration,
        /// What was allowed.
        half: std::time::Duration,
    },
}

// === impl CallError ===

impl CallError {
    /// A short code from a bounded set, as in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::Deadline { .. } => "deadline",
            Self::Memory { .. } => "memory",
            Self::Output(_) => "output",
            Self::Resources(_) => "resources",
            Self::Exit(_) => "exit",
            Self::Inert(_) => "inert",
            Self::Refused(_) => "refused",
            Self::Lie(_) => "lie",
            Self::NotJoined(_) => "not_joined",
            Self::Missing(_) => "missing",
            Self::Dead => "dead",
        }
    }

    /// True when the Store is lost with it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(
            self,
            Self::Refused(_) | Self::Lie(_) | Self::NotJoined(_) | Self::Missing(_)
        )
    }
}
