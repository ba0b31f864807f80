//! What a plugin does with a recording, as text that people can read and compare:
//!
//! ```text
//! init
//! joined: engine, model "m"
//! batch 0/0: 1 event
//!   log info: counting
//!   publish out, topic "kv": {"stored":3}
//!   emit: event 0, 2 as it came
//!   refused event 0, code 1
//! gap 0/3-3: no_replay
//! lookup by 8 tokens: engine holds 2 blocks, 8 tokens (gpu 8)
//! metrics
//!   blocks 3
//! ```

use super::script::{Ask, Question, Script};
use super::words::{count, holders, lookup, made, metric, payload, told};
use crate::commands::plugin::stage::Stage;
use crate::commands::plugin::stream::Stream;
use anyhow::Result;
use bytes::Bytes;
use penstock_event::{Batch, Emitted, Item, Position, Publish, PublishError, SourceInfo};
use penstock_peer::frames::Recorded;
use penstock_plugin::{CallError, Instance};
use penstock_telemetry::Watch;
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

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
                        for part in self.instance.emitted() {
                            self.emitted(&part, batch);
                        }
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

    /// What those after it would get.
    fn emitted(&mut self, part: &Emitted, batch: &Batch) {
        match part {
            Emitted::Kept(events) if events.len() == batch.columns.len() && events.is_sorted() => {
                self.line("  emit: the batch as it came");
            }
            Emitted::Kept(events) => {
                let events: Vec<_> = events.iter().map(u32::to_string).collect();
                self.line(format_args!(
                    "  emit: event {} as it came",
                    events.join(", ")
                ));
            }
            Emitted::Made(columns) => {
                (0..columns.len())
                    .for_each(|i| self.line(format_args!("  emit: {}", made(columns, i))));
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
