//! A stand-in for the daemon around one plugin.

use super::{BatchBuilder, Names};
use crate::{
    Instance, Lookup, Plugin, Query, RawChange, Request, Row, SourceId, SourceInfo, State, Tick,
};

/// A stand-in for the daemon around one plugin.
#[derive(Debug)]
pub struct Host<P> {
    instance: Instance<P>,
    names: Names,
}

/// A change of a kind, with nothing else in it.
#[must_use]
pub fn change(source: SourceId, kind: u8) -> RawChange {
    RawChange {
        source,
        kind,
        epoch: 0,
        first: 0,
        last: 0,
        reason: 0,
        info: None,
        entries: vec![],
    }
}

// === impl Host ===

impl<P: Plugin> Host<P> {
    /// Describes and sets up the plugin, as the daemon does.
    ///
    /// # Errors
    /// Those of `init`.
    pub fn start(config: &str) -> Result<Self, String> {
        let _ = Instance::<P>::describe();
        let mut instance = Instance::new();
        instance.init(config)?;
        Ok(Self {
            instance,
            names: Names::default(),
        })
    }

    /// A source joins: name and instance alike, rank 0, no labels.
    pub fn join(&mut self, source: SourceId, name: &str, model: &str) {
        self.join_as(
            source,
            SourceInfo {
                name: name.to_owned(),
                instance: name.to_owned(),
                rank: 0,
                model: model.to_owned(),
                labels: vec![],
            },
        );
    }

    /// A source joins.
    pub fn join_as(&mut self, source: SourceId, info: SourceInfo) {
        let info = Some(info);
        self.change(RawChange {
            info,
            ..change(source, 0)
        });
    }

    /// A source leaves for good.
    pub fn leave(&mut self, source: SourceId) {
        self.change(change(source, 1));
    }

    /// A source's engine restarted.
    pub fn reset(&mut self, source: SourceId, epoch: u32) {
        self.change(RawChange {
            epoch,
            ..change(source, 2)
        });
    }

    /// Any other change.
    pub fn change(&mut self, change: RawChange) {
        self.instance.on_source(change);
    }

    /// Sends a batch, its new names first; answers index and code of refusals.
    pub fn send(&mut self, batch: BatchBuilder) -> Vec<(u32, u32)> {
        let raw = batch.build(&mut self.names);
        for (source, entry) in std::mem::take(&mut self.names.fresh) {
            let entries = vec![entry];
            self.instance.on_source(RawChange {
                entries,
                ..change(source, 4)
            });
        }
        let refused = self.instance.on_batch(&raw);
        refused.iter().map(|r| (r.event, r.code)).collect()
    }

    /// The plugin.
    ///
    /// # Panics
    /// Never: [`Host::start`] set it up.
    #[must_use]
    pub fn plugin(&self) -> &P {
        match self.instance.plugin() {
            Some(plugin) => plugin,
            None => unreachable!("start sets the plugin up"),
        }
    }

    /// The instance, for the optional interfaces.
    pub fn instance(&mut self) -> &mut Instance<P> {
        &mut self.instance
    }
}

impl<P: Lookup> Host<P> {
    /// Asks a lookup; rows are sorted by source and rank.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn find(&mut self, query: &Query) -> Result<Vec<Row>, String> {
        let words = self.instance.find(query)?;
        let (rows, rest) = words.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(format!("{} words are no rows of 8", words.len()));
        }
        let mut rows: Vec<Row> = rows.iter().map(Row::from_words).collect();
        rows.sort_unstable();
        Ok(rows)
    }
}

impl<P: Request> Host<P> {
    /// Hands it a request.
    ///
    /// # Errors
    /// The plugin's own, or that the answer is no text.
    pub fn handle(&mut self, body: &str) -> Result<String, String> {
        let answer = self.instance.handle(body.as_bytes())?;
        String::from_utf8(answer).map_err(|e| e.to_string())
    }
}

impl<P: Tick> Host<P> {
    /// One tick.
    pub fn tick(&mut self) {
        self.instance.tick();
    }
}

impl<P: State> Host<P> {
    /// Moves the state of `source` from another instance, which may be of another
    /// build, in pieces of at most `max_bytes` (a daemon's are 1 MiB); answers their
    /// number.
    ///
    /// # Errors
    /// What either of the two refuses, and a piece that breaks the interface's rules.
    pub fn take_over<Q: State>(
        &mut self,
        old: &mut Host<Q>,
        source: SourceId,
        max_bytes: u32,
    ) -> Result<usize, String> {
        let schema = Instance::<Q>::describe().state_schema;
        if schema == 0 {
            return Err("STATE_SCHEMA is 0: no host asks for its state".to_owned());
        }
        let (mut cursor, mut pieces) = (0, 0);
        loop {
            let piece = old.instance.snapshot(source, cursor, max_bytes)?;
            if piece.bytes.len() > max_bytes as usize {
                let size = piece.bytes.len();
                return Err(format!("a piece of {size} bytes, above {max_bytes}"));
            }
            self.instance.restore(source, schema, &piece.bytes)?;
            pieces += 1;
            match piece.next {
                Some(next) if next == cursor => return Err(format!("stays at cursor {next}")),
                Some(next) => cursor = next,
                None => return Ok(pieces),
            }
        }
    }
}
