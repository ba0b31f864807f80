//! What a plugin does with a recording, as text that people can read and compare:
//!
//! ```text
//! init
//! joined: engine, model "m"
//! batch 0/0: 1 event
//!   log info: counting
//!   publish out, topic "kv": {"stored":3}
//!   refused event 0, code 1
//! gap 0/3-3: no_replay
//! lookup by 8 tokens: engine holds 2 blocks, 8 tokens (gpu 8)
//! metrics
//!   blocks 3
//! ```

use super::script::{Ask, Question, Script};
use crate::commands::plugin::stage::Stage;
use crate::commands::plugin::stream::Stream;
use anyhow::Result;
use bytes::Bytes;
use penstock_decode::{Limits, json::Renderer};
use penstock_event::{By, Change, Item, Position, Publish, PublishError, Query, SourceInfo};
use penstock_peer::frames::Recorded;
use penstock_plugin::{CallError, Instance};
use penstock_telemetry::Watch;
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Bytes of a payload that are written out where it is neither text nor events.
const SHOWN: usize = 64;

/// What plugins published and left out, in order.
type Said = Arc<Mutex<Vec<Told>>>;

enum Told {
    Message(String, Bytes, Bytes),
    Skip(String),
}

/// A sink that keeps what comes.
struct Ear {
    name: String,
    said: Said,
}

/// One run of one recording.
struct Run<'a> {
    instance: Instance,
    watch: &'a Watch,
    said: Said,
    out: String,
    /// The batch being handled: what is published as it came is not written out again.
    payload: Bytes,
    dead: bool,
}

impl Publish for Ear {
    fn publish(
        &self,
        topic: Bytes,
        payload: Bytes,
        _: Option<&SourceInfo>,
        _: Position,
    ) -> Result<(), PublishError> {
        self.tell(Told::Message(self.name.clone(), topic, payload));
        Ok(())
    }

    fn skip(&self) -> Result<(), PublishError> {
        self.tell(Told::Skip(self.name.clone()));
        Ok(())
    }
}

impl Ear {
    fn tell(&self, told: Told) {
        self.said
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(told);
    }
}

/// Feeds messages to a new instance, asks what the script asks, and writes down what
/// comes of it.
pub fn of(
    stage: &Stage,
    file: &Path,
    messages: Vec<Result<Recorded, &'static str>>,
    script: &Script,
) -> Result<String> {
    let watch = Watch::new();
    let said = Said::default();
    let ear = |name: &String| {
        let (name, said) = (name.clone(), said.clone());
        (
            name.clone(),
            Arc::new(Ear { name, said }) as Arc<dyn Publish>,
        )
    };
    let sinks: HashMap<_, _> = stage.settings().file.sink.keys().map(ear).collect();
    let candidate = watch.within(|| stage.instance(file, sinks))?;
    let mut run = Run {
        instance: candidate.into_instance(),
        watch: &watch,
        said,
        out: "init\n".into(),
        payload: Bytes::new(),
        dead: false,
    };
    run.heard();
    run.instance.set_effects(true);
    run.feed(messages, script);
    run.metrics();
    Ok(run.out)
}

// === impl Run ===

impl Run<'_> {
    fn feed(&mut self, messages: Vec<Result<Recorded, &'static str>>, script: &Script) {
        let mut stream = Stream::new("engine", &script.model);
        let wants = self.instance.wants();
        let mut asks: Vec<_> = script.ask.iter().collect();
        self.item(&stream.joined());
        let mut batches = 0;
        self.due(&mut asks, Some(batches), script, &stream);
        for message in messages {
            let items = match message {
                Ok(recorded) => stream.take(recorded, wants),
                Err(why) => {
                    self.line(format_args!("left out: a message that is no batch, {why}"));
                    continue;
                }
            };
            for item in items {
                self.item(&item);
                if matches!(item, Item::Batch(_)) {
                    batches += 1;
                    self.due(&mut asks, Some(batches), script, &stream);
                }
            }
        }
        for item in stream.end(wants) {
            self.item(&item);
        }
        self.due(&mut asks, None, script, &stream);
    }

    /// Asks what is to be asked after so many batches; none: at the end.
    fn due(&mut self, asks: &mut Vec<&Ask>, now: Option<u64>, script: &Script, stream: &Stream) {
        let due = |ask: &&Ask| match (now, ask.after) {
            (None, _) => true,
            (Some(now), Some(after)) => after <= now,
            (Some(_), None) => false,
        };
        let (now, later): (Vec<_>, Vec<_>) = asks.drain(..).partition(due);
        *asks = later;
        for ask in now {
            // Questions were looked at when the script was read.
            if let Ok(question) = ask.question(&script.model) {
                self.ask(&question, stream);
            }
        }
    }

    fn item(&mut self, item: &Item) {
        if self.dead {
            return;
        }
        match item {
            Item::Batch(batch) => {
                let at = format!("{}/{}", batch.epoch.0, batch.sequence);
                let events = count(batch.columns.len(), "event");
                self.line(format_args!("batch {at}: {events}"));
                for skipped in &batch.skipped {
                    let (event, code) = (skipped.event, skipped.code);
                    self.line(format_args!("  left out: event {event}, {code}"));
                }
                self.payload = batch.payload.clone();
                let watch = self.watch;
                let refused = watch.within(|| self.instance.on_batch(batch));
                self.heard();
                self.payload = Bytes::new();
                match refused {
                    Ok(refused) => {
                        for r in refused {
                            let (event, code) = (r.event, r.code);
                            self.line(format_args!("  refused event {event}, code {code}"));
                        }
                    }
                    Err(error) => self.failed(&error),
                }
            }
            Item::Change(change) => {
                self.line(told(change));
                let watch = self.watch;
                let done = watch.within(|| self.instance.on_source(change));
                self.heard();
                if let Err(error) = done {
                    self.failed(&error);
                }
            }
        }
    }

    fn ask(&mut self, question: &Question, stream: &Stream) {
        if self.dead {
            return;
        }
        let watch = self.watch;
        let (head, answer) = match question {
            Question::Lookup(query) => {
                let rows = watch.within(|| self.instance.find(query));
                let name = &stream.source().name;
                let of_model = stream.source().spec.model == query.model;
                (
                    lookup(query),
                    rows.map(|rows| holders(&rows, name, of_model)),
                )
            }
            Question::Request(body) => {
                let answer = watch.within(|| self.instance.request(body.as_bytes()));
                let text = answer.map(|bytes| payload(&bytes));
                (format!("request {body:?}"), text)
            }
            Question::Tick => {
                let done = watch.within(|| self.instance.tick());
                ("tick".to_string(), done.map(|()| "done".to_string()))
            }
        };
        match answer {
            Ok(answer) => self.line(format_args!("{head}: {answer}")),
            Err(error) if error.is_fatal() => {
                self.line(format_args!("{head}:"));
                self.failed(&error);
            }
            Err(error) => self.line(format_args!("{head}: error: {error}")),
        }
        self.heard();
    }

    /// What it logged and published in the last call.
    fn heard(&mut self) {
        for line in self.watch.lines() {
            self.line(format_args!("  log {}: {}", line.level, line.text));
        }
        let said = std::mem::take(&mut *self.said.lock().unwrap_or_else(|e| e.into_inner()));
        for told in said {
            match told {
                Told::Message(sink, topic, bytes) => {
                    let topic = payload(&topic);
                    let text = match !bytes.is_empty() && bytes == self.payload {
                        true => "the batch as it came".to_string(),
                        false => payload(&bytes),
                    };
                    self.line(format_args!("  publish {sink}, topic {topic}: {text}"));
                }
                Told::Skip(sink) => self.line(format_args!("  skip a number of {sink}")),
            }
        }
    }

    fn failed(&mut self, error: &CallError) {
        self.line(format_args!("  {}: {error}", error.code()));
        if error.is_fatal() {
            self.line("the instance is lost; a daemon would make another and feed it anew");
            self.dead = true;
        }
    }

    /// The plugin's own numbers, and what was dropped of them.
    fn metrics(&mut self) {
        let text = self.watch.metrics();
        let mut lines: Vec<_> = text.lines().filter_map(metric).collect();
        lines.sort();
        if !lines.is_empty() {
            self.line("metrics");
        }
        for line in lines {
            self.line(format_args!("  {line}"));
        }
    }

    fn line(&mut self, line: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{line}");
    }
}

/// `penstock_plugin_custom_blocks{plugin="p"} 3` is `blocks 3`; the host's own counters
/// matter only where something was dropped.
fn metric(line: &str) -> Option<String> {
    let (series, value) = line.rsplit_once(' ')?;
    let name = series.split('{').next()?;
    if let Some(own) = name.strip_prefix("penstock_plugin_custom_") {
        return Some(format!("{own} {value}"));
    }
    let dropped = [
        "penstock_plugin_metrics_dropped_total",
        "penstock_plugin_lies_total",
    ];
    (dropped.contains(&name) && value != "0").then(|| format!("{name} {value}"))
}

fn told(change: &Change) -> String {
    match change {
        Change::Joined(state) => {
            let info = &state.info;
            format!("joined: {}, model {:?}", info.name, info.spec.model)
        }
        Change::Left(_) => "left".into(),
        Change::Reset { epoch, reason, .. } => {
            format!("reset to epoch {}: {}", epoch.0, reason.name())
        }
        Change::Gap {
            epoch,
            first,
            last,
            reason,
            ..
        } => format!("gap {}/{first}-{last}: {}", epoch.0, reason.name()),
    }
}

fn lookup(query: &Query) -> String {
    let by = match &query.by {
        By::Tokens(tokens) => count(tokens.len(), "token"),
        By::TokenHashes(hashes) => count(hashes.len(), "token hash"),
        By::EngineHashes(hashes) => count(hashes.len(), "engine hash"),
    };
    let mut text = format!("lookup by {by}");
    for (what, name) in [("adapter", &query.adapter), ("salt", &query.salt)] {
        if !name.is_empty() {
            let _ = write!(text, ", {what} {name:?}");
        }
    }
    text
}

/// As the host would answer: without rows of another model.
fn holders(rows: &[penstock_event::Row], name: &str, of_model: bool) -> String {
    let row = |row: &penstock_event::Row| {
        let media = [
            ("gpu", row.gpu),
            ("cpu", row.cpu),
            ("disk", row.disk),
            ("other", row.other),
        ];
        let media: Vec<_> = media
            .iter()
            .filter(|(_, tokens)| *tokens > 0)
            .map(|(medium, tokens)| format!("{medium} {tokens}"))
            .collect();
        let blocks = count(row.blocks as usize, "block");
        let tokens = count(row.tokens as usize, "token");
        let rank = if row.rank > 0 {
            format!(" rank {}", row.rank)
        } else {
            String::new()
        };
        format!(
            "{name}{rank} holds {blocks}, {tokens} ({})",
            media.join(", ")
        )
    };
    let mut rows: Vec<_> = rows.iter().filter(|_| of_model).map(row).collect();
    rows.sort();
    match rows.is_empty() {
        true => "nobody".into(),
        false => rows.join("; "),
    }
}

/// Bytes as text where they are text, as events where they are a batch of an engine, and
/// by their digest otherwise.
fn payload(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(|c| c.is_control() && c != '\n')
    {
        return format!("{text:?}");
    }
    let lines = Renderer::new(Limits::default()).lines(0, bytes);
    if lines.iter().all(|line| line["kind"] != "error") && !lines.is_empty() {
        let lines: Vec<_> = lines.iter().map(|line| format!("\n    {line}")).collect();
        return format!(
            "a batch of {}{}",
            count(lines.len(), "event"),
            lines.concat()
        );
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    match bytes.len() {
        n if n <= SHOWN => format!("{n} bytes, {}", hex(bytes)),
        n => format!("{n} bytes, sha256 {}", penstock_plugin::sha256(bytes)),
    }
}

fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n if what.ends_with("sh") => format!("{n} {what}es"),
        n => format!("{n} {what}s"),
    }
}
