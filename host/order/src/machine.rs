//! The states, and what they share.

use crate::buffer::Buffer;
use crate::replay::{Purpose, Replay};
use crate::suspects::Suspects;
use crate::transition::{Transition, mutant};
use crate::{Config, Frame, Input, Micros, Note, Output, ReplayId, Status};
use penstock_event::{Epoch, GapReason, Position, ResetReason, Sequence};
use std::collections::VecDeque;

/// One source's order.
///
/// ```text
///              first frame or connection         history spliced
///   ┌─────┐ ────────────────────────> ┌─────────┐ ───────────> ┌──────┐
///   │ new │                           │ joining │              │ live │ <─┐ next frame
///   └─────┘          ┌── restart ───> └─────────┘    missing   └──────┘ ──┘
///                    │                            ┌────────────> │  │ silence
///   ┌──────┐ again ┌─┴─────────┐  same content ┌──┴──────┐       │  └─> ┌──────┐
///   │ down │ ────> │ verifying │ ────────────> │ filling │ <─────┘      │ tail │
///   └──────┘       └───────────┘               └─────────┘              └──────┘
///       ^ connection lost, from every state         filled, or reported: live
/// ```
///
/// - *new -> joining*: the stream is heard of; everything from the first sequence is
///   asked for, live frames wait. Without a replay endpoint: at once *live*, with the
///   first frame.
/// - *joining -> live*: the replay reached the frames that wait, or ended; what it
///   lacked is reported.
/// - *live -> filling*: a frame came ahead of one missing, which is asked for.
/// - *filling -> live*: the gap was filled, or what cannot be had is reported.
/// - *live -> tail*: silence; what comes after the last frame is asked for, since a
///   publisher at its high-water mark drops the end of a burst.
/// - *any -> down -> verifying*: the connection came back; sequences that go on prove
///   nothing, so the last batch is asked for and compared. Frames wait meanwhile.
/// - *verifying -> filling*: it is the same; the same replay brings what was missed.
/// - *any -> joining* (restart): the sequence went back behind the highest live one of
///   this connection, the last batch differs, or nothing could be shown.
pub struct Machine<P: Frame> {
    pub(crate) config: Config,
    pub(crate) epoch: Epoch,
    pub(crate) state: State,
    /// The next sequence to deliver.
    pub(crate) next: Sequence,
    /// The last batch delivered in this epoch, and its digest.
    pub(crate) anchor: Option<(Sequence, u64)>,
    /// The highest live sequence of this connection.
    pub(crate) high: Option<Sequence>,
    /// Recent frames by sequence and digest: how a duplicate is told from a restart.
    recent: VecDeque<(Sequence, u64)>,
    pub(crate) buffer: Buffer<P>,
    /// What waited when the connection was lost: of this life only if verified.
    pub(crate) before: Buffer<P>,
    pub(crate) replay: Option<Replay>,
    /// The replay that has just ended, while it is looked at.
    pub(crate) last_replay: Option<Replay>,
    replays: u64,
    /// A gap is open; false inside: something of it was reported missing.
    pub(crate) gap: Option<bool>,
    pub(crate) complete: bool,
    /// When the end of the stream is to be checked.
    pub(crate) tail_due: Option<Micros>,
    pub(crate) suspects: Suspects<P>,
    #[cfg(test)]
    pub(crate) counts: std::collections::BTreeMap<Transition, u64>,
    #[cfg(test)]
    pub(crate) mutant: Option<crate::transition::Mutant>,
}

/// Where a source stands. What a replay is for is said by the replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    New,
    Joining,
    Live,
    Filling,
    Tail,
    Down,
    Verifying,
}

/// Frames that are remembered by digest.
const RECENT: usize = 64;

// === impl Machine ===

impl<P: Frame> Machine<P> {
    /// A source never heard of.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            next: config.first,
            config,
            epoch: Epoch(0),
            state: State::New,
            anchor: None,
            high: None,
            recent: VecDeque::with_capacity(RECENT),
            buffer: Buffer::new(),
            before: Buffer::new(),
            replay: None,
            last_replay: None,
            replays: 0,
            gap: None,
            complete: true,
            tail_due: None,
            suspects: Suspects::new(),
            #[cfg(test)]
            counts: std::collections::BTreeMap::new(),
            #[cfg(test)]
            mutant: None,
        }
    }

    /// A source as a checkpoint left it: the last batch applied and its digest.
    /// Continuity is checked before the first frame.
    #[must_use]
    pub fn resume(config: Config, from: Position, digest: u64) -> Self {
        let mut machine = Self::new(config);
        machine.epoch = from.epoch;
        machine.next = from.sequence + 1;
        machine.anchor = Some((from.sequence, digest));
        machine.state = State::Down;
        machine
    }

    /// Takes one input at `now`; what is to be done is added to `out`, in order.
    pub fn handle(&mut self, now: Micros, input: Input<P>, out: &mut Vec<Output<P>>) {
        match input {
            Input::Live { sequence, frame } => self.live(now, sequence, frame, out),
            Input::Connected => self.connected(now, out),
            Input::Disconnected => self.disconnected(out),
            Input::Announced => {
                self.step(Transition::Announced);
                self.restart(now, ResetReason::Announced, out);
            }
            Input::ReplayStarted { replay } => self.replay_started(now, replay),
            Input::Replayed {
                replay,
                sequence,
                frame,
            } => self.replayed(now, replay, sequence, frame, out),
            Input::ReplayEnd { replay } => self.replay_end(now, replay, out),
            Input::ReplayFailed { replay } => self.replay_failed(now, replay, out),
            Input::Tick => self.tick(now, out),
        }
    }

    /// When [`Input::Tick`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        let replay = self.replay.as_ref().map(|r| r.deadline);
        let tail = self.tail_due.filter(|_| self.state == State::Live);
        let all = [replay, tail, self.suspects.deadline()];
        all.into_iter().flatten().min()
    }

    /// What people see.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = match self.state {
            State::New => "new",
            State::Joining => "joining",
            State::Live => "live",
            State::Filling => "filling",
            State::Tail => "tail",
            State::Down => "down",
            State::Verifying => "verifying",
        };
        let position = self.anchor.map(|(sequence, _)| Position {
            epoch: self.epoch,
            sequence,
        });
        Status {
            state,
            position,
            complete: self.complete,
            buffered: self.buffer.len() + self.before.len(),
        }
    }

    fn tick(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        if self.suspects.deadline().is_some_and(|due| due <= now) {
            self.believe_suspects(now, out);
        }
        if self.replay.as_ref().is_some_and(|r| r.deadline <= now) {
            self.step(Transition::TimedOut);
            self.stop_replay(out);
            self.replay_short(now, GapReason::ReplayTimeout, out);
        }
        if self.state == State::Live && self.tail_due.is_some_and(|due| due <= now) {
            self.tail_due = None;
            self.step(Transition::TailCheck);
            self.state = State::Tail;
            self.start_replay(now, Purpose::Tail, self.next, out);
        }
    }

    /// Hands over the next frame.
    pub(crate) fn deliver(&mut self, frame: P, replayed: bool, out: &mut Vec<Output<P>>) {
        let sequence = self.next;
        let digest = frame.digest();
        self.remember(sequence, digest);
        self.anchor = Some((sequence, digest));
        self.next = sequence + 1;
        out.push(Output::Deliver {
            epoch: self.epoch,
            sequence,
            frame,
            replayed,
        });
    }

    /// Hands over what waits and is next.
    pub(crate) fn drain(&mut self, out: &mut Vec<Output<P>>) {
        self.buffer.forget_below(self.next);
        while let Some(frame) = self.buffer.take(self.next) {
            self.deliver(frame, false, out);
        }
    }

    /// Gives up what is missing before `to`; what waits in between is handed over.
    pub(crate) fn give_up_to(&mut self, to: Sequence, reason: GapReason, out: &mut Vec<Output<P>>) {
        self.drain(out);
        while self.next < to {
            let until = self.buffer.first().map_or(to, |first| first.min(to));
            self.report(until - 1, reason, out);
            self.drain(out);
        }
    }

    /// Reports `next..=last` as missing.
    fn report(&mut self, last: Sequence, reason: GapReason, out: &mut Vec<Output<P>>) {
        self.step(Transition::GapReported);
        let off = u64::from(mutant!(self, GapOffByOne));
        out.push(Output::Gap {
            epoch: self.epoch,
            first: self.next,
            last: last + off,
            reason,
        });
        self.next = last + 1;
        self.complete = mutant!(self, GapIsComplete);
        self.gap = self.gap.map(|_| false);
    }

    pub(crate) fn open_gap(&mut self, out: &mut Vec<Output<P>>) {
        if self.gap.is_none() {
            self.gap = Some(true);
            self.step(Transition::GapOpened);
            out.push(Output::Note(Note::GapOpened));
        }
    }

    pub(crate) fn close_gap(&mut self, out: &mut Vec<Output<P>>) {
        if self.gap.take() == Some(true) {
            self.step(Transition::GapFilled);
            out.push(Output::Note(Note::GapFilled));
        }
    }

    /// The engine is another one, or may be: a new epoch, from the first sequence.
    pub(crate) fn restart(&mut self, now: Micros, reason: ResetReason, out: &mut Vec<Output<P>>) {
        self.stop_replay(out);
        if !mutant!(self, SameEpoch) {
            self.epoch = self.epoch.next();
        }
        out.push(Output::Reset {
            epoch: self.epoch,
            reason,
        });
        self.forget();
        self.join(now, out);
    }

    /// Forgets this life; nothing of the next one is known.
    pub(crate) fn forget(&mut self) {
        self.next = self.config.first;
        self.anchor = None;
        self.high = None;
        self.recent.clear();
        self.buffer = Buffer::new();
        self.before = Buffer::new();
        self.gap = None;
        self.complete = true;
        self.tail_due = None;
    }

    /// Asks for the history; without a replay endpoint, begins with what comes.
    pub(crate) fn join(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        if self.config.replay {
            self.step(Transition::Join);
            self.state = State::Joining;
            self.start_replay(now, Purpose::Join, self.next, out);
        } else {
            self.step(Transition::JoinWithoutReplay);
            self.state = State::Live;
        }
    }

    /// Nothing is awaited any more.
    pub(crate) fn settle(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        self.close_gap(out);
        if self.state == State::Joining {
            self.step(Transition::Joined);
        }
        self.state = State::Live;
        self.silence(now);
    }

    /// From now on, silence counts.
    pub(crate) fn silence(&mut self, now: Micros) {
        if self.config.replay && !mutant!(self, NoTailCheck) {
            self.tail_due = Some(now + self.config.tail_after);
        }
    }

    pub(crate) fn next_replay_id(&mut self) -> ReplayId {
        self.replays += 1;
        ReplayId(self.replays)
    }

    pub(crate) fn remember(&mut self, sequence: Sequence, digest: u64) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((sequence, digest));
    }

    /// What is remembered of a sequence.
    pub(crate) fn recalled(&self, sequence: Sequence) -> Option<u64> {
        let found = self.recent.iter().rev().find(|(s, _)| *s == sequence);
        found
            .map(|(_, digest)| *digest)
            .or_else(|| self.buffer.digest(sequence))
    }

    #[inline]
    #[cfg_attr(
        not(test),
        allow(clippy::unused_self, clippy::needless_pass_by_ref_mut)
    )]
    pub(crate) fn step(&mut self, transition: Transition) {
        #[cfg(test)]
        {
            *self.counts.entry(transition).or_default() += 1;
        }
        #[cfg(not(test))]
        let _ = transition;
    }
}
