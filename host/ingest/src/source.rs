//! One source: its order machine, its decoder's output, its state and counters.
//!
//! ```text
//! Connecting -> Live <-> Down -(stale_after)-> Stale -(leave_after)-> Left
//!                 ^                              |                     |
//!                 +------------------------------+---------------------+
//!                     (from Left: joined again, with a fresh machine)
//! ```
//! A source from a checkpoint begins as Down.
//!
//! Frames and news of the connection go into the machine; what comes out is
//! decoded and delivered here, on the ingest thread, in the machine's order.
//! A batch that cannot be decoded becomes a gap of one; the source lives on.

use crate::batch::{BatchMaker, Undecoded, stored_blocks};
use crate::config::{IngestConfig, micros};
use crate::frame::Received;
use crate::meters::{LogGate, Meters, Total};
use crate::sabotage::{drop_removed, loses};
use crate::slab::Key;
use crate::timers::Armed;
use crate::{Resume, Sabotage};
use penstock_event::{
    Beginning, Change, Epoch, GapReason, Item, Link, Mark, Outlet, Position, ResetReason, Sequence,
    SourceState,
};
use penstock_order::{Config, Input, Machine, Micros, Note, Output, ReplayId};
use std::sync::Arc;

/// What one thread's sources share while one of them is at work.
pub(crate) struct Work {
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) maker: BatchMaker,
    pub(crate) config: Arc<IngestConfig>,
    /// Replays to start and to stop, and by which source of the line.
    pub(crate) asks: Vec<(Key, Ask)>,
    /// Sources whose deadlines may have moved.
    pub(crate) touched: Vec<Key>,
    /// Messages taken up.
    pub(crate) taken: u64,
    outputs: Vec<Output<Received>>,
}

/// What the machine asks of the thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Start { id: ReplayId, from: Sequence },
    Stop { id: ReplayId },
    StopAny,
}

pub(crate) struct Source {
    pub(crate) state: Arc<SourceState>,
    pub(crate) meters: Meters,
    pub(crate) armed: Armed,
    /// The replay that runs or waits for this source.
    pub(crate) replay: Option<Key>,
    /// Connections lost so far: what was asked before is not to be trusted after.
    pub(crate) losses: u64,
    /// Its replay endpoint was reported silent.
    pub(crate) replay_doubted: bool,
    key: Key,
    machine: Machine<Received>,
    order: Config,
    /// The machine counts epochs from 0; a source that left and came back goes on
    /// counting where it was.
    epoch_base: u32,
    epoch: Epoch,
    /// The machine's state as status shows it.
    shown: &'static str,
    down_since: Option<Micros>,
    touched: bool,
    ordered: u64,
    log: LogGate,
    gap_log: LogGate,
    twin_log: LogGate,
}

// === impl Work ===

impl Work {
    pub(crate) fn new(
        outlet: Arc<dyn Outlet>,
        maker: BatchMaker,
        config: Arc<IngestConfig>,
    ) -> Self {
        Self {
            outlet,
            maker,
            config,
            asks: Vec::new(),
            touched: Vec::new(),
            taken: 0,
            outputs: Vec::new(),
        }
    }
}

// === impl Source ===

impl Source {
    /// `shared`: engines connect to a bound socket, and two may use one topic. `resume`
    /// is [`set_out`](crate::resume::set_out)'s.
    pub(crate) fn new(
        state: Arc<SourceState>,
        key: Key,
        config: &IngestConfig,
        shared: bool,
        resume: Option<Resume>,
    ) -> Self {
        let order = Config {
            replay: state.info.spec.replay.is_some(),
            shared,
            first: state.info.spec.first_sequence,
            buffer_frames: config.buffer_frames,
            buffer_bytes: config.buffer_bytes,
            replay_wait: micros(config.replay_wait),
            replay_attempts: config.replay_attempts,
            tail_after: micros(config.tail_after),
        };
        let (machine, epoch) = match resume {
            Some(at) => {
                let machine = Machine::resume(order.clone(), at.mark, at.complete);
                (machine, at.mark.position.epoch)
            }
            None => (Machine::new(order.clone()), Epoch::default()),
        };
        Self {
            meters: Meters::new(state.clone()),
            state,
            armed: Armed::default(),
            replay: None,
            losses: 0,
            replay_doubted: false,
            key,
            machine,
            order,
            epoch_base: 0,
            epoch,
            shown: "",
            down_since: None,
            touched: false,
            ordered: 0,
            log: LogGate::default(),
            gap_log: LogGate::default(),
            twin_log: LogGate::default(),
        }
    }

    /// The epoch that runs.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Tells the plugins of the source.
    pub(crate) fn join(&mut self, work: &mut Work) {
        self.deliver(work, Item::Change(Change::Joined(self.state.clone())));
        self.touch(work);
    }

    /// Tells the plugins to forget the source.
    pub(crate) fn leave(&mut self, work: &mut Work) {
        if self.state.link() != Link::Left {
            self.state.set_link(Link::Left);
            self.deliver(work, Item::Change(Change::Left(self.state.info.id)));
        }
        work.asks.push((self.key, Ask::StopAny));
    }

    /// The connection is up, for the first time or again.
    pub(crate) fn up(&mut self, work: &mut Work, now: Micros) {
        if self.state.link() == Link::Left {
            self.epoch_base = self.epoch.next().0;
            self.epoch = Epoch(self.epoch_base);
            self.state.set_beginning(Beginning {
                epoch: self.epoch,
                resumed: None,
                ..self.state.beginning()
            });
            self.join(work);
        }
        self.assure();
        self.feed(work, now, Input::Connected);
    }

    /// The connection is lost.
    pub(crate) fn down(&mut self, work: &mut Work, now: Micros) {
        self.doubt(work, now);
        self.meters.add(Total::Disconnects, 1);
        self.losses += 1;
        self.feed(work, now, Input::Disconnected);
    }

    /// The connection may be lost: it looks so until a message proves otherwise.
    pub(crate) fn doubt(&mut self, work: &mut Work, now: Micros) {
        if matches!(self.state.link(), Link::Live | Link::Connecting) {
            self.state.set_link(Link::Down);
            self.down_since = Some(now);
            self.touch(work);
        }
    }

    /// The connection was never lost.
    pub(crate) fn assure(&mut self) {
        self.state.set_link(Link::Live);
        self.down_since = None;
    }

    /// A live batch.
    pub(crate) fn live(
        &mut self,
        work: &mut Work,
        now: Micros,
        sequence: Sequence,
        frame: Received,
    ) {
        if self.state.link() == Link::Left {
            self.up(work, now);
        }
        self.meters.add(Total::Messages, 1);
        self.meters.add(Total::Bytes, frame.payload.len() as u64);
        self.state.set_last_message_us(frame.received_us);
        self.feed(work, now, Input::Live { sequence, frame });
    }

    /// A message that is no batch. It is counted, and that is all.
    pub(crate) fn malformed(&mut self, now: Micros, reason: &'static str, size: usize) {
        self.meters.add(Total::Messages, 1);
        self.meters.add(Total::Bytes, size as u64);
        self.meters.add(Total::Malformed, 1);
        self.meters.error("frame", reason);
        if let Some(held) = self.log.pass(now) {
            let source = &*self.state.info.name;
            tracing::warn!(
                source,
                reason,
                size,
                held,
                "a message is not topic, sequence, payload"
            );
        }
    }

    /// When [`Source::tick`] is to be called.
    pub(crate) fn deadline(&self, config: &IngestConfig) -> Option<Micros> {
        let order = self.machine.deadline();
        let after = match self.state.link() {
            Link::Down => config.stale_after,
            Link::Stale => config.leave_after,
            _ => return order,
        };
        let link = self
            .down_since
            .map(|since| since.saturating_add(micros(after)));
        order.into_iter().chain(link).min()
    }

    /// Time passed. True when the source has just left.
    pub(crate) fn tick(&mut self, work: &mut Work, now: Micros) -> bool {
        self.touch(work);
        if self.machine.deadline().is_some_and(|at| at <= now) {
            self.feed(work, now, Input::Tick);
        }
        let Some(since) = self.down_since else {
            return false;
        };
        let down = now.saturating_sub(since);
        let source = &*self.state.info.name;
        if self.state.link() == Link::Down && down >= micros(work.config.stale_after) {
            self.state.set_link(Link::Stale);
            tracing::warn!(source, "disconnected; left out of answers until it is back");
        }
        if self.state.link() == Link::Stale && down >= micros(work.config.leave_after) {
            tracing::warn!(
                source,
                "disconnected for too long; forgotten until it is back"
            );
            self.leave(work);
            self.down_since = None;
            self.machine = Machine::new(self.order.clone());
            self.state.set_complete(true);
            self.state.set_contested(false);
            return true;
        }
        false
    }

    /// One input of the machine, and everything that follows from it.
    pub(crate) fn feed(&mut self, work: &mut Work, now: Micros, input: Input<Received>) {
        let mut outputs = std::mem::take(&mut work.outputs);
        self.machine.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            self.apply(work, now, output);
        }
        work.outputs = outputs;
        let shown = self.machine.status().state;
        if shown != self.shown {
            self.shown = shown;
            self.state.set_order_state(shown);
        }
        self.touch(work);
    }

    fn apply(&mut self, work: &mut Work, now: Micros, output: Output<Received>) {
        match output {
            Output::Deliver {
                epoch,
                sequence,
                frame,
                digest,
                replayed,
            } => {
                let raw = Undecoded {
                    epoch: self.numbered(work, epoch),
                    sequence,
                    received_us: frame.received_us,
                    payload: frame.payload,
                    digest,
                    replayed,
                };
                self.batch(work, now, raw);
            }
            Output::Gap {
                epoch,
                first,
                last,
                reason,
            } => {
                let epoch = self.numbered(work, epoch);
                self.gap(work, now, epoch, (first, last), reason, None);
            }
            Output::Reset { epoch, reason } => self.reset(work, epoch, reason),
            Output::Resumed => {
                tracing::info!(
                    source = &*self.state.info.name,
                    "the engine is the one of the checkpoint; its stream goes on"
                );
                work.outlet.proven(&self.state);
            }
            Output::StartReplay { replay, from } => {
                work.asks.push((self.key, Ask::Start { id: replay, from }));
            }
            Output::StopReplay { replay } => {
                work.asks.push((self.key, Ask::Stop { id: replay }));
            }
            Output::Note(note) => self.note(now, note),
        }
    }

    fn note(&mut self, now: Micros, note: Note) {
        let total = match note {
            Note::Duplicate => Total::Duplicates,
            Note::Stale => Total::StaleFrames,
            Note::GapOpened => Total::Gaps,
            Note::GapFilled => Total::GapsFilled,
            Note::TwoPublishers => Total::TwoPublishers,
        };
        self.meters.add(total, 1);
        if total != Total::TwoPublishers {
            return;
        }
        self.state.set_contested(true);
        if let Some(held) = self.twin_log.pass(now) {
            tracing::error!(
                source = &*self.state.info.name,
                held,
                "two publishers on one topic; the later one is left out: give each engine its own"
            );
        }
    }

    /// Decodes one batch and delivers it.
    fn batch(&mut self, work: &mut Work, now: Micros, raw: Undecoded) {
        if raw.replayed {
            self.meters.add(Total::Replayed, 1);
        }
        let position = Position {
            epoch: raw.epoch,
            sequence: raw.sequence,
        };
        let digest = raw.digest;
        let fault = work.config.sabotage;
        self.ordered += 1;
        if loses(fault, self.ordered) {
            return;
        }
        let want = work.outlet.wanted(self.state.info.id);
        work.taken += 1;
        match work.maker.make(&self.state, raw, want) {
            Ok(mut batch) => {
                if fault == Some(Sabotage::SkipRemove) {
                    drop_removed(&mut batch.columns);
                }
                self.meters.add(Total::Batches, 1);
                self.meters.add(Total::Events, batch.columns.len() as u64);
                self.meters
                    .add(Total::Blocks, stored_blocks(&batch.columns));
                // After a clear, what came before does not matter.
                if !batch.skipped.is_empty() {
                    self.skipped(now, &batch);
                }
                if batch.skipped_events() == 0 && !self.state.complete() && batch.clears() {
                    self.state.set_complete(true);
                }
                self.deliver(work, Item::Batch(Arc::new(batch)));
                self.state.set_mark(Mark { position, digest });
            }
            Err(error) => {
                let reason = if error.too_large() {
                    GapReason::TooLarge
                } else {
                    GapReason::Undecodable
                };
                self.meters.add(Total::Undecodable, 1);
                self.meters.error("decode", error.code());
                let range = (position.sequence, position.sequence);
                self.gap(work, now, position.epoch, range, reason, Some(&error));
            }
        }
    }

    fn skipped(&mut self, now: Micros, batch: &penstock_event::Batch) {
        if batch.skipped_events() > 0 {
            self.state.set_complete(false);
        }
        for skipped in &batch.skipped {
            let events = u64::from(skipped.lost.max(1));
            self.meters.add(Total::SkippedEvents, events);
            self.meters.error("event", skipped.code);
        }
        if let (Some(first), Some(held)) = (batch.skipped.first(), self.log.pass(now)) {
            tracing::error!(
                source = &*self.state.info.name,
                sequence = batch.sequence,
                event = first.event,
                code = first.code,
                skipped = batch.skipped.len(),
                held,
                "events that cannot be read were left out"
            );
        }
    }

    fn gap(
        &mut self,
        work: &mut Work,
        now: Micros,
        epoch: Epoch,
        (first, last): (Sequence, Sequence),
        reason: GapReason,
        cause: Option<&penstock_decode::DecodeError>,
    ) {
        let missing = last.saturating_sub(first).saturating_add(1);
        self.state.set_complete(false);
        self.meters.add(Total::Missing, missing);
        self.meters.error("gap", reason.name());
        if let Some(held) = self.gap_log.pass(now) {
            tracing::error!(
                source = &*self.state.info.name,
                epoch = epoch.0,
                first,
                last,
                reason = reason.name(),
                cause = cause.map(tracing::field::display),
                held,
                "batches are missing for good"
            );
        }
        let gap = Change::Gap {
            source: self.state.info.id,
            epoch,
            first,
            last,
            reason,
        };
        self.deliver(work, Item::Change(gap));
    }

    fn reset(&mut self, work: &mut Work, epoch: Epoch, reason: ResetReason) {
        if work.config.sabotage == Some(Sabotage::StaleRestart) {
            return;
        }
        self.epoch = self.numbered(work, epoch);
        self.state.set_complete(true);
        self.state.set_contested(false);
        self.meters.add(Total::Restarts, 1);
        tracing::warn!(
            source = &*self.state.info.name,
            epoch = self.epoch.0,
            reason = reason.name(),
            "the engine restarted; what it held is forgotten"
        );
        let reset = Change::Reset {
            source: self.state.info.id,
            epoch: self.epoch,
            reason,
        };
        self.deliver(work, Item::Change(reset));
    }

    /// The machine's epoch as the rest of the process counts it.
    fn numbered(&self, work: &Work, epoch: Epoch) -> Epoch {
        if work.config.sabotage == Some(Sabotage::StaleRestart) {
            return self.epoch;
        }
        Epoch(self.epoch_base.wrapping_add(epoch.0))
    }

    fn deliver(&self, work: &Work, item: Item) {
        work.outlet.deliver(&self.state, item);
    }

    fn touch(&mut self, work: &mut Work) {
        if !self.touched {
            self.touched = true;
            work.touched.push(self.key);
        }
    }

    /// The thread has seen to this source's deadlines.
    pub(crate) fn settled(&mut self) {
        self.touched = false;
    }
}
