//! The runner's thread. See [`Runner`](crate::Runner) for the picture.

use crate::answers::Applied;
use crate::backoff::Backoff;
use crate::handover::{HELD, Moving, PIECE_BYTES, Step};
use crate::mailbox::{Lookup, Mailbox, Other, Request, Swap};
use crate::meter::Meter;
use crate::runner::{Candidate, Kit, RunnerConfig};
use crate::status::LastError;
use crate::{CallError, Feed, Instance, State};
use penstock_event::{
    Answer, Batch, Change, ColumnSet, GapReason, Item, LookupError, Position, SourceId,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) struct Worker {
    kit: Kit,
    phase: Phase,
    feed: Box<dyn Feed>,
    mailbox: Arc<Mailbox>,
    applied: Applied,
    meter: Meter,
    backoff: Backoff,
    /// The batch that killed the last instance.
    suspect: Option<(SourceId, Position)>,
    /// Batches that killed two in a row.
    aside: VecDeque<(SourceId, Position)>,
    /// A candidate takes the state over.
    moving: Option<Moving>,
    /// Items that waited for that.
    backlog: VecDeque<Item>,
    /// Items and lookups that the published status does not show yet.
    unpublished: u32,
    published: Instant,
}

enum Phase {
    Up {
        instance: Box<Instance>,
        since: Instant,
        tick: Option<(Duration, Instant)>,
    },
    /// Down, until then; none: for good.
    Down(Option<Instant>),
}

/// Lookups before the next waiting batch, and the time they may take.
const LOOKUPS: usize = 64;
const LOOKUP_TIME: Duration = Duration::from_micros(500);

/// Items and lookups, or time, between two publications of the status.
const PUBLISH_EVERY: u32 = 256;
const PUBLISH_TIME: Duration = Duration::from_millis(10);
/// After a call that took this long, the status is published at once.
const SLOW: Duration = Duration::from_millis(1);

/// Longest sleep: the status is refreshed that often when nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// How long until a candidate may have room for the next piece.
const ROOM: Duration = Duration::from_millis(1);

/// Batches set aside that are remembered.
const MAX_ASIDE: usize = 64;

// === impl Worker ===

impl Worker {
    pub(crate) fn new(
        mut candidate: Candidate,
        feed: Box<dyn Feed>,
        mailbox: Arc<Mailbox>,
        meter: Meter,
        config: RunnerConfig,
    ) -> Self {
        let kit = candidate.kit.clone();
        Self {
            kit,
            applied: std::mem::take(&mut candidate.applied),
            phase: up(candidate),
            feed,
            mailbox,
            moving: None,
            backlog: VecDeque::new(),
            meter,
            backoff: Backoff::new(config.restarts),
            suspect: None,
            aside: VecDeque::new(),
            unpublished: 0,
            published: Instant::now(),
        }
    }

    pub(crate) fn run(mut self) {
        self.mailbox.attach(std::thread::current());
        self.mailbox.runs(self.kit.setup.cut.clone());
        self.feed.attach(std::thread::current());
        loop {
            let mut worked = self.lookups();
            match self.mailbox.next_other() {
                Some(Other::Stop(until)) => {
                    while Instant::now() < until && self.item() {}
                    break;
                }
                Some(Other::Swap(swap)) => self.swap(swap),
                Some(Other::HandOver(out)) => {
                    let schema = self.meter.now.description.state_schema;
                    self.moving = Some(Moving::new(out, schema, self.applied.ids()));
                }
                Some(Other::Request(request)) => {
                    self.request(request);
                    worked = true;
                }
                None => {}
            }
            worked |= self.move_on();
            worked |= self.item();
            self.tick();
            self.rebuild();
            if worked {
                continue;
            }
            if self.published.elapsed() >= PUBLISH_TIME {
                self.refresh();
            }
            std::thread::park_timeout(self.pause());
        }
        self.meter.now.state = State::Stopped;
        self.refresh();
    }

    /// Answers lookups, within the budget; true if there were any.
    fn lookups(&mut self) -> bool {
        if self.mailbox.lookups() == 0 {
            return false;
        }
        let end = Instant::now() + LOOKUP_TIME;
        for done in 0..LOOKUPS {
            let Some(lookup) = self.mailbox.next_lookup() else {
                return done > 0;
            };
            self.lookup(lookup);
            if Instant::now() >= end {
                break;
            }
        }
        true
    }

    fn lookup(&mut self, lookup: Lookup) {
        let answer = self.find(&lookup);
        // Nobody waits for a late answer; it is one nonetheless.
        self.meter.lookup(answer.as_ref().err().map(code));
        self.unpublished += 1;
        lookup.reply.send(answer);
    }

    fn find(&mut self, lookup: &Lookup) -> Result<Answer, LookupError> {
        let query = &lookup.query;
        if Instant::now() >= lookup.expires {
            return Err(LookupError::Deadline);
        }
        let name = &self.kit.setup.name;
        if !self.kit.compiled.summary.features.lookup {
            return Err(LookupError::NoPlugin(name.to_string()));
        }
        self.applied.serves(query)?;
        let Phase::Up { instance, .. } = &mut self.phase else {
            return Ok(self.applied.answer(query, Vec::new()));
        };
        match instance.find(query) {
            Ok(rows) => Ok(self.applied.answer(query, rows)),
            Err(CallError::Refused(why)) => Err(LookupError::Failed(why)),
            Err(error) => {
                let why = format!("plugin {name}: {error}");
                self.after(&error, "find");
                Err(LookupError::Failed(why))
            }
        }
    }

    fn request(&mut self, request: Request) {
        let answer = if Instant::now() >= request.expires {
            Err(LookupError::Deadline)
        } else if let Phase::Up { instance, .. } = &mut self.phase {
            match instance.request(&request.body) {
                Ok(body) => {
                    self.meter.now.requests += 1;
                    Ok(body)
                }
                Err(error) => {
                    self.after(&error, "handle");
                    Err(LookupError::Failed(error.to_string()))
                }
            }
        } else {
            Err(LookupError::Failed("the plugin is down".to_owned()))
        };
        request.reply.send(answer);
    }

    /// Hands a piece of the state over, if a candidate waits for it.
    fn move_on(&mut self) -> bool {
        let Some(moving) = &mut self.moving else {
            return false;
        };
        let Phase::Up { instance, .. } = &mut self.phase else {
            self.moving = None;
            return false;
        };
        match moving.step() {
            Step::Wait => return false,
            Step::Over => self.moving = None,
            Step::Begin(source) => {
                if let Some(state) = self.applied.state(source) {
                    moving.begin(state);
                }
            }
            Step::Piece(source, cursor) => {
                let at = self.applied.at(source).unwrap_or((None, false));
                match instance.snapshot(source, cursor, PIECE_BYTES) {
                    Ok(piece) => moving.made(piece, at),
                    Err(error) => {
                        moving.refused(error.to_string());
                        self.after(&error, "snapshot");
                    }
                }
            }
        }
        true
    }

    /// Handles one item; false if there was none, or nobody to handle it.
    fn item(&mut self) -> bool {
        let Phase::Up { instance, .. } = &mut self.phase else {
            return false;
        };
        let next = next_item(&mut self.backlog, &self.moving, &mut *self.feed);
        let Some((item, fed)) = next else {
            return false;
        };
        let outcome = match &item {
            Item::Batch(batch) => {
                let key = (batch.source, batch.position());
                let asked = ColumnSet(instance.wants().0 & !ColumnSet::PAYLOAD.0);
                if self.aside.contains(&key) {
                    self.skip(batch, "plugin_failed", GapReason::PluginFailed)
                } else if !batch.columns.is_empty() && !batch.columns.filled.contains(asked) {
                    self.skip(batch, "columns_missing", GapReason::Missed)
                } else {
                    self.batch(batch)
                }
            }
            Item::Change(change) => self.change(change),
        };
        if fed && !matches!(&outcome, Err((error, _)) if error.is_fatal()) {
            self.feed.done();
        }
        if let Err((error, call)) = outcome {
            let key = match &item {
                Item::Batch(batch) if error.is_fatal() => Some((batch.source, batch.position())),
                _ => None,
            };
            self.suspect(key);
            self.after(&error, call);
        }
        self.unpublished += 1;
        // A slow plugin would show nothing for minutes.
        let slow = match &self.phase {
            Phase::Up { instance, .. } => instance.last_call() >= SLOW,
            Phase::Down(_) => false,
        };
        if slow || self.unpublished >= PUBLISH_EVERY {
            self.refresh();
        }
        true
    }

    fn batch(&mut self, batch: &Batch) -> Result<(), (CallError, &'static str)> {
        let Phase::Up { instance, .. } = &mut self.phase else {
            return Ok(());
        };
        match instance.on_batch(batch) {
            Ok(refusals) => {
                self.meter.batch(batch, instance.last_call());
                self.meter.refused(batch, &refusals);
                self.applied.batch(batch);
                Ok(())
            }
            Err(error) => {
                if !error.is_fatal() {
                    self.meter.dropped(error.code());
                }
                Err((error, "on-batch"))
            }
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), (CallError, &'static str)> {
        let Phase::Up { instance, .. } = &mut self.phase else {
            return Ok(());
        };
        let told = instance.on_source(change);
        // Positions are the host's: they change though the plugin dies of the news.
        self.applied.change(change);
        told.map_err(|error| (error, "on-source"))
    }

    /// Tells of a gap instead of the batch.
    fn skip(
        &mut self,
        batch: &Batch,
        why: &'static str,
        reason: GapReason,
    ) -> Result<(), (CallError, &'static str)> {
        self.meter.dropped(why);
        tracing::error!(
            plugin = %self.kit.setup.name, source = batch.source.0,
            position = %batch.position(), why, "batch set aside"
        );
        self.change(&Change::Gap {
            source: batch.source,
            epoch: batch.epoch,
            first: batch.sequence,
            last: batch.sequence,
            reason,
        })
    }

    /// A batch killed the instance, or something else did (none).
    fn suspect(&mut self, key: Option<(SourceId, Position)>) {
        if let Some(key) = key
            && self.suspect == Some(key)
        {
            if self.aside.len() >= MAX_ASIDE {
                self.aside.pop_front();
            }
            self.aside.push_back(key);
            self.suspect = None;
        } else {
            self.suspect = key;
        }
    }

    fn tick(&mut self) {
        let Phase::Up {
            instance,
            tick: Some((every, next)),
            ..
        } = &mut self.phase
        else {
            return;
        };
        let now = Instant::now();
        if now < *next {
            return;
        }
        *next = now + *every;
        if let Err(error) = instance.tick() {
            self.after(&error, "tick");
        }
    }

    fn swap(&mut self, swap: Swap) {
        let candidate = *swap.candidate;
        self.kit = candidate.kit.clone();
        self.mailbox.runs(self.kit.setup.cut.clone());
        self.meter.now.generation += 1;
        candidate.describe_in(&mut self.meter.now);
        self.backoff.reset();
        self.suspect = None;
        self.aside.clear();
        self.take(candidate);
        swap.reply.send(true);
    }

    /// Another instance, which knows nothing yet.
    fn take(&mut self, candidate: Candidate) {
        // Whatever waited comes again.
        self.moving = None;
        self.backlog.clear();
        self.phase = up(candidate);
        self.applied.lose();
        self.feed.rewind();
        self.refresh();
    }

    /// What an error of a call means for the instance.
    fn after(&mut self, error: &CallError, call: &'static str) {
        let plugin = &self.kit.setup.name;
        if error.is_fatal() {
            tracing::warn!(%plugin, call, code = error.code(), "plugin failed: {error}");
            self.fail(LastError::of(error, call));
        } else {
            tracing::debug!(%plugin, call, code = error.code(), "{error}");
            self.meter.now.last_error = Some(LastError::of(error, call));
        }
    }

    fn fail(&mut self, error: LastError) {
        let now = Instant::now();
        let lived = match &self.phase {
            Phase::Up { since, .. } => now.saturating_duration_since(*since),
            Phase::Down(_) => Duration::ZERO,
        };
        let wait = self.backoff.failed(lived, rand::random());
        let state = match wait {
            Some(_) => State::Backoff,
            None => State::Failed,
        };
        if wait.is_none() {
            tracing::error!(
                plugin = %self.kit.setup.name, code = error.code,
                "plugin failed too often in a row: it stays down until it is replaced"
            );
        }
        self.phase = Phase::Down(wait.map(|wait| now + wait));
        self.applied.lose();
        self.meter.failed(error, state);
    }

    /// Makes another instance once the wait is over.
    fn rebuild(&mut self) {
        let Phase::Down(Some(when)) = self.phase else {
            return;
        };
        if Instant::now() < when {
            return;
        }
        self.meter.now.restarts += 1;
        let kit = &self.kit;
        match Candidate::prepare(&kit.host, &kit.compiled, &kit.setup) {
            Ok(candidate) => {
                candidate.describe_in(&mut self.meter.now);
                self.take(candidate);
            }
            Err(error) => {
                self.fail(LastError::new(error.code(), "start", error.to_string()));
            }
        }
    }

    fn refresh(&mut self) {
        self.unpublished = 0;
        self.published = Instant::now();
        if let Phase::Up { instance, .. } = &self.phase {
            self.meter.now.memory_bytes = instance.memory_bytes();
        }
        self.meter.now.sources = self.applied.sources();
        self.meter.now.set_waiting(self.feed.waiting());
        self.meter.refresh();
    }

    /// How long there is nothing to do, unless somebody unparks.
    fn pause(&self) -> Duration {
        let next = match &self.phase {
            Phase::Up { tick, .. } => tick.map(|(_, next)| next),
            Phase::Down(when) => *when,
        };
        let longest = if self.unpublished > 0 {
            PUBLISH_TIME
        } else {
            IDLE
        };
        if self.moving.is_some() {
            return ROOM;
        }
        let until = |when: Instant| when.saturating_duration_since(Instant::now());
        next.map_or(longest, |when| until(when).min(longest))
    }
}

/// The next item that need not wait for its source to be moved, and whether it comes
/// from the feed and has not been called done yet.
fn next_item(
    backlog: &mut VecDeque<Item>,
    moving: &Option<Moving>,
    feed: &mut dyn Feed,
) -> Option<(Item, bool)> {
    let waits = |item: &Item| {
        let moving = moving.as_ref();
        moving.is_some_and(|moving| moving.holds(item.source()))
    };
    if backlog.front().is_some_and(|first| !waits(first)) {
        return backlog.pop_front().map(|item| (item, false));
    }
    while backlog.len() < HELD {
        let item = feed.next()?;
        if !waits(&item) {
            return Some((item, true));
        }
        feed.done();
        backlog.push_back(item);
    }
    None
}

fn up(candidate: Candidate) -> Phase {
    let Candidate {
        mut instance,
        interval,
        ..
    } = candidate;
    instance.set_effects(true);
    let now = Instant::now();
    Phase::Up {
        instance: Box::new(instance),
        since: now,
        tick: interval.map(|every| (every, now + every)),
    }
}

fn code(error: &LookupError) -> &'static str {
    match error {
        LookupError::NoPlugin(_) | LookupError::NoRequests(_) => "no_plugin",
        LookupError::Loading(_) => "loading",
        LookupError::NoModel(_) => "no_model",
        LookupError::Busy => "busy",
        LookupError::Deadline => "deadline",
        LookupError::Failed(_) => "failed",
    }
}
