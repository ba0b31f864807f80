//! The traits that a plugin implements.

use crate::generated;
use crate::{Batch, Event, Query, Refusal, Row, SourceChange, SourceId};
use serde::de::DeserializeOwned;

/// Columns wanted beside events, parents and hashes, which always come. Each
/// costs a copy of its bytes into the component: ask for few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns(pub u32);

/// What every plugin implements.
pub trait Plugin: Sized + 'static {
    /// Name, for people: logs and status.
    const NAME: &'static str;
    /// Version, for people. `env!("CARGO_PKG_VERSION")` as a rule.
    const VERSION: &'static str;
    /// Columns wanted beside those that always come: none, unless said.
    const COLUMNS: Columns = Columns::NONE;
    /// Number of the schema of its state; 0 without [`State`].
    const STATE_SCHEMA: u32 = 0;

    /// The `[config]` table of the plugin's file, `{}` without one: any type of your
    /// own. Give fields defaults and deny unknown ones, so that a mistyped key is
    /// refused; the operator is told which key is wrong and why. [`NoConfig`] takes
    /// none.
    ///
    /// ```
    /// # use penstock_sdk::{testing::Host, *};
    /// #[derive(serde::Deserialize)]
    /// #[serde(deny_unknown_fields, default)]
    /// struct Config { keep: u32, labels: Vec<String> }
    ///
    /// impl Default for Config {
    ///     fn default() -> Self { Self { keep: 10, labels: vec![] } }
    /// }
    ///
    /// struct Mine(Config);
    ///
    /// impl Plugin for Mine {
    /// #   const NAME: &'static str = "mine";
    /// #   const VERSION: &'static str = "0.1.0";
    ///     type Config = Config;
    ///     fn new(config: Config) -> Result<Self, String> {
    ///         match config.keep {
    ///             0 => Err("keep = 0 keeps nothing".to_owned()),
    ///             _ => Ok(Self(config)),
    ///         }
    ///     }
    /// #   fn on_batch(&mut self, _: &Batch<'_>, _: &mut Refused) {}
    /// }
    /// let refused = |config| Host::<Mine>::start(config).err().unwrap();
    /// assert!(refused(r#"{"labels": ["a", 1]}"#).starts_with("config: labels[1]: invalid type"));
    /// assert!(refused(r#"{"keeep": 1}"#).contains("unknown field `keeep`, expected `keep`"));
    /// assert_eq!(refused(r#"{"keep": 0}"#), "keep = 0 keeps nothing");
    /// assert_eq!(Host::<Mine>::start("{}").unwrap().plugin().0.keep, 10);
    /// ```
    type Config: DeserializeOwned;

    /// Sets the plugin up.
    ///
    /// # Errors
    /// Refuses the plugin; the text reaches the operator.
    fn new(config: Self::Config) -> Result<Self, String>;

    /// Takes one batch. Events it cannot use are named in `refused`; the rest
    /// of the batch counts as applied.
    fn on_batch(&mut self, batch: &Batch<'_>, refused: &mut Refused);

    /// Takes a change. For one source, changes and batches come in order.
    fn on_source(&mut self, change: &SourceChange<'_>) {
        let _ = change;
    }

    /// What the plugin says of itself. Called once, before [`Plugin::new`].
    fn describe() -> Description {
        Description {
            name: Self::NAME.to_owned(),
            version: Self::VERSION.to_owned(),
            columns: Self::COLUMNS,
            state_schema: Self::STATE_SCHEMA,
        }
    }
}

/// Optional: answers who holds the longest prefix of a prompt.
pub trait Lookup: Plugin {
    /// One row a holder of at least one block, in no order.
    ///
    /// # Errors
    /// The text reaches the asker.
    fn find(&mut self, query: &Query) -> Result<Vec<Row>, String>;

    /// The answer as it crosses the boundary, eight words a row. Override it
    /// only to write rows in place.
    ///
    /// # Errors
    /// As for [`Lookup::find`].
    fn find_words(&mut self, query: &Query) -> Result<Vec<u32>, String> {
        let rows = self.find(query)?;
        Ok(rows.iter().flat_map(|row| row.to_words()).collect())
    }
}

/// Optional: answers requests in the plugin's own form.
///
/// ```
/// # use penstock_sdk::{testing::Host, *};
/// #[derive(serde::Deserialize)]
/// struct Ask { first: usize }
/// # struct Mine;
/// # impl Plugin for Mine {
/// #   const NAME: &'static str = "mine";
/// #   const VERSION: &'static str = "0.1.0";
/// #   type Config = NoConfig;
/// #   fn new(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// #   fn on_batch(&mut self, _: &Batch<'_>, _: &mut Refused) {}
/// # }
/// impl Request for Mine {
///     fn handle(&mut self, body: &[u8]) -> Result<Vec<u8>, String> {
///         let ask: Ask = json::parse(body)?;
///         json::answer(&["a", "b", "c"][..ask.first.min(3)])
///     }
/// }
/// let mut host = Host::<Mine>::start("{}").unwrap();
/// assert_eq!(host.handle(r#"{"first": 2}"#).unwrap(), r#"["a","b"]"#);
/// assert!(host.handle(r#"{"first": -1}"#).unwrap_err().starts_with("body: first: "));
/// ```
pub trait Request: Plugin {
    /// Answers `body`.
    ///
    /// # Errors
    /// The text reaches the asker.
    fn handle(&mut self, body: &[u8]) -> Result<Vec<u8>, String>;
}

/// Optional: is called now and then, between batches.
pub trait Tick: Plugin {
    /// Milliseconds between calls, at least 10. Asked once.
    fn interval_ms(&self) -> u32;

    /// The call.
    fn tick(&mut self);
}

/// Optional: state that outlives an instance, cut by source into pieces.
/// [`Plugin::STATE_SCHEMA`] must be above 0. [`crate::state`] does the cutting.
pub trait State: Plugin {
    /// The state of `source` from `cursor` on (0 first), at most `max_bytes`.
    /// No batch of this source comes between two pieces; ticks may.
    ///
    /// # Errors
    /// The state is not carried over, and is rebuilt by replay.
    fn snapshot(&mut self, source: SourceId, cursor: u64, max_bytes: u32) -> Result<Piece, String>;

    /// Takes one piece of a source's state, written under `schema`.
    ///
    /// # Errors
    /// The schema is not understood; the state is rebuilt by replay.
    fn restore(&mut self, source: SourceId, schema: u32, bytes: &[u8]) -> Result<(), String>;
}

/// One piece of a source's state: its bytes, and the cursor of the next one.
pub type Piece = generated::state::exports::penstock::plugin::state::Piece;

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Name, for people.
    pub name: String,
    /// Version, for people.
    pub version: String,
    /// Columns wanted.
    pub columns: Columns,
    /// Schema of its state; 0 without [`State`].
    pub state_schema: u32,
}

/// The config of a plugin that takes none: any key is an error.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Events that the plugin could not use, by index and code.
///
/// With an error type of its own, whose number is the code, a plugin writes its
/// handling of an event with `?`:
///
/// ```
/// use penstock_sdk::{Event, Refused, testing};
///
/// #[derive(Debug)]
/// enum Unfit { NoTokenHashes = 1, Unchained = 2 }
///
/// impl From<Unfit> for u32 {
///     fn from(unfit: Unfit) -> u32 { unfit as u32 }
/// }
///
/// fn apply(event: Event<'_>) -> Result<(), Unfit> {
///     if let Event::Stored(stored) = event {
///         let hashes = stored.token_hashes().ok_or(Unfit::NoTokenHashes)?;
///         let parent = stored.parent().ok_or(Unfit::Unchained)?;
/// #       let _ = (hashes, parent);
///     }
///     Ok(())
/// }
///
/// # let mut names = testing::Names::default();
/// # let raw = testing::batch(1).stored(testing::stored(16, &[7])).cleared().build(&mut names);
/// # let batch = names.view(&raw);
/// let mut refused = Refused::default();
/// refused.each(&batch, apply); // the whole of `on_batch`
/// assert_eq!(refused.list(), [(0, 1)]);
/// ```
#[derive(Debug, Default)]
pub struct Refused {
    list: Vec<Refusal>,
}

// === impl Columns ===

impl Columns {
    /// None beside those that always come.
    pub const NONE: Self = Self(0);
    /// Token hashes, one a block.
    pub const TOKEN_HASHES: Self = Self(1);
    /// Digests of extra keys, one a block.
    pub const EXTRA_DIGESTS: Self = Self(1 << 1);
    /// Tokens.
    pub const TOKENS: Self = Self(1 << 2);
    /// Whole engine hashes.
    pub const WHOLE_HASHES: Self = Self(1 << 3);
    /// Times of events.
    pub const TIMES: Self = Self(1 << 4);
    /// The message as it came.
    pub const PAYLOAD: Self = Self(1 << 5);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

// === impl Refused ===

impl Refused {
    /// Refuses the event at `index` for the plugin's own reason `code`, from 1.
    /// The host counts it.
    pub fn event(&mut self, index: u32, code: u32) {
        self.list.push(Refusal { event: index, code });
    }

    /// Refuses an event if its handling failed. See [`Refused`].
    pub fn result<E: Into<u32>>(&mut self, event: u32, result: Result<(), E>) {
        if let Err(error) = result {
            self.event(event, error.into());
        }
    }

    /// Hands each event of a batch to `apply`, and refuses those it fails on.
    pub fn each<'a, E: Into<u32>>(
        &mut self,
        batch: &Batch<'a>,
        mut apply: impl FnMut(Event<'a>) -> Result<(), E>,
    ) {
        for event in batch.events() {
            let index = event.common().index();
            self.result(index, apply(event));
        }
    }

    /// Index and code of what was refused so far.
    #[must_use]
    pub fn list(&self) -> Vec<(u32, u32)> {
        self.list.iter().map(|r| (r.event, r.code)).collect()
    }

    pub(crate) fn into_list(self) -> Vec<Refusal> {
        self.list
    }
}
