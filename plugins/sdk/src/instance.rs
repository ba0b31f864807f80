//! One running plugin: what the exports of a component call into, and what
//! tests and native benchmarks drive in the same way.

use crate::generated::base::exports::penstock::plugin::guest;
use crate::generated::lookup::exports::penstock::plugin::lookup;
use crate::source::Names;
use crate::{
    Batch, Change, Description, Lookup, Piece, Plugin, Query, RawBatch, RawChange, Refusal,
    Refused, Request, SourceChange, SourceId, State, Tick, json,
};
use std::cell::Cell;

/// A plugin, set up or not yet, and the names of its sources.
#[derive(Debug)]
pub struct Instance<P> {
    plugin: Option<P>,
    names: Option<Names>,
}

/// What the instance is busy with, for the report of a panic.
#[derive(Clone, Copy)]
struct Doing {
    what: &'static str,
    source: SourceId,
    epoch: u32,
    sequence: u64,
}

thread_local! {
    static DOING: Cell<Doing> = const { Cell::new(Doing::call("start")) };
}

const NOT_SET_UP: &str = "the plugin is not set up: init comes first";

// === impl Doing ===

impl Doing {
    const fn call(what: &'static str) -> Self {
        Self {
            what,
            source: 0,
            epoch: 0,
            sequence: 0,
        }
    }

    fn text(self) -> String {
        match self.what {
            "on-batch" => format!(
                "on-batch of source {} epoch {} sequence {}",
                self.source, self.epoch, self.sequence
            ),
            "on-source" => format!("on-source of source {} epoch {}", self.source, self.epoch),
            what => what.to_owned(),
        }
    }
}

fn doing(what: &'static str) {
    DOING.set(Doing::call(what));
}

/// A panic in a component is a trap, which tells the host nothing: say first
/// where and on what. It goes to stderr, which needs no grant and which the
/// host writes to the plugin's log.
fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|info| {
        let text = panic_text(&info.to_string());
        #[cfg(target_os = "wasi")]
        {
            use std::io::Write;
            // One write, one line in the log; a failure has nowhere to go.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        #[cfg(not(target_os = "wasi"))]
        crate::log::write(crate::log::Level::Error, &text);
    }));
}

/// What is written of a panic: `info` holds file, line and message.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
fn panic_text(info: &str) -> String {
    format!("{} in {}\n", info.replace('\n', " "), DOING.get().text())
}

// === impl Instance ===

impl<P> Default for Instance<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Instance<P> {
    /// An instance that is not set up.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            plugin: None,
            names: None,
        }
    }

    /// The plugin, once set up.
    #[must_use]
    pub fn plugin(&self) -> Option<&P> {
        self.plugin.as_ref()
    }

    fn get(&mut self, what: &'static str) -> Result<&mut P, String> {
        doing(what);
        self.plugin.as_mut().ok_or_else(|| NOT_SET_UP.to_owned())
    }
}

impl<P: Plugin> Instance<P> {
    /// What the plugin says of itself.
    #[must_use]
    pub fn describe() -> Description {
        report_panics();
        doing("describe");
        P::describe()
    }

    /// Sets the plugin up with `config`, a JSON object.
    ///
    /// # Errors
    /// The config does not fit, or the plugin refuses it.
    pub fn init(&mut self, config: &str) -> Result<(), String> {
        report_panics();
        doing("init");
        self.plugin = Some(P::new(json::from("config", config.as_bytes())?)?);
        Ok(())
    }

    /// Hands a batch to the plugin. Before [`Instance::init`] nothing happens.
    pub fn on_batch(&mut self, raw: &RawBatch) -> Vec<Refusal> {
        DOING.set(Doing {
            what: "on-batch",
            source: raw.source,
            epoch: raw.epoch,
            sequence: raw.sequence,
        });
        let mut refused = Refused::default();
        if let Some(plugin) = &mut self.plugin {
            let names = self.names.get_or_insert_default();
            let batch = Batch::new(raw, names);
            #[cfg(not(target_arch = "wasm32"))]
            crate::native::emit::handles(Some(batch.len()));
            plugin.on_batch(&batch, &mut refused);
            #[cfg(not(target_arch = "wasm32"))]
            crate::native::emit::handles(None);
        }
        refused.into_list()
    }

    /// Hands a change to the plugin. Kinds not known are ignored.
    pub fn on_source(&mut self, raw: RawChange) {
        DOING.set(Doing {
            what: "on-source",
            source: raw.source,
            epoch: raw.epoch,
            sequence: raw.first,
        });
        let Some(plugin) = &mut self.plugin else {
            return;
        };
        let names = self.names.get_or_insert_default();
        let (source, epoch) = (raw.source, raw.epoch);
        match (raw.kind, raw.info) {
            (0, Some(info)) => names.join(source, info),
            (4, _) => names.add(source, raw.entries),
            _ => {}
        }
        let info = names.info(source);
        let change = match raw.kind {
            0 => match info {
                Some(info) => Change::Joined(info),
                None => return,
            },
            1 => Change::Left,
            2 => Change::Reset { reason: raw.reason },
            3 => Change::Gap {
                first: raw.first,
                last: raw.last,
                reason: raw.reason,
            },
            4 => Change::Names,
            _ => return,
        };
        plugin.on_source(&SourceChange {
            source,
            info,
            epoch,
            change,
        });
        if raw.kind == 1 {
            names.leave(source);
        }
    }

    #[doc(hidden)]
    #[must_use]
    pub fn describe_wire() -> guest::Description {
        let said = Self::describe();
        guest::Description {
            name: said.name,
            version: said.version,
            columns: said.columns.0,
            state_schema: said.state_schema,
        }
    }
}

impl<P: Lookup> Instance<P> {
    /// Asks the plugin; the answer is eight words a row.
    ///
    /// # Errors
    /// Its own, or that it is not set up.
    pub fn find(&mut self, query: &Query) -> Result<Vec<u32>, String> {
        self.get("find")?.find_words(query)
    }

    #[doc(hidden)]
    pub fn find_wire(&mut self, query: lookup::Query) -> Result<Vec<u32>, String> {
        self.find(&query.into())
    }
}

impl<P: Request> Instance<P> {
    /// Hands it a request.
    ///
    /// # Errors
    /// Its own, or that it is not set up.
    pub fn handle(&mut self, body: &[u8]) -> Result<Vec<u8>, String> {
        self.get("handle")?.handle(body)
    }
}

impl<P: Tick> Instance<P> {
    /// Milliseconds between ticks; an hour before it is set up.
    pub fn interval_ms(&mut self) -> u32 {
        self.get("interval").map_or(3_600_000, |p| p.interval_ms())
    }

    /// One tick.
    pub fn tick(&mut self) {
        if let Ok(plugin) = self.get("tick") {
            plugin.tick();
        }
    }
}

impl<P: State> Instance<P> {
    /// A piece of a source's state.
    ///
    /// # Errors
    /// Its own, or that it is not set up.
    pub fn snapshot(
        &mut self,
        source: SourceId,
        cursor: u64,
        max_bytes: u32,
    ) -> Result<Piece, String> {
        self.get("snapshot")?.snapshot(source, cursor, max_bytes)
    }

    /// Takes a piece of a source's state.
    ///
    /// # Errors
    /// Its own, or that it is not set up.
    pub fn restore(&mut self, source: SourceId, schema: u32, bytes: &[u8]) -> Result<(), String> {
        self.get("restore")?.restore(source, schema, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place_and_batch() {
        DOING.set(Doing {
            what: "on-batch",
            source: 3,
            epoch: 1,
            sequence: 42,
        });
        let text = panic_text("panicked at src/lib.rs:12:5:\nindex out of bounds");
        assert_eq!(
            text,
            "panicked at src/lib.rs:12:5: index out of bounds \
             in on-batch of source 3 epoch 1 sequence 42\n"
        );
        doing("find");
        assert_eq!(panic_text("x"), "x in find\n");
    }
}
