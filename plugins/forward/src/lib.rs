//! Filters events and forwards them to a sink.
//!
//! A penstock plugin that exports `guest` and `tick` and imports `publish` and
//! `metrics` (two grants). Config, all of it optional:
//!
//! | key | default | |
//! |---|---|---|
//! | `sink` | `"out"` | the sink's name in the plugin's TOML file |
//! | `topic` | `"kv@{source}@{model}"` | with `{source}`, `{instance}`, `{rank}`, `{model}`, `{epoch}`, `{sequence}` |
//! | `models` | `[]` | pass events of these models only: the event's own, or else its source's |
//! | `media` | `[]` | pass blocks in these media only: `none`, `gpu`, `cpu`, `disk`, `external`, `unknown`. Clears concern all media and pass |
//! | `kinds` | `[]` | pass these only: `stored`, `removed`, `cleared` |
//! | `mode` | `"raw"` | `"raw"` or `"encode"` |
//!
//! **raw**: when every event of a batch passes, the host sends the payload as it
//! came, and nothing is copied through the component. When only some pass, those
//! are encoded anew. When none passes, nothing is sent.
//! **encode**: what passes is always encoded anew, for readers that expect one
//! format from all engines: see [`encode`] for what that keeps.
//!
//! Columns are asked for before the config is known, so tokens, times and
//! digests of extra keys are copied in for both modes; raw users without filters
//! pay for columns that they do not read.
//!
//! **What is no batch**: an engine that restarted, or left for good, has lost its
//! cache; an `AllBlocksCleared` with the source's topic says so, for each rank that
//! its batches named to this instance, or else its own (unless `kinds` leaves clears
//! out). Batches or
//! events that never came (gaps) leave a number out of the sink's sequence, so that
//! who follows it sees a gap too. One sink is one stream: give each engine a
//! `forward` and a sink of its own where those behind must tell engines apart.
//!
//! A message that is not queued is lost here: each of its events is refused with
//! the sink's code (1 full, 2 no such sink, 3 closed, 4 too large, 5 not in a
//! batch) and counted. The plugin never waits.
//!
//! Metrics, all counters: `forwarded_batches`, `encoded_batches`, `sent_clears`,
//! `told_gaps`,
//! `forwarded_events`, `filtered_events`, and `lost_events_full`, `_no_sink`,
//! `_closed`, `_too_large`, `_other`. They are handed over once a second.

pub mod encode;
mod filter;
mod followed;
mod topic;

pub use filter::Filter;
pub use topic::{Subject, Topic};

use penstock_sdk::metrics::Counter;
use penstock_sdk::publish::{self, PublishError};
use penstock_sdk::{Batch, Change, Columns, Event, Plugin, Refused, SourceChange, Tick};

/// Bytes of the encoder's buffer that are kept.
const KEEP_BYTES: usize = 1 << 20;

/// The plugin.
#[derive(Debug)]
pub struct Forward {
    sink: String,
    topic: Topic,
    filter: Filter,
    mode: Mode,
    followed: followed::Followed,
    topic_bytes: Vec<u8>,
    payload: Vec<u8>,
    counters: Counters,
}

/// The plugin's config: see the crate's table.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    sink: String,
    topic: String,
    mode: Mode,
    models: Vec<String>,
    media: Vec<filter::MediumName>,
    kinds: Vec<filter::KindName>,
}

/// How batches leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As they came, where all events pass.
    #[default]
    Raw,
    /// Encoded anew.
    Encode,
}

#[derive(Debug)]
struct Counters {
    batches: Counter,
    clears: Counter,
    skips: Counter,
    encoded: Counter,
    events: Counter,
    filtered: Counter,
    full: Counter,
    no_sink: Counter,
    closed: Counter,
    too_large: Counter,
    other: Counter,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            sink: "out".to_owned(),
            topic: "kv@{source}@{model}".to_owned(),
            mode: Mode::Raw,
            models: Vec::new(),
            media: Vec::new(),
            kinds: Vec::new(),
        }
    }
}

// === impl Counters ===

impl Counters {
    const fn new() -> Self {
        Self {
            batches: Counter::new("forwarded_batches"),
            clears: Counter::new("sent_clears"),
            skips: Counter::new("told_gaps"),
            encoded: Counter::new("encoded_batches"),
            events: Counter::new("forwarded_events"),
            filtered: Counter::new("filtered_events"),
            full: Counter::new("lost_events_full"),
            no_sink: Counter::new("lost_events_no_sink"),
            closed: Counter::new("lost_events_closed"),
            too_large: Counter::new("lost_events_too_large"),
            other: Counter::new("lost_events_other"),
        }
    }

    fn lost(&mut self, why: PublishError) -> &mut Counter {
        match why {
            PublishError::Full => &mut self.full,
            PublishError::NoSink => &mut self.no_sink,
            PublishError::Closed => &mut self.closed,
            PublishError::TooLarge => &mut self.too_large,
            _ => &mut self.other,
        }
    }

    /// Lets those behind the sink see that something is missing.
    fn skip(&mut self, sink: &str) {
        match publish::skip(sink) {
            Ok(()) => self.skips.add(1),
            Err(why) => self.lost(why).add(1),
        }
    }

    fn flush(&mut self) {
        for counter in [
            &mut self.batches,
            &mut self.clears,
            &mut self.skips,
            &mut self.encoded,
            &mut self.events,
            &mut self.filtered,
            &mut self.full,
            &mut self.no_sink,
            &mut self.closed,
            &mut self.too_large,
            &mut self.other,
        ] {
            counter.flush();
        }
    }
}

// === impl Forward ===

impl Plugin for Forward {
    const NAME: &'static str = "forward";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const COLUMNS: Columns = Columns::TOKENS
        .and(Columns::TIMES)
        .and(Columns::EXTRA_DIGESTS);
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self {
            sink: config.sink,
            topic: Topic::parse(&config.topic)?,
            filter: Filter::new(config.models, &config.media, &config.kinds),
            mode: config.mode,
            followed: followed::Followed::default(),
            topic_bytes: Vec::new(),
            payload: Vec::new(),
            counters: Counters::new(),
        })
    }

    fn on_batch(&mut self, batch: &Batch<'_>, refused: &mut Refused) {
        let model = batch.info().map_or("", |info| info.model.as_str());
        let passes = |event: &Event<'_>| self.filter.passes(event, model);
        let open = self.filter.is_open();
        let passing = batch.events().filter(passes).count();
        let whole = open || passing > 0 && passing == batch.len();
        let raw = whole && self.mode == Mode::Raw;
        if !open {
            self.counters.filtered.add((batch.len() - passing) as u64);
        }
        // Those who read the payload as it came see for themselves.
        if batch.skipped() > 0 && !raw {
            self.counters.skip(&self.sink);
        }
        if !open && passing == 0 {
            return;
        }
        self.followed.add(batch);
        self.topic_bytes.clear();
        self.topic.render(&batch.into(), &mut self.topic_bytes);
        let result = if raw {
            publish::forward(&self.sink, &self.topic_bytes)
        } else {
            self.counters.encoded.add(1);
            self.payload.clear();
            let events = batch.events().filter(passes);
            encode::batch(&mut self.payload, batch, passing, events);
            let result = publish::send(&self.sink, &self.topic_bytes, &self.payload);
            // One giant batch must not pin its memory for ever.
            self.payload.shrink_to(KEEP_BYTES);
            result
        };
        match result {
            Ok(()) => {
                self.counters.batches.add(1);
                self.counters.events.add(passing as u64);
            }
            Err(why) => {
                self.counters.lost(why).add(passing as u64);
                for event in batch.events().filter(passes) {
                    refused.event(event.common().index(), why.code());
                }
            }
        }
    }

    fn on_source(&mut self, change: &SourceChange<'_>) {
        match change.change {
            Change::Reset { .. } | Change::Left => self.clear(change),
            Change::Gap { .. } => self.counters.skip(&self.sink),
            // What another instance forwarded before this one counts as well.
            Change::Joined(info) => self.followed.join(change.source, info.rank),
            _ => {}
        }
    }
}

impl Forward {
    /// What was forwarded of a source is gone.
    fn clear(&mut self, change: &SourceChange<'_>) {
        let Some(source) = self.followed.take(change) else {
            return;
        };
        if !self.filter.passes_clears() {
            return;
        }
        for rank in source.ranks() {
            self.topic_bytes.clear();
            let subject = Subject::of_change(change, rank);
            self.topic.render(&subject, &mut self.topic_bytes);
            self.payload.clear();
            encode::cleared(&mut self.payload, source.published_us, rank);
            match publish::send(&self.sink, &self.topic_bytes, &self.payload) {
                Ok(()) => self.counters.clears.add(1),
                Err(why) => self.counters.lost(why).add(1),
            }
        }
    }
}

impl Tick for Forward {
    fn interval_ms(&self) -> u32 {
        1_000
    }

    fn tick(&mut self) {
        self.counters.flush();
    }
}

penstock_sdk::export!(Forward: Tick);

#[cfg(test)]
mod tests;
