//! The two sides: `prefix-index` as a component and as a crate.

use crate::feeder::CHUNK;
use anyhow::{Context, Result, anyhow};
use penstock_event::{
    Batch, By, Change, Columns, Dictionary, Query, SourceId, SourceInfo, SourceSpec, SourceState,
};
use penstock_plugin::{Cache, Compiled, Grants, Host, Instance, Limits, Setup};
use penstock_prefix_index::PrefixIndex;
use penstock_sdk::{RawBatch, RawChange, testing};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An answer's rows as words, sorted.
pub type Rows = Vec<[u32; 8]>;

/// What takes batches and answers lookups.
pub trait Plugged {
    /// A source joins.
    fn join(&mut self, source: usize) -> Result<()>;
    /// The names that a source's columns refer to.
    fn names(&self, source: usize) -> &Dictionary;
    /// Gets batches ready for [`feed`](Self::feed), outside of the clock.
    fn stage(&mut self, batches: &[Batch]);
    /// Takes the batches staged, all of them; returns how many events it refused.
    fn feed(&mut self, batches: &[Batch]) -> Result<usize>;
    /// Who holds these tokens?
    fn find_tokens(&mut self, tokens: Vec<u32>) -> Result<Rows>;
    /// Who holds these blocks?
    fn find_hashes(&mut self, hashes: Vec<u64>) -> Result<Rows>;
}

/// The component, compiled once.
pub struct Component {
    host: Arc<Host>,
    compiled: Arc<Compiled>,
    setup: Arc<Setup>,
}

/// An instance of it.
pub struct Wasm {
    instance: Instance,
    sources: Vec<Arc<SourceState>>,
}

/// The crate in this program.
pub struct Native {
    instance: penstock_sdk::Instance<PrefixIndex>,
    names: Vec<Dictionary>,
    staged: Vec<RawBatch>,
}

const MODEL: &str = "m";

/// Bytes of a piece at most, as the host asks for them.
const PIECE: u32 = 256 << 10;

// === impl Component ===

impl Component {
    /// Compiles what `cargo xtask plugins` built, with the limits of a config without any.
    pub fn load() -> Result<Self> {
        Self::with(Limits::default(), None)
    }

    /// The same with limits and a config.
    pub fn with(limits: Limits, config: Option<&Map<String, Value>>) -> Result<Self> {
        Self::of(Host::new()?, &bytes()?, limits, config)
    }

    /// The same each time, to the last hash; compiled once.
    pub fn counted(cache: &Path) -> Result<Self> {
        let host = Host::with_cache(Some(Cache::open(cache)?), 1)?;
        let limits = Limits {
            // Valgrind takes its time.
            deadline_ms: 60_000,
            ..Limits::default()
        };
        Self::of(host, &bytes()?, limits, None)
    }

    fn of(
        host: Arc<Host>,
        bytes: &[u8],
        limits: Limits,
        config: Option<&Map<String, Value>>,
    ) -> Result<Self> {
        let grants = Grants::all();
        let compiled = host.compile(bytes, &grants, &limits)?;
        let setup = Setup::new("prefix-index", limits, grants, config, HashMap::new());
        Ok(Self {
            host,
            compiled,
            setup,
        })
    }

    /// An instance that is set up.
    pub fn instance(&self) -> Result<Wasm> {
        let mut instance = Instance::new(&self.host, &self.compiled, &self.setup)?;
        let said = instance.describe()?;
        let decoded = crate::parts::decode::WANTED;
        anyhow::ensure!(
            said.columns == decoded,
            "prefix-index asks for the columns {:?}, {decoded:?} are decoded",
            said.columns
        );
        instance.init(&self.setup.config)?;
        Ok(Wasm {
            instance,
            sources: Vec::new(),
        })
    }
}

// === impl Wasm ===

impl Wasm {
    /// Bytes of its linear memory.
    pub fn memory(&self) -> u64 {
        self.instance.memory_bytes()
    }

    /// All pieces of a source's state.
    pub fn snapshot(&mut self, source: usize) -> Result<Vec<Vec<u8>>> {
        let (mut pieces, mut cursor) = (Vec::new(), Some(0));
        while let Some(at) = cursor {
            let piece = self.instance.snapshot(SourceId(source as u32), at, PIECE)?;
            cursor = piece.next;
            pieces.push(piece.bytes);
        }
        Ok(pieces)
    }

    /// Takes one over.
    pub fn restore(&mut self, source: usize, piece: &[u8]) -> Result<()> {
        let schema = self.instance.describe()?.state_schema;
        Ok(self
            .instance
            .restore(SourceId(source as u32), schema, piece)?)
    }

    fn find(&mut self, by: By) -> Result<Rows> {
        let query = Query {
            model: MODEL.into(),
            adapter: String::new(),
            salt: String::new(),
            by,
            deadline: Duration::from_secs(10),
            include_stale: false,
        };
        let rows = self.instance.find(&query)?;
        let words = rows.iter().map(|r| {
            [
                r.source, r.rank, r.blocks, r.tokens, r.gpu, r.cpu, r.disk, r.other,
            ]
        });
        Ok(sorted(words.collect()))
    }
}

impl Plugged for Wasm {
    fn join(&mut self, source: usize) -> Result<()> {
        let name = format!("engine-{source}");
        let info = SourceInfo {
            id: SourceId(source as u32),
            name: name.as_str().into(),
            spec: SourceSpec {
                instance: name,
                model: MODEL.into(),
                ..SourceSpec::default()
            },
        };
        let state = Arc::new(SourceState::new(info));
        self.instance.on_source(&Change::Joined(state.clone()))?;
        self.sources.push(state);
        Ok(())
    }

    fn names(&self, source: usize) -> &Dictionary {
        &self.sources[source].dictionary
    }

    fn stage(&mut self, _: &[Batch]) {}

    fn feed(&mut self, batches: &[Batch]) -> Result<usize> {
        let mut refused = 0;
        for batch in batches {
            refused += self.instance.on_batch(batch)?.len();
        }
        Ok(refused)
    }

    fn find_tokens(&mut self, tokens: Vec<u32>) -> Result<Rows> {
        self.find(By::Tokens(tokens.into()))
    }

    fn find_hashes(&mut self, hashes: Vec<u64>) -> Result<Rows> {
        self.find(By::EngineHashes(hashes.into()))
    }
}

// === impl Native ===

impl Native {
    /// An instance that is set up, for so many sources.
    pub fn new(sources: usize) -> Result<Self> {
        let mut instance = penstock_sdk::Instance::new();
        instance.init("{}").map_err(anyhow::Error::msg)?;
        let blank = || testing::batch(0).build(&mut testing::Names::default());
        Ok(Self {
            instance,
            names: (0..sources).map(|_| Dictionary::default()).collect(),
            staged: (0..CHUNK).map(|_| blank()).collect(),
        })
    }

    /// Blocks in the index.
    pub fn blocks(&self) -> u64 {
        self.instance
            .plugin()
            .map_or(0, |p| p.index().sizes().blocks)
    }

    fn find(&mut self, by: penstock_sdk::By) -> Result<Rows> {
        let query = penstock_sdk::Query {
            model: MODEL.into(),
            adapter: String::new(),
            salt: String::new(),
            by,
        };
        let words = self.instance.find(&query).map_err(|e| anyhow!(e))?;
        Ok(sorted(words.as_chunks().0.to_vec()))
    }
}

impl Plugged for Native {
    fn join(&mut self, source: usize) -> Result<()> {
        let name = format!("engine-{source}");
        self.instance.on_source(RawChange {
            info: Some(penstock_sdk::SourceInfo {
                name: name.clone(),
                instance: name,
                rank: 0,
                model: MODEL.into(),
                labels: Vec::new(),
            }),
            ..testing::change(source as u32, 0)
        });
        Ok(())
    }

    fn names(&self, source: usize) -> &Dictionary {
        &self.names[source]
    }

    fn stage(&mut self, batches: &[Batch]) {
        for (batch, raw) in batches.iter().zip(&mut self.staged) {
            let columns: &Columns = &batch.columns;
            raw.source = batch.source.0;
            raw.sequence = batch.sequence;
            raw.rank = batch.rank.unwrap_or(u32::MAX);
            raw.published = batch.published_us;
            raw.received = batch.received_us;
            raw.events.clone_from(&columns.events);
            raw.parents.clone_from(&columns.parents);
            raw.hashes.clone_from(&columns.hashes);
            raw.token_hashes.clone_from(&columns.token_hashes);
            raw.extra_digests.clone_from(&columns.extra_digests);
        }
    }

    fn feed(&mut self, batches: &[Batch]) -> Result<usize> {
        let staged = self.staged.iter().take(batches.len());
        Ok(staged.map(|raw| self.instance.on_batch(raw).len()).sum())
    }

    fn find_tokens(&mut self, tokens: Vec<u32>) -> Result<Rows> {
        self.find(penstock_sdk::By::Tokens(tokens))
    }

    fn find_hashes(&mut self, hashes: Vec<u64>) -> Result<Rows> {
        self.find(penstock_sdk::By::EngineHashes(hashes))
    }
}

fn bytes() -> Result<Vec<u8>> {
    let path = penstock_testkit::plugin_file("prefix-index");
    std::fs::read(&path).with_context(|| path.display().to_string())
}

fn sorted(mut rows: Rows) -> Rows {
    rows.sort_unstable();
    rows
}
