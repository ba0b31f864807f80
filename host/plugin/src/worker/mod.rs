//! The runner's thread. See [`Runner`](crate::Runner) for the picture.

mod asked;
mod emit;
mod life;
mod parked;
mod role;

pub use role::Role;

use crate::answers::Applied;
use crate::background;
use crate::backoff::Backoff;
use crate::handover::{Moved, Moving, PIECE_BYTES, Step};
use crate::mailbox::{Mailbox, Other};
use crate::meter::Meter;
use crate::runner::{Candidate, Kit, RunnerConfig};
use crate::trail::Pen;
use crate::{CallError, Feed, Instance, OnFailure, State};
use emit::Emits;
use parked::Parked;
use penstock_event::{Batch, Change, ColumnSet, GapReason, Item, Position, SourceId, Wakeups};
use role::Part;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

pub(crate) struct Worker {
    kit: Kit,
    phase: Phase,
    feed: Box<dyn Feed>,
    mailbox: Arc<Mailbox>,
    applied: Applied,
    meter: Meter,
    backoff: Backoff,
    on_failure: OnFailure,
    /// Where batches that are set aside are written.
    set_aside: Option<PathBuf>,
    /// The batch that killed the last instance.
    suspect: Option<(SourceId, Position)>,
    /// Batches that killed two in a row.
    aside: VecDeque<(SourceId, Position)>,
    /// A candidate takes the state over.
    moving: Option<Moving>,
    /// Others that wait for it.
    to_move: VecDeque<SyncSender<Moved>>,
    parked: Parked,
    part: Part,
    trail: Pen,
    emits: Emits,
    /// Items and lookups that the published status does not show yet.
    unpublished: u32,
    published: Instant,
    /// Items handled since nothing was left to do.
    handled: u64,
    wakeups: Wakeups,
    /// Everything but its end is over.
    stopped: bool,
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

/// Items and lookups, or time, between two publications of the status.
const PUBLISH_EVERY: u32 = 256;
const PUBLISH_TIME: Duration = Duration::from_millis(10);
/// After a call that took this long, the status is published at once.
const SLOW: Duration = Duration::from_millis(1);

/// Longest sleep: the status is refreshed that often when nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// How long until a candidate may have room for the next piece.
const ROOM: Duration = Duration::from_millis(1);

/// How often a follower looks how far its leader is.
const FOLLOW: Duration = Duration::from_millis(1);

/// How long it may take to come as far as that with less priority.
const CATCH_UP: Duration = Duration::from_secs(3);

// === impl Worker ===

impl Worker {
    pub(crate) fn new(
        mut candidate: Candidate,
        feed: Box<dyn Feed>,
        mailbox: Arc<Mailbox>,
        meter: Meter,
        config: RunnerConfig,
        trail: Pen,
    ) -> Self {
        let kit = candidate.kit.clone();
        Self {
            kit,
            applied: std::mem::take(&mut candidate.applied),
            phase: up(candidate),
            feed,
            mailbox,
            moving: None,
            to_move: VecDeque::new(),
            parked: Parked::default(),
            part: Part::leads(HashMap::new()),
            trail,
            emits: Emits::to(config.emits),
            meter,
            backoff: Backoff::new(config.restarts),
            on_failure: config.on_failure,
            set_aside: config.set_aside,
            suspect: None,
            aside: VecDeque::new(),
            unpublished: 0,
            published: Instant::now(),
            handled: 0,
            wakeups: Wakeups::new(Instant::now()),
            stopped: false,
        }
    }

    pub(crate) fn run(mut self, role: Role) {
        self.mailbox.runs(self.kit.setup.cut.clone());
        self.play(role);
        if self.part.leader().is_some() {
            self = background::run(move || self.catch_up());
        }
        self.turns(None, |_| false);
        self.meter.now.state = State::Stopped;
        self.refresh();
    }

    /// Comes as far as the one that it follows, without taking the processor from it:
    /// on a thread of less priority, which cannot be raised again.
    fn catch_up(mut self) -> Self {
        self.turns(Some(Instant::now() + CATCH_UP), |worker| {
            let leader = worker.part.leader();
            leader.is_none_or(|leader| worker.trail.behind(leader, |_| true) == Some(0))
        });
        self
    }

    /// Works on this thread until then, or until it is enough: that is asked when its
    /// role changes, and when there is nothing to do.
    fn turns(&mut self, until: Option<Instant>, enough: impl Fn(&Self) -> bool) {
        if self.stopped {
            return;
        }
        self.trail.leads(std::thread::current());
        self.mailbox.attach(std::thread::current());
        self.feed.attach(std::thread::current());
        let mut idle = true;
        loop {
            let mut worked = self.lookups();
            match self.mailbox.next_other() {
                Some(Other::Stop(until)) => {
                    while Instant::now() < until && self.item() {}
                    self.stopped = true;
                    return;
                }
                Some(Other::Role(role, taken)) => {
                    self.play(role);
                    taken.send(());
                    if enough(self) {
                        return;
                    }
                }
                Some(Other::Revive) => self.revive(),
                Some(Other::HandOver(out)) => self.to_move.push_back(out),
                Some(Other::Request(request)) => {
                    self.request(request);
                    worked = true;
                }
                None => {}
            }
            worked |= self.move_on(idle);
            if self.trail.wants_all() {
                self.trail.all(self.applied.marks());
            }
            idle = !self.item();
            worked |= !idle;
            self.tick();
            self.rebuild();
            if until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
            if worked {
                continue;
            }
            if self.published.elapsed() >= PUBLISH_TIME {
                self.refresh();
            }
            if enough(self) {
                return;
            }
            self.sleep();
        }
    }

    /// Until something comes, or is due. Lookups always wake it.
    fn sleep(&mut self) {
        let handled = std::mem::take(&mut self.handled);
        let pause = self.pause();
        let rest = match self.part.leader() {
            // Nobody wakes a follower.
            Some(_) => Some(FOLLOW),
            None => self.wakeups.rest(Instant::now(), handled),
        };
        let Some(rest) = rest else {
            std::thread::park_timeout(pause);
            return;
        };
        self.feed.rest(true);
        std::thread::park_timeout(rest.min(pause));
        self.feed.rest(false);
    }

    /// From now on it is this to the others.
    fn play(&mut self, role: Role) {
        if let Role::Lead(Some(trail)) = &role {
            self.applied.had(trail.known());
        }
        self.part = Part::take(role, Some(&mut self.part));
        self.meter.leads = self.part.speaks();
        if !self.meter.leads {
            // How far it is shows there.
            self.trail.all(self.applied.marks());
        }
    }

    /// Hands a piece of the state over, if a candidate waits for it.
    fn move_on(&mut self, idle: bool) -> bool {
        if self.moving.is_none()
            && let Some(out) = self.to_move.pop_front()
        {
            let schema = self.meter.now.description.state_schema;
            let whole = !self.kit.compiled.summary.features.state;
            let sources = self.applied.ids();
            self.moving = Some(Moving::new(out, schema, whole, sources));
        }
        let Some(moving) = &mut self.moving else {
            return false;
        };
        let Phase::Up { instance, .. } = &mut self.phase else {
            self.moving = None;
            return false;
        };
        match moving.step(idle) {
            Step::Wait => return false,
            Step::Over => self.moving = None,
            Step::Begin(source) => {
                let at = self.applied.at(source);
                if let (Some(state), Some(at)) = (self.applied.state(source), at) {
                    moving.begin(state, at);
                }
            }
            Step::Piece(source, cursor) => {
                let at = self.applied.at(source).unwrap_or_default();
                let piece = instance.snapshot(source, cursor, PIECE_BYTES);
                match piece {
                    Ok(piece) => moving.made(piece, at, instance.last_call()),
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
        if self.part.holds() {
            return false;
        }
        let (moving, part) = (&self.moving, &mut self.part);
        let held = |item: &Item| moving.as_ref().is_some_and(|m| m.holds(item.source()));
        let may = |item: &Item| !held(item) && part.may(item);
        let Some((item, fed)) = self.parked.next(&mut *self.feed, may) else {
            return false;
        };
        let shadow = self.part.shadows() || self.trail.shadowed();
        let muted = self.part.mutes(&item);
        instance.set_effects(!muted);
        instance.record(shadow);
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
        if matches!(&outcome, Err((error, _)) if error.is_fatal()) {
            self.emits.forget();
        } else {
            // Before it counts as done: whoever waits for it finds what came of it.
            let events = self.emits.hand_on(&item, muted);
            self.meter.emitted(events);
            match fed {
                true => self.feed.done(),
                false => self.parked.done(&mut *self.feed),
            }
            self.handled(&item, shadow);
        }
        if let Err((error, call)) = outcome {
            let batch = match &item {
                Item::Batch(batch) if error.is_fatal() => Some(&**batch),
                _ => None,
            };
            self.suspect(batch, &error);
            self.after(&error, call);
        }
        self.unpublished += 1;
        self.handled += 1;
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

    /// Tells those who follow, and compares with who leads.
    fn handled(&mut self, item: &Item, shadow: bool) {
        let notes = self.trail.followed() || !self.part.speaks();
        let Some((source, mark)) = self.applied.mark(item) else {
            // Whether somebody follows or not: that it had left is no news any more.
            self.trail.joined(item.source());
            return;
        };
        let said = match &mut self.phase {
            Phase::Up { instance, .. } if shadow => Some(instance.said()),
            _ => None,
        };
        if notes {
            self.trail.note(source, mark, said);
        }
        if let Some(said) = said {
            let plugin = &self.kit.setup.name;
            self.part
                .compare(plugin, (source, mark), said, &mut self.meter.now.shadow);
        }
    }

    fn batch(&mut self, batch: &Batch) -> Result<(), (CallError, &'static str)> {
        let Phase::Up { instance, .. } = &mut self.phase else {
            return Ok(());
        };
        match instance.on_batch(batch) {
            Ok(refusals) => {
                self.emits.batch(|| instance.emitted());
                self.meter.batch(batch, instance.last_call());
                self.meter.refused(batch, &refusals);
                self.applied.batch(batch);
                Ok(())
            }
            Err(error) => {
                if !error.is_fatal() {
                    self.meter.dropped(error.code());
                    self.emits.change(&gap(batch, GapReason::PluginFailed));
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
        self.emits.change(change);
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
        self.change(&gap(batch, reason))
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
        if self.part.holds() {
            return;
        }
        *next = now + *every;
        instance.set_effects(self.part.speaks());
        if let Err(error) = instance.tick() {
            self.after(&error, "tick");
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

/// The change that tells of a batch that does not come.
fn gap(batch: &Batch, reason: GapReason) -> Change {
    Change::Gap {
        source: batch.source,
        epoch: batch.epoch,
        first: batch.sequence,
        last: batch.sequence,
        reason,
    }
}

fn up(candidate: Candidate) -> Phase {
    let Candidate {
        instance, interval, ..
    } = candidate;
    let now = Instant::now();
    Phase::Up {
        instance: Box::new(instance),
        since: now,
        tick: interval.map(|every| (every, now + every)),
    }
}
