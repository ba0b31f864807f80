use crate::clock::Clock;
use crate::emission::Emission;
use crate::host::log::Level;
use crate::host::metrics::Handles;
use crate::setup::Setup;
use crate::wasi::Lines;
use bytes::Bytes;
use penstock_event::{Position, SourceState};
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Result};

/// What a Store knows beside the guest: the data of every host function.
pub(crate) struct Ctx {
    pub(crate) setup: Arc<Setup>,
    /// WASI's streams and pollables.
    pub(crate) table: ResourceTable,
    /// Zero of the guest's monotonic clock.
    pub(crate) started: Instant,
    pub(crate) rng: SmallRng,
    /// The same in all instances of the plugin.
    pub(crate) hash_seed: (u64, u64),
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
    pub(crate) metrics: Handles,
    /// Off while an instance is tried out: what it publishes goes nowhere.
    pub(crate) effects: bool,
    /// Messages published in the call under way, and a digest of them; none: nobody
    /// wants to know.
    pub(crate) said: Option<(u32, u64)>,
    /// What the call under way is about.
    pub(crate) current: Option<Current>,
    /// When the call under way must be over.
    pub(crate) deadline: Instant,
    /// Bytes that the call under way has published.
    pub(crate) published: usize,
    /// What the last call emitted, or the one under way so far.
    pub(crate) emission: Emission,
    /// Of the call under way.
    pub(crate) clock: Clock,
    /// The last words of the call under way, for the report of its end.
    pub(crate) words: String,
    /// Bytes of linear memory.
    pub(crate) memory: usize,
    /// The call under way was refused memory.
    pub(crate) starved: bool,
    table_elements: usize,
}

/// What a call is about.
#[derive(Clone)]
pub(crate) struct Current {
    /// Whose batch or change.
    pub(crate) source: Arc<SourceState>,
    /// Where it stands.
    pub(crate) position: Position,
    /// The batch's payload; none in calls that are not about a batch.
    pub(crate) payload: Option<Bytes>,
    /// How many events it has; none without a batch.
    pub(crate) events: Option<u32>,
}

/// Why a host function ended the call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("would wait past its deadline")]
    Deadline,
    #[error("called exit")]
    Exit,
    #[error("{0} is not for plugins")]
    Inert(String),
}

/// Words kept for the report of a call's end, in bytes.
const MAX_WORDS: usize = 2_048;

// === impl Ctx ===

impl Ctx {
    pub(crate) fn new(setup: Arc<Setup>, hash_seed: (u64, u64)) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(setup.limits.resources);
        let line = setup.limits.log_line_bytes;
        Self {
            table,
            started: Instant::now(),
            rng: rand::make_rng(),
            hash_seed,
            stdout: Lines::new(Level::INFO, line),
            stderr: Lines::new(Level::WARN, line),
            metrics: Handles::default(),
            effects: false,
            said: None,
            current: None,
            deadline: Instant::now(),
            published: 0,
            emission: Emission::default(),
            clock: Clock::default(),
            words: String::new(),
            memory: 0,
            starved: false,
            table_elements: 0,
            setup,
        }
    }

    /// Before each call.
    pub(crate) fn begin(&mut self, limit: Duration, now: Instant) {
        self.deadline = now + limit;
        self.published = 0;
        self.emission.clear();
        self.starved = false;
        self.words.clear();
    }

    /// After each call.
    pub(crate) fn end(&mut self) {
        self.current = None;
        for stream in [Stream::Out, Stream::Err] {
            self.flush(stream);
        }
    }

    /// A line of the plugin for the daemon's log.
    pub(crate) fn say(&mut self, level: Level, text: &str) {
        if level <= Level::WARN && self.words.len() < MAX_WORDS {
            let room = MAX_WORDS - self.words.len();
            if !self.words.is_empty() {
                self.words.push_str(" | ");
            }
            self.words.push_str(crate::host::log::cut(text, room));
        }
        self.setup.log.write(level, text);
    }

    /// Bytes that the guest wrote to a standard stream.
    pub(crate) fn print(&mut self, stream: Stream, bytes: &[u8]) {
        let mut lines = std::mem::take(self.lines(stream));
        lines.take(bytes, |level, line| self.say(level, line));
        *self.lines(stream) = lines;
    }

    fn flush(&mut self, stream: Stream) {
        if self.lines(stream).is_empty() {
            return;
        }
        let mut lines = std::mem::take(self.lines(stream));
        lines.finish(|level, line| self.say(level, line));
        *self.lines(stream) = lines;
    }

    fn lines(&mut self, stream: Stream) -> &mut Lines {
        match stream {
            Stream::Out => &mut self.stdout,
            Stream::Err => &mut self.stderr,
        }
    }
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

impl ResourceLimiter for Ctx {
    fn memory_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> Result<bool> {
        // Several memories share one limit, so that a second one is no way around it.
        let total = self.memory.saturating_add(wanted.saturating_sub(now));
        if total as u64 > self.setup.limits.memory_bytes {
            self.starved = true;
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> Result<bool> {
        let total = self
            .table_elements
            .saturating_add(wanted.saturating_sub(now));
        if total > self.setup.limits.table_elements {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.setup.limits.instances
    }

    fn tables(&self) -> usize {
        self.setup.limits.instances
    }

    fn memories(&self) -> usize {
        self.setup.limits.instances
    }
}
