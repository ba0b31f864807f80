use crate::bindings::base::PluginIndices;
use crate::bindings::base::exports::penstock::plugin::guest::{self, SourceChange};
use crate::bindings::base::penstock::plugin::types::{DictionaryEntry, Label, SourceInfo};
use crate::bindings::{base, lookup, request, state, tick};
use crate::cell::Cell;
use crate::check::OURS;
use crate::ctx::Current;
use crate::{CallError, Compiled, Host, LoadError, Setup, convert};
use penstock_event::{Batch, Change, ColumnSet, Emitted, Query, Row, SourceId, SourceState};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// One plugin in a Store of its own.
///
/// ```text
/// new -> describe -> init -> on_source / on_batch / find / request / tick ...
///                              | fatal CallError
///                              v
///                            dead: every call answers `Dead`; drop it
/// ```
///
/// Guarantees: no call lasts longer than its deadline and two ticks; whatever
/// the guest does, the Store takes the damage. Effects (messages, metrics) are
/// off until [`set_effects`](Self::set_effects).
///
/// Not here: threads, restarts, what an answer's positions are.
pub struct Instance {
    cell: Cell,
    guest: base::Plugin,
    lookup: Option<lookup::WithLookup>,
    request: Option<request::WithRequest>,
    tick: Option<tick::WithTick>,
    state: Option<state::WithState>,
    wants: ColumnSet,
    sources: HashMap<SourceId, Known>,
    lies: metrics::Counter,
}

/// Bytes of an error's text that are kept.
const MAX_WORDS: usize = 4_096;

/// A source the guest was told of.
struct Known {
    state: Arc<SourceState>,
    /// Dictionary entries it was told of.
    told: u32,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Its name, for people; at most 128 bytes.
    pub name: String,
    /// Its version, for people; at most 128 bytes.
    pub version: String,
    /// Columns it wants.
    #[serde(serialize_with = "bits")]
    pub columns: ColumnSet,
    /// Number of the schema of its state; 0 without one.
    pub state_schema: u32,
}

/// An event that a plugin could not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its index in the batch.
    pub event: u32,
    /// The plugin's own code, from 1.
    pub code: u32,
}

/// A piece of a source's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// At most as many bytes as were asked for.
    pub bytes: Vec<u8>,
    /// Where to go on; none after the last piece.
    pub next: Option<u64>,
}

/// Dictionary entries told in one call.
const ENTRIES_A_CALL: u32 = 4_096;

fn bits<S: serde::Serializer>(columns: &ColumnSet, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u32(columns.0)
}

// === impl Instance ===

impl Instance {
    /// A Store of its own with the component in it. Runs the guest's start code.
    ///
    /// # Errors
    /// A grant or a limit says no, the interface has another shape, or the start
    /// code died.
    pub fn new(
        host: &Arc<Host>,
        compiled: &Compiled,
        setup: &Arc<Setup>,
    ) -> Result<Self, LoadError> {
        compiled.allowed(&setup.grants, &setup.limits)?;
        let mut cell = Cell::new(host, setup);
        let pre = &compiled.pre;
        let limit = setup.limits.init_deadline();
        let instance = cell.call(limit, |store| pre.instantiate(store));
        let instance = instance.map_err(|source| LoadError::Start {
            call: "instantiate",
            source,
        })?;
        let shape = |e: wasmtime::Error| LoadError::Interface {
            ours: OURS,
            why: format!("{e:#}"),
        };
        let guest = PluginIndices::new(pre).and_then(|i| i.load(&mut cell.store, &instance));
        macro_rules! optional {
            ($has:ident, $module:ident, $indices:ident) => {
                if compiled.summary.features.$has {
                    let indices = $module::$indices::new(pre);
                    let load = indices.and_then(|i| i.load(&mut cell.store, &instance));
                    Some(load.map_err(shape)?)
                } else {
                    None
                }
            };
        }
        Ok(Self {
            guest: guest.map_err(shape)?,
            lookup: optional!(lookup, lookup, WithLookupIndices),
            request: optional!(request, request, WithRequestIndices),
            tick: optional!(tick, tick, WithTickIndices),
            state: optional!(state, state, WithStateIndices),
            wants: ColumnSet::default(),
            sources: HashMap::new(),
            lies: metrics::counter!(
                "penstock_plugin_lies_total", "plugin" => setup.name.to_string()
            ),
            cell,
        })
    }

    /// Asks the plugin what it is. The columns it names are those it gets.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn describe(&mut self) -> Result<Description, CallError> {
        let limit = self.cell.limits().init_deadline();
        let guest = self.guest.penstock_plugin_guest();
        let said = self.cell.call(limit, |store| guest.call_describe(store))?;
        let short = |text: &str| crate::host::log::cut(text, 128).to_owned();
        self.wants = ColumnSet(said.columns & ColumnSet::ALL.0);
        Ok(Description {
            name: short(&said.name),
            version: short(&said.version),
            columns: self.wants,
            state_schema: said.state_schema,
        })
    }

    /// Sets the plugin up with a JSON object.
    ///
    /// # Errors
    /// [`CallError::Refused`] holds the plugin's own words.
    pub fn init(&mut self, config: &str) -> Result<(), CallError> {
        let limit = self.cell.limits().init_deadline();
        let guest = self.guest.penstock_plugin_guest();
        let said = self
            .cell
            .call(limit, |store| guest.call_init(store, config))?;
        said.map_err(refused)
    }

    /// Hands over one batch, after the dictionary entries that are new in it.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::NotJoined`] when the source has not joined.
    pub fn on_batch(&mut self, batch: &Batch) -> Result<Vec<Refusal>, CallError> {
        let known = self.sources.get_mut(&batch.source);
        let known = known.ok_or(CallError::NotJoined(batch.source.0))?;
        let guest = self.guest.penstock_plugin_guest();
        let limit = self.cell.limits().deadline();
        while known.told < batch.dictionary_len {
            let to = batch
                .dictionary_len
                .min(known.told.saturating_add(ENTRIES_A_CALL));
            let entries = known.state.dictionary.entries(known.told, to);
            let entries: Vec<_> = entries
                .iter()
                .zip(known.told + 1..)
                .map(|(entry, code)| DictionaryEntry {
                    code,
                    kind: entry.kind as u8,
                    text: &entry.text,
                })
                .collect();
            let change = SourceChange {
                epoch: batch.epoch.0,
                entries: &entries,
                ..convert::change(batch.source, 4)
            };
            self.cell
                .call(limit, |store| guest.call_on_source(store, change))?;
            known.told = to;
        }
        self.cell.about(Current {
            source: known.state.clone(),
            position: batch.position(),
            payload: Some(batch.payload.clone()),
            events: u32::try_from(batch.columns.len()).ok(),
        });
        let columns = convert::batch(batch, self.wants);
        let refused = self
            .cell
            .call(limit, |store| guest.call_on_batch(store, columns))?;
        let events = batch.columns.len();
        let honest = |r: &guest::Refusal| (r.event as usize) < events;
        if refused.len() > events || !refused.iter().all(honest) {
            self.lies.increment(1);
        }
        let refused = refused.into_iter().filter(honest).take(events);
        Ok(refused
            .map(|r| Refusal {
                event: r.event,
                code: r.code,
            })
            .collect())
    }

    /// Tells a change of a source.
    ///
    /// # Errors
    /// As for [`on_batch`](Self::on_batch).
    pub fn on_source(&mut self, change: &Change) -> Result<(), CallError> {
        let id = change.source();
        if let Change::Joined(state) = change {
            let known = Known {
                state: state.clone(),
                told: 0,
            };
            self.sources.insert(id, known);
        }
        let known = match self.sources.get(&id) {
            Some(known) => known,
            // An instance made after it joined has nothing to forget.
            None if matches!(change, Change::Left(_)) => return Ok(()),
            None => return Err(CallError::NotJoined(id.0)),
        };
        if let Some(position) = convert::position(change, known.state.position()) {
            self.cell.about(Current {
                source: known.state.clone(),
                position,
                payload: None,
                events: None,
            });
        }
        let limit = self.cell.limits().deadline();
        let guest = self.guest.penstock_plugin_guest();
        let mut tell =
            |change: SourceChange<'_>| self.cell.call(limit, |s| guest.call_on_source(s, change));
        match change {
            Change::Joined(state) => {
                let spec = &state.info.spec;
                let labels: Vec<_> = spec
                    .labels
                    .iter()
                    .map(|(name, value)| Label { name, value })
                    .collect();
                let info = SourceInfo {
                    name: &state.info.name,
                    instance: &spec.instance,
                    rank: spec.rank.unwrap_or(0),
                    model: &spec.model,
                    labels: &labels,
                };
                tell(SourceChange {
                    info: Some(info),
                    ..convert::change(id, 0)
                })
            }
            Change::Left(_) => {
                let told = tell(convert::change(id, 1));
                self.sources.remove(&id);
                told
            }
            Change::Reset { epoch, reason, .. } => tell(SourceChange {
                epoch: epoch.0,
                reason: *reason as u32,
                ..convert::change(id, 2)
            }),
            Change::Gap {
                epoch,
                first,
                last,
                reason,
                ..
            } => tell(SourceChange {
                epoch: epoch.0,
                first: *first,
                last: *last,
                reason: *reason as u32,
                ..convert::change(id, 3)
            }),
        }
    }

    /// Asks who holds a prefix. The rows are checked, see [`CallError::Lie`].
    ///
    /// # Errors
    /// [`CallError::Refused`] holds the plugin's own words.
    pub fn find(&mut self, query: &Query) -> Result<Vec<Row>, CallError> {
        let lookup = self.lookup.as_ref().ok_or(CallError::Missing("lookup"))?;
        let lookup = lookup.penstock_plugin_lookup();
        let limit = self.cell.limits().deadline();
        let asked = convert::query(query);
        let said = self
            .cell
            .call(limit, |store| lookup.call_find(store, asked))?;
        let words = said.map_err(refused)?;
        convert::rows(&words, query, &self.sources).map_err(|lie| {
            self.lies.increment(1);
            CallError::Lie(lie)
        })
    }

    /// A request in the plugin's own form.
    ///
    /// # Errors
    /// [`CallError::Refused`] holds the plugin's own words.
    pub fn request(&mut self, body: &[u8]) -> Result<Vec<u8>, CallError> {
        let request = self.request.as_ref().ok_or(CallError::Missing("request"))?;
        let request = request.penstock_plugin_request();
        let limit = self.cell.limits().deadline();
        let said = self
            .cell
            .call(limit, |store| request.call_handle(store, body))?;
        said.map_err(refused)
    }

    /// How often the plugin wants a tick, at least every 10 ms; none: never.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn interval(&mut self) -> Result<Option<Duration>, CallError> {
        let Some(tick) = &self.tick else {
            return Ok(None);
        };
        let tick = tick.penstock_plugin_tick();
        let limit = self.cell.limits().init_deadline();
        let ms = self.cell.call(limit, |store| tick.call_interval(store))?;
        Ok(Some(Duration::from_millis(u64::from(ms.max(10)))))
    }

    /// Calls `tick`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn tick(&mut self) -> Result<(), CallError> {
        let tick = self.tick.as_ref().ok_or(CallError::Missing("tick"))?;
        let tick = tick.penstock_plugin_tick();
        let limit = self.cell.limits().deadline();
        self.cell.call(limit, |store| tick.call_tick(store))
    }

    /// A piece of a source's state, from `cursor` on (0 first).
    ///
    /// # Errors
    /// [`CallError::Lie`]: the piece is larger than `max_bytes`, or the next one does not
    /// lie behind it.
    pub fn snapshot(
        &mut self,
        source: SourceId,
        cursor: u64,
        max_bytes: u32,
    ) -> Result<Piece, CallError> {
        let state = self.state.as_ref().ok_or(CallError::Missing("state"))?;
        let state = state.penstock_plugin_state();
        // Batches and lookups wait for it.
        let limit = self.cell.limits().deadline();
        let said = self.cell.call(limit, |store| {
            state.call_snapshot(store, source.0, cursor, max_bytes)
        })?;
        let piece = said.map_err(refused)?;
        if piece.bytes.len() > max_bytes as usize {
            self.lies.increment(1);
            let len = piece.bytes.len();
            return Err(CallError::Lie(format!(
                "a piece of {len} bytes, {max_bytes} asked"
            )));
        }
        if let Some(next) = piece.next.filter(|next| *next <= cursor) {
            self.lies.increment(1);
            return Err(CallError::Lie(format!(
                "after the piece at {cursor} comes the one at {next}: that has no end"
            )));
        }
        Ok(Piece {
            bytes: piece.bytes,
            next: piece.next,
        })
    }

    /// Puts a piece of a source's state back, written under `schema`.
    ///
    /// # Errors
    /// [`CallError::Refused`]: the schema is not understood.
    pub fn restore(
        &mut self,
        source: SourceId,
        schema: u32,
        bytes: &[u8],
    ) -> Result<(), CallError> {
        let state = self.state.as_ref().ok_or(CallError::Missing("state"))?;
        let state = state.penstock_plugin_state();
        let limit = self.cell.limits().init_deadline();
        let said = self.cell.call(limit, |store| {
            state.call_restore(store, source.0, schema, bytes)
        })?;
        said.map_err(refused)
    }

    /// Lets messages and metrics out, or keeps them in while it is tried out.
    pub fn set_effects(&mut self, on: bool) {
        self.cell.store.data_mut().effects = on;
    }

    /// Keeps track of what the next call publishes, or not.
    pub(crate) fn record(&mut self, on: bool) {
        self.cell.store.data_mut().said = on.then_some((0, 0));
    }

    /// How many messages the last call published, and a digest of them.
    pub(crate) fn said(&mut self) -> (u32, u64) {
        self.cell.store.data_mut().said.take().unwrap_or_default()
    }

    /// What the last call emitted.
    pub fn emitted(&mut self) -> Vec<Emitted> {
        self.cell.store.data_mut().emission.take()
    }

    /// Columns it asked for.
    #[must_use]
    pub fn wants(&self) -> ColumnSet {
        self.wants
    }

    /// Bytes of linear memory that it holds.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.cell.store.data().memory as u64
    }

    /// How long the last call took.
    #[must_use]
    pub fn last_call(&self) -> Duration {
        self.cell.last_call
    }
}

/// A plugin's own words, as far as they may reach an operator, a log or a client.
fn refused(mut why: String) -> CallError {
    let end = crate::host::log::cut(&why, MAX_WORDS).len();
    if end < why.len() {
        why.truncate(end);
        why.push('…');
    }
    CallError::Refused(why)
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("wants", &self.wants)
            .field("sources", &self.sources.len())
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!(refused("short".into()).to_string(), "short");
        let long = refused("é".repeat(MAX_WORDS)).to_string();
        assert!(
            long.ends_with("é…") && long.len() <= MAX_WORDS + 3,
            "{}",
            long.len()
        );
    }
}
