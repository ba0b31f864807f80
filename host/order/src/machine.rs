//! The states, and what they share.
//!
//! ```text
//!          Connected, or a frame               replay spliced with live frames
//!   new ───────────────────────────> joining ───────────────────────────────> live
//!    ^                                  ^          a frame behind a hole       │ ^
//!    │ lost before anything came        │        ┌────────────── filling <─────┤ │
//!    │                                  │        └─ filled, or reported ───────┼>┤
//!   down <── Disconnected, from all     │                   silence            │ │
//!    │                                  │        ┌───────────── tail <─────────┘ │
//!    │ Connected                        │        └─ nothing more, or no answer ──┘
//!    └──────────────> verifying ────────┤ another engine: reset
//!                      ^  │             │
//!   new, from a ───────┘  └─ the same ─>┴ rejoining: as joining, from the last batch
//!   checkpoint   Connected, or a frame
//! ```
//!
//! - *new*: nothing is connected and nothing of this epoch is known, or only what a
//!   checkpoint tells: the last batch that was applied. Then it is as after a lost
//!   connection: nothing is delivered before *verifying* has shown that the engine is
//!   still the same, or the reset. Which of both is said even where nothing follows.
//! - *joining*: everything from the first sequence on is asked for; live frames wait.
//!   The replay reaches them, or ends: *live*. It brings other content in their place,
//!   or ends without them: they were left from an engine that is gone. It begins late:
//!   the start is reported. Without a replay endpoint the source is *live* at once, and
//!   what its first frame leaves out is reported.
//! - *live*: frames in sequence are delivered at once. One behind a hole: *filling*.
//!   Silence: *tail*.
//! - *filling*: what is missing is asked for, live frames wait. The replay reaches
//!   them: *live*. It falls short: it is asked for again while it brings something,
//!   and some more times when not; then, or when too much waits, what is missing is
//!   reported and what waits delivered.
//! - *tail*: what comes after the last batch is asked for, until nothing comes.
//! - *down*: the connection is lost. What the old connection still holds is taken;
//!   holes wait for the next connection, for a bounded time.
//! - *verifying*: live frames are held while the last batch is asked for. The same
//!   content: the replay goes on as in *joining*, with the held frames behind it.
//!   Other content, none, or no answer: reset, and *joining* from the first sequence.
//!   It is entered by a reconnect, and by a live frame that went back behind the
//!   highest live one of this connection and is no repeat of a recent one. Without a
//!   replay endpoint both are a restart at once. At a restart what waits behind a hole
//!   is left out, and counted: the reset makes it void.
//! - *distrust*, beside any of these: the connection may still hold frames of an engine
//!   that is gone, after a restart or where it brought some. So the next live frame to
//!   be delivered waits as in *joining*, until a replay has confirmed it.
//! - *suspicious*, beside any of these, on shared streams alone: frames that went back
//!   are held until the known track goes on (two publishers) or does not (a restart).

use crate::buffer::{Buffer, Recent, Waiting};
use crate::join::Purpose;
use crate::verify::Why;
use crate::{Config, Frame, Input, Micros, Note, Output, ReplayId, Status, Transition};
use penstock_event::{Epoch, GapReason, Mark, Position, ResetReason, Sequence};

/// True in a test that put this fault into this machine.
#[cfg(test)]
macro_rules! mutant {
    ($machine:expr, $name:ident) => {
        $machine.taps.mutant == Some(crate::mutant::Mutant::$name)
    };
}
#[cfg(not(test))]
macro_rules! mutant {
    ($machine:expr, $name:ident) => {
        $crate::machine::never()
    };
}
pub(crate) use mutant;

/// Not a literal, which lints would fold into the conditions around it.
#[cfg(not(test))]
pub(crate) const fn never() -> bool {
    false
}

/// Longest wait for what no replay's own clock bounds: a place in the queue of
/// replays, and the next connection. Nothing waits for ever.
pub(crate) const PATIENCE: Micros = 30_000_000;

/// One source's order. The module of the same name draws its states.
#[derive(Debug)]
pub struct Machine<P: Frame> {
    pub(crate) config: Config,
    pub(crate) state: State,
    /// The connection is up, as far as is known.
    pub(crate) up: bool,
    /// Frames came before word of their connection: that word is still to come.
    pub(crate) implied: bool,
    /// There was word of a connection.
    pub(crate) heard: bool,

    pub(crate) epoch: Epoch,
    /// The sequence to deliver next.
    pub(crate) next: Sequence,
    /// The last batch delivered in this epoch, with its digest.
    pub(crate) last: Option<(Sequence, u64)>,
    /// The highest live sequence of this connection.
    pub(crate) high: Option<Sequence>,
    pub(crate) recent: Recent,
    pub(crate) complete: bool,
    /// What is known is a checkpoint's, and the engine has not confirmed it yet.
    pub(crate) resumed: bool,
    /// Something was delivered that no replay brought, since the engine was last
    /// known by its answer.
    pub(crate) live_seen: bool,
    /// The connection brought frames that are not the engine's: live frames wait
    /// until a replay confirms one.
    pub(crate) distrust: bool,

    /// Live frames behind a hole, rising.
    pub(crate) buffer: Buffer<P>,
    /// Live frames not judged yet, in the order they came.
    pub(crate) held: Buffer<P>,
    /// How many of them came before the last word of a connection.
    pub(crate) earlier: usize,
    /// The connection was lost before its engine was known again.
    pub(crate) doubt: bool,
    /// Held frames about to be looked at again.
    pub(crate) again: Buffer<P>,

    pub(crate) replay: Option<Replay>,
    replays: u64,
    /// Replays of this range that brought nothing, one after the other.
    pub(crate) attempts: u32,
    /// Tail checks that found nothing, one after the other.
    pub(crate) checks: u32,
    /// A hole was counted as open; `Some(true)`: part of it was reported missing.
    pub(crate) hole: Option<bool>,

    /// End of what waits for something other than a replay.
    pub(crate) wait_until: Option<Micros>,
    /// When silence is long enough.
    pub(crate) tail_due: Option<Micros>,
    /// The last sequence of a second track, and how many of its frames came since
    /// the first one's last.
    pub(crate) second: Option<(Sequence, usize)>,

    #[cfg(test)]
    pub(crate) taps: Taps,
}

/// Where the machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    New,
    Live,
    /// A replay runs, to be delivered.
    Fill(Purpose),
    /// A replay runs, to be compared. The batch it is compared with stands first.
    Verify(Why, (Sequence, u64)),
    Down,
}

/// A replay asked for.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) id: ReplayId,
    pub(crate) deadline: Micros,
    /// The last frame that waited when the request was sent: the engine published it
    /// before, so its answer brings it.
    pub(crate) behind: Option<Sequence>,
    /// The last sequence it brought.
    pub(crate) reached: Option<Sequence>,
    /// It brought something that was missing.
    pub(crate) found: bool,
}

/// What tests see of the inside.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Taps {
    pub(crate) mutant: Option<crate::mutant::Mutant>,
    pub(crate) counts: Vec<u32>,
}

// === impl Machine ===

impl<P: Frame> Machine<P> {
    /// A source never heard of: it joins from `config.first`.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            next: config.first,
            config,
            state: State::New,
            up: false,
            implied: false,
            heard: false,
            epoch: Epoch(0),
            last: None,
            high: None,
            recent: Recent::default(),
            complete: true,
            resumed: false,
            live_seen: false,
            distrust: false,
            buffer: Buffer::new(),
            held: Buffer::new(),
            earlier: 0,
            doubt: false,
            again: Buffer::new(),
            replay: None,
            replays: 0,
            attempts: 0,
            checks: 0,
            hole: None,
            wait_until: None,
            tail_due: None,
            second: None,
            #[cfg(test)]
            taps: Taps {
                mutant: None,
                counts: vec![0; Transition::ALL.len()],
            },
        }
    }

    /// A source as a checkpoint left it: the last batch applied, and whether nothing
    /// was known to be missing up to it. Before anything is delivered the engine shows
    /// that it is the same ([`Output::Resumed`]), or the epoch ends.
    #[must_use]
    pub fn resume(config: Config, from: Mark, complete: bool) -> Self {
        let Position { epoch, sequence } = from.position;
        let mut machine = Self::new(config);
        machine.epoch = epoch;
        machine.next = sequence.saturating_add(1);
        machine.last = Some((sequence, from.digest));
        machine.recent.push(sequence, from.digest);
        machine.complete = complete;
        machine.resumed = true;
        machine
    }

    /// Takes one input; what is to be done is added to `out`, in order.
    ///
    /// A sequence of `u64::MAX` is the wire's end marker and no batch: it is ignored.
    pub fn handle(&mut self, now: Micros, input: Input<P>, out: &mut Vec<Output<P>>) {
        match input {
            Input::Live { sequence, frame } => {
                let plain = self.state == State::Live && self.held.is_empty();
                if plain && sequence == self.next && !self.distrust {
                    // The hot path: nothing is missing, nothing in doubt.
                    let digest = frame.digest();
                    self.went_on(now, sequence);
                    self.deliver(sequence, digest, frame, false, out);
                    return;
                }
                let digest = frame.digest();
                let waiting = Waiting {
                    sequence,
                    digest,
                    frame,
                };
                self.arrive(now, waiting, out);
            }
            Input::Replayed {
                replay,
                sequence,
                frame,
            } => self.replayed(now, replay, sequence, frame, out),
            Input::ReplayStarted { replay } => self.replay_started(now, replay),
            Input::ReplayEnd { replay } => self.replay_over(now, replay, true, out),
            Input::ReplayFailed { replay } => self.replay_over(now, replay, false, out),
            Input::Connected => self.connected(now, out),
            Input::Disconnected => self.disconnected(now, out),
            Input::Announced => self.announced(now, out),
            Input::Tick => self.tick(now, out),
        }
        while let Some(waiting) = self.again.pop() {
            self.arrive(now, waiting, out);
        }
    }

    /// When [`Input::Tick`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        if mutant!(self, NoDeadline) {
            return None;
        }
        let replay = self.replay.as_ref().map(|r| r.deadline);
        let tail = self.tail_due.filter(|_| self.state == State::Live);
        [replay, self.wait_until, tail].into_iter().flatten().min()
    }

    /// Where the source stands.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            state: match self.state {
                _ if self.suspicious() => "suspicious",
                State::New => "new",
                State::Live => "live",
                State::Fill(Purpose::Join) => "joining",
                State::Fill(Purpose::Rejoin) => "rejoining",
                State::Fill(Purpose::Gap) => "filling",
                State::Fill(Purpose::Tail) => "tail",
                State::Verify(..) => "verifying",
                State::Down => "down",
            },
            position: self.last.map(|(sequence, _)| Position {
                epoch: self.epoch,
                sequence,
            }),
            complete: self.complete,
            buffered: self.buffer.len() + self.held.len(),
        }
    }

    fn tick(&mut self, now: Micros, out: &mut Vec<Output<P>>) {
        let due = |at: Option<Micros>| at.is_some_and(|at| at <= now);
        if due(self.replay.as_ref().map(|r| r.deadline)) {
            self.took(Transition::Timeout);
            self.replay_silent(now, out);
        }
        if due(self.wait_until) {
            self.wait_until = None;
            if self.suspicious() {
                self.took(Transition::SuspectsExpired);
                self.believe_suspects(now, out);
            } else {
                self.down_expired(now, out);
            }
        }
        if self.state == State::Live && due(self.tail_due) {
            self.check_tail(now, out);
        }
    }

    /// Notes a live frame that goes on.
    pub(crate) fn went_on(&mut self, now: Micros, sequence: Sequence) {
        self.high = Some(sequence);
        if let Some((_, run)) = &mut self.second {
            *run = 0;
        }
        self.checks = 0;
        self.arm_tail(now);
    }

    /// Hands over the next frame.
    pub(crate) fn deliver(
        &mut self,
        sequence: Sequence,
        digest: u64,
        frame: P,
        replayed: bool,
        out: &mut Vec<Output<P>>,
    ) {
        self.last = Some((sequence, digest));
        self.recent.push(sequence, digest);
        self.next = sequence.saturating_add(1);
        self.live_seen |= !replayed;
        out.push(Output::Deliver {
            epoch: self.epoch,
            sequence,
            frame,
            digest,
            replayed,
        });
    }

    /// Reports everything before `to` as missing.
    pub(crate) fn lose(&mut self, to: Sequence, reason: GapReason, out: &mut Vec<Output<P>>) {
        let first = self.next;
        if first >= to {
            return;
        }
        self.open_hole(out);
        self.hole = Some(true);
        if !mutant!(self, StaysComplete) {
            self.complete = false;
        }
        let short = u64::from(mutant!(self, GapOffByOne) && first + 1 < to);
        out.push(Output::Gap {
            epoch: self.epoch,
            first,
            last: to - 1 - short,
            reason,
        });
        self.next = to;
    }

    /// Counts a hole, once.
    pub(crate) fn open_hole(&mut self, out: &mut Vec<Output<P>>) {
        if self.hole.is_none() {
            self.hole = Some(false);
            out.push(Output::Note(Note::GapOpened));
        }
    }

    /// Nothing is missing any more before what comes next.
    pub(crate) fn close_hole(&mut self, out: &mut Vec<Output<P>>) {
        if self.hole.take() == Some(false) {
            out.push(Output::Note(Note::GapFilled));
        }
    }

    /// Asks for everything from `from` on, in place of what was asked for before.
    pub(crate) fn ask(&mut self, now: Micros, from: Sequence, out: &mut Vec<Output<P>>) {
        self.stop(out);
        self.replays += 1;
        let id = ReplayId(self.replays);
        self.replay = Some(Replay {
            id,
            deadline: now.saturating_add(PATIENCE),
            behind: None,
            reached: None,
            found: false,
        });
        out.push(Output::StartReplay { replay: id, from });
    }

    /// Closes the replay, if one runs.
    pub(crate) fn stop(&mut self, out: &mut Vec<Output<P>>) {
        if let Some(replay) = self.replay.take() {
            out.push(Output::StopReplay { replay: replay.id });
        }
    }

    /// Another engine, or what must be taken for one: a new epoch. Held frames after
    /// the last turn are looked at again; those before it are of engines that are
    /// gone, as are all that may be older than an engine that has `answered`.
    pub(crate) fn restart(
        &mut self,
        now: Micros,
        reason: ResetReason,
        answered: bool,
        out: &mut Vec<Output<P>>,
    ) {
        self.stop(out);
        if std::mem::take(&mut self.resumed) {
            self.took(Transition::ResumeRefused);
            if mutant!(self, ResumesUnproven) {
                out.push(Output::Resumed);
                self.state = State::Live;
                self.judge_held();
                self.arm_tail(now);
                return;
            }
        }
        // What waits behind a hole: the reset makes it void in any case.
        self.leave_buffer(out);
        let repeats = self
            .held
            .last_where(|w| self.recent.find(w.sequence) == Some(w.digest));
        let mut gone = self.held.last_turn().max(self.earlier).max(repeats);
        let back = self.held.front().is_some_and(|w| w.sequence < self.next);
        if !self.up || gone == 0 && answered && !back {
            // Of a connection that is gone, or going on where the old engine stopped:
            // probably its last. Should they be the new one's, its replay brings them.
            gone = self.held.len();
        }
        for _ in 0..gone {
            self.held.pop();
            self.left_out(out);
        }
        if !mutant!(self, SameEpoch) {
            self.epoch = self.epoch.next();
        }
        out.push(Output::Reset {
            epoch: self.epoch,
            reason,
        });
        self.next = self.config.first;
        self.last = None;
        self.high = None;
        self.recent.clear();
        self.complete = true;
        self.live_seen = false;
        // The connection may still hold frames of the engine that is gone.
        self.distrust = self.config.replay && !self.config.shared;
        self.hole = None;
        self.wait_until = None;
        self.tail_due = None;
        self.second = None;
        self.checks = 0;
        self.judge_held();
        let begins = self.again.front().map(|w| w.sequence);
        if self.up {
            self.join(now, begins, out);
        } else {
            self.state = State::New;
        }
    }

    /// Has held frames looked at again, before any that are being looked at.
    pub(crate) fn judge_held(&mut self) {
        self.earlier = 0;
        self.held.append(&mut self.again);
        std::mem::swap(&mut self.held, &mut self.again);
    }

    /// Leaves out what waits: it is of an engine that is gone, or the replay under
    /// way was asked for after it came and brings it again.
    pub(crate) fn leave_buffer(&mut self, out: &mut Vec<Output<P>>) {
        while self.buffer.pop().is_some() {
            self.left_out(out);
        }
    }

    /// Counts a frame of an engine that is gone.
    pub(crate) fn left_out(&mut self, out: &mut Vec<Output<P>>) {
        self.took(Transition::Stale);
        Self::note(Note::Stale, out);
    }

    /// Digest of the frame of this number that was delivered lately, or waits.
    pub(crate) fn known(&self, sequence: Sequence) -> Option<u64> {
        let waits = || self.buffer.find(sequence);
        self.recent.find(sequence).or_else(waits)
    }

    pub(crate) fn suspicious(&self) -> bool {
        !self.held.is_empty() && !matches!(self.state, State::Verify(..) | State::Down)
    }

    pub(crate) fn note(note: Note, out: &mut Vec<Output<P>>) {
        out.push(Output::Note(note));
    }

    /// Counts a transition, in tests.
    #[inline]
    #[cfg_attr(
        not(test),
        allow(clippy::unused_self, clippy::needless_pass_by_ref_mut)
    )]
    pub(crate) fn took(&mut self, transition: Transition) {
        #[cfg(test)]
        {
            self.taps.counts[transition as usize] += 1;
        }
        #[cfg(not(test))]
        let _ = transition;
    }
}
