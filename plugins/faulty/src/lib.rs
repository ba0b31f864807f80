//! Misbehaves on command: for tests of the host.
//!
//! A penstock plugin that exports every interface. Its config names one fault
//! and where it shows; without one it behaves, counts what it sees, and answers:
//!
//! ```toml
//! [config]
//! fault = "loop"      # what: see `faults`
//! in = "on-batch"     # where: one of the exports, on-batch by default
//! after = 3           # batches handled well before it shows
//! echo = "out"        # a sink that every batch is forwarded to
//! pass = "odd"        # events for those after it: `all`, `odd` (by their index), `anew`
//!                     # (all, as events of its own), or none by default
//! ```
//!
//! A request (`handle`) with the same table as JSON sets another fault while it
//! runs, answered by `ok`; any other body is sent back. A fault in `init` shows
//! at once. `describe` comes before any config, so its faults are features of
//! the build: `describe-trap`, `describe-loop`, `describe-lie`.
//!
//! Lookups are answered by one row: the source that joined last, rank 0, as many
//! blocks as batches were handled, which a snapshot carries as 8 bytes.

pub mod faults;
pub mod lies;

use faults::{Fault, Place};
use penstock_sdk::{
    Batch, Change, Columns, Description, Event, Lookup, Piece, Plugin, Query, Refused, Request,
    Row, SourceChange, State, Tick, emit, error, metrics, publish,
};

/// The plugin.
#[derive(Debug)]
pub struct Faulty {
    config: Config,
    /// Batches handled.
    batches: u64,
    /// The source that joined last.
    source: u32,
    leaked: Vec<Vec<u8>>,
}

/// The plugin's config.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    fault: String,
    r#in: String,
    after: u64,
    echo: String,
    pass: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            fault: "none".to_owned(),
            r#in: "on-batch".to_owned(),
            after: 0,
            echo: String::new(),
            pass: String::new(),
        }
    }
}

/// The version its state is written in.
pub const SCHEMA: u32 = 1;

// === impl Faulty ===

impl Faulty {
    /// The fault, when it shows here and now.
    fn fault(&self, place: Place) -> Option<Fault> {
        let fault = Fault::named(&self.config.fault)?;
        let here = Place::named(&self.config.r#in) == Some(place);
        let now = place == Place::Init || self.batches >= self.config.after;
        (here && now).then_some(fault)
    }

    /// Emits what its config says.
    fn pass(&self, batch: &Batch<'_>) {
        let mut out = emit::Events::new();
        for event in batch.events() {
            match (&*self.config.pass, &event) {
                ("all", _) => out.keep(&event),
                ("odd", _) if event.common().index() % 2 == 1 => out.keep(&event),
                ("anew", Event::Stored(s)) => out.stored(s, s.parent(), s.hashes(), s.tokens()),
                ("anew", Event::Removed(r)) => out.removed(event.common(), r.hashes()),
                ("anew", Event::Cleared(_)) => out.keep(&event),
                _ => {}
            }
        }
        if let Err(error) = out.emit() {
            error!("not emitted: {error}");
        }
    }

    /// Does what the fault says, if there is one here and now. An error is
    /// what a call with a result answers; others have none to give.
    fn misbehave(&mut self, place: Place) -> Result<(), String> {
        match self.fault(place) {
            Some(fault) => fault.show(&mut self.leaked),
            None => Ok(()),
        }
    }
}

impl Config {
    fn checked(self) -> Result<Self, String> {
        if Fault::named(&self.fault).is_none() {
            return Err(format!(
                "fault = {:?} is not known; known are {}",
                self.fault,
                faults::names()
            ));
        }
        if Place::named(&self.r#in).is_none() {
            return Err(format!(
                "in = {:?} is not known; known are {}",
                self.r#in,
                faults::places()
            ));
        }
        Ok(self)
    }
}

impl Plugin for Faulty {
    const NAME: &'static str = "faulty";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    // For what it emits anew.
    const COLUMNS: Columns = Columns::TOKENS;
    const STATE_SCHEMA: u32 = SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        let mut faulty = Self {
            config: config.checked()?,
            batches: 0,
            source: 0,
            leaked: Vec::new(),
        };
        faulty.misbehave(Place::Init)?;
        Ok(faulty)
    }

    fn on_batch(&mut self, batch: &Batch<'_>, refused: &mut Refused) {
        if self.misbehave(Place::OnBatch).is_err() {
            for index in 0..batch.len() as u32 {
                refused.event(index, 1);
            }
        }
        if let Some(fault) = self.fault(Place::OnBatch) {
            lies::refusals(fault, refused);
        }
        self.batches += 1;
        if !self.config.echo.is_empty() {
            // Who misbehaves need not hear that the sink is full.
            let _ = publish::forward(&self.config.echo, b"batch");
        }
        metrics::add("batches", 1);
        self.pass(batch);
    }

    fn on_source(&mut self, change: &SourceChange<'_>) {
        if let Change::Joined(_) = change.change {
            self.source = change.source;
        }
        // There is no result to put an error into.
        let _ = self.misbehave(Place::OnSource);
    }

    fn describe() -> Description {
        if cfg!(feature = "describe-trap") {
            faults::trap();
        }
        if cfg!(feature = "describe-loop") {
            faults::spin();
        }
        let lie = cfg!(feature = "describe-lie");
        Description {
            name: if lie {
                "x".repeat(1 << 20)
            } else {
                "faulty".to_owned()
            },
            version: Self::VERSION.to_owned(),
            columns: if lie {
                Columns(u32::MAX)
            } else {
                Self::COLUMNS
            },
            state_schema: if lie { u32::MAX } else { SCHEMA },
        }
    }
}

impl Lookup for Faulty {
    fn find(&mut self, _: &Query) -> Result<Vec<Row>, String> {
        Ok(vec![Row {
            source: self.source,
            blocks: u32::try_from(self.batches).unwrap_or(u32::MAX),
            ..Row::default()
        }])
    }

    fn find_words(&mut self, query: &Query) -> Result<Vec<u32>, String> {
        self.misbehave(Place::Find)?;
        if let Some(words) = self.fault(Place::Find).and_then(lies::rows) {
            return Ok(words);
        }
        let rows = self.find(query)?;
        Ok(rows.iter().flat_map(|row| row.to_words()).collect())
    }
}

impl Request for Faulty {
    fn handle(&mut self, body: &[u8]) -> Result<Vec<u8>, String> {
        self.misbehave(Place::Handle)?;
        if let Some(reply) = self.fault(Place::Handle).and_then(lies::reply) {
            return Ok(reply);
        }
        if body.first() != Some(&b'{') {
            return Ok(body.to_vec());
        }
        let mut config: Config =
            serde_json::from_slice(body).map_err(|e| format!("config: {e}"))?;
        if config.echo.is_empty() {
            config.echo.clone_from(&self.config.echo);
        }
        if config.pass.is_empty() {
            config.pass.clone_from(&self.config.pass);
        }
        self.config = config.checked()?;
        // From now on, not from the start.
        self.config.after = self.config.after.saturating_add(self.batches);
        Ok(b"ok".to_vec())
    }
}

impl Tick for Faulty {
    fn interval_ms(&self) -> u32 {
        match self.fault(Place::Interval) {
            // There is no result to put an error into.
            Some(fault) if fault != Fault::LieInterval => {
                let _ = fault.show(&mut Vec::new());
                50
            }
            Some(fault) => lies::interval(fault),
            None => 50,
        }
    }

    fn tick(&mut self) {
        // There is no result to put an error into.
        let _ = self.misbehave(Place::Tick);
        metrics::add("ticks", 1);
    }
}

impl State for Faulty {
    fn snapshot(&mut self, _: u32, cursor: u64, max_bytes: u32) -> Result<Piece, String> {
        self.misbehave(Place::Snapshot)?;
        let fault = self.fault(Place::Snapshot);
        if let Some(piece) = fault.and_then(|f| lies::piece(f, cursor, max_bytes)) {
            return Ok(piece);
        }
        Ok(Piece {
            bytes: self.batches.to_le_bytes().to_vec(),
            next: None,
        })
    }

    fn restore(&mut self, _: u32, schema: u32, bytes: &[u8]) -> Result<(), String> {
        self.misbehave(Place::Restore)?;
        if schema != SCHEMA {
            return Err(format!("schema {schema} is not {SCHEMA}"));
        }
        let bytes = <[u8; 8]>::try_from(bytes).map_err(|_| "a piece is 8 bytes".to_owned())?;
        self.batches = self.batches.max(u64::from_le_bytes(bytes));
        Ok(())
    }
}

penstock_sdk::export!(Faulty: Lookup, Request, Tick, State);

#[cfg(test)]
mod tests;
