//! A simulated engine, its connection and its replays, and what can go wrong with
//! each. A [`World`] is driven action by action, chosen by a seed.

use super::checker::{Checker, Terms, Verdict, demand};
use super::{Batch, In, SECOND};
use crate::mutant::Mutant;
use crate::{Config, Input, Machine, Output, ReplayId};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;

pub(super) struct World {
    pub(super) rng: SmallRng,
    pub(super) machine: Machine<Batch>,
    pub(super) check: Checker,
    config: Config,
    terms: Terms,
    now: u64,
    pub(super) engine: Engine,
    connected: bool,
    /// Live frames under way.
    pipe: VecDeque<Batch>,
    /// Live frames that came, of this life.
    came: Vec<Batch>,
    replay: Option<Replay>,
    /// Replays that were closed and still send.
    old: Vec<Replay>,
    /// Frames of a dead engine are not read from its connection any more.
    leftovers_lost: bool,
    pub(super) trace: Vec<String>,
    pub(super) keep_trace: bool,
}

pub(super) struct Engine {
    pub(super) life: u32,
    pub(super) track: u32,
    pub(super) next: u64,
    buffer: VecDeque<Batch>,
    keep: usize,
}

#[derive(Clone, Debug)]
struct Replay {
    id: ReplayId,
    from: u64,
    /// What it will send, once it has begun.
    frames: Option<VecDeque<Batch>>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Good,
    /// Never answers; or stops after a while, the end marker lost.
    Silent,
    Fails,
    /// Loses some frames, as a full queue does, but not its end marker.
    Loses,
    /// Sends each frame twice.
    Repeats,
}

impl Engine {
    pub(super) fn new(first: u64, keep: usize, track: u32) -> Self {
        Self {
            life: 0,
            track,
            next: first,
            buffer: VecDeque::new(),
            keep,
        }
    }

    pub(super) fn publish(&mut self) -> Batch {
        let batch = Batch {
            life: self.life,
            track: self.track,
            sequence: self.next,
        };
        self.next += 1;
        self.buffer.push_back(batch);
        if self.buffer.len() > self.keep {
            self.buffer.pop_front();
        }
        batch
    }

    pub(super) fn restart(&mut self, first: u64) {
        self.life += 1;
        self.next = first;
        self.buffer.clear();
    }
}

impl World {
    pub(super) fn new(
        seed: u64,
        config: Config,
        terms: Terms,
        keep: usize,
        mutant: Option<Mutant>,
    ) -> Self {
        let has_replay = config.replay;
        let mut machine = Machine::new(config.clone());
        machine.taps.mutant = mutant;
        Self {
            rng: SmallRng::seed_from_u64(seed),
            machine,
            check: Checker::new(terms, &config),
            engine: Engine::new(config.first, keep, 0),
            config,
            terms,
            now: SECOND,
            connected: false,
            pipe: VecDeque::new(),
            came: Vec::new(),
            replay: None,
            old: Vec::new(),
            leftovers_lost: !(has_replay && terms.reliable),
            trace: Vec::new(),
            keep_trace: false,
        }
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }

    pub(super) fn feed(&mut self, input: In) -> Verdict {
        if self.keep_trace {
            self.trace.push(format!("{:>4} {input:?}", self.now / 1000));
        }
        self.check.input(&input);
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        for output in out {
            if self.keep_trace {
                self.trace.push(format!("         -> {output:?}"));
            }
            self.check.output(&output, self.engine.life)?;
            match output {
                Output::StartReplay { replay, from } => {
                    let down = !self.connected && !self.config.shared;
                    demand!(!down || self.machine.up, "a replay is asked for while down");
                    let fate = self.fate();
                    let frames = None;
                    self.replay = Some(Replay {
                        id: replay,
                        from,
                        frames,
                        fate,
                    });
                }
                Output::StopReplay { .. } => self.old.extend(self.replay.take()),
                _ => {}
            }
        }
        let status = self.machine.status();
        if self.keep_trace {
            let deadline = self.machine.deadline().map(|d| d / 1000);
            let buffered = status.buffered;
            let line = format!("         {} {buffered} {deadline:?}", status.state);
            self.trace.push(line);
        }
        self.check
            .after(status, self.machine.deadline(), &self.config)
    }

    fn fate(&mut self) -> Fate {
        if self.terms.reliable {
            return if self.one_in(8) {
                Fate::Repeats
            } else {
                Fate::Good
            };
        }
        match self.rng.random_range(0..10) {
            0 | 1 => Fate::Silent,
            2 => Fate::Fails,
            3 => Fate::Loses,
            4 => Fate::Repeats,
            _ => Fate::Good,
        }
    }

    /// Publishes, and sends what the high-water mark lets through.
    pub(super) fn publish(&mut self, n: u64) {
        let lost_from = if self.one_in(4) {
            self.rng.random_range(0..=n)
        } else {
            n
        };
        let hole = if n > 0 && self.one_in(4) {
            self.rng.random_range(0..n)
        } else {
            n
        };
        for i in 0..n {
            let batch = self.engine.publish();
            let there = self.connected || self.config.shared;
            // A full pipe has frames that will come; an empty one takes the next.
            let room = self.pipe.is_empty();
            if there && (room || i < lost_from && i != hole) {
                self.pipe.push_back(batch);
            }
        }
    }

    /// Hands over live frames that arrived.
    pub(super) fn arrive(&mut self, n: usize) -> Verdict {
        for _ in 0..n {
            let Some(batch) = self.pipe.pop_front() else {
                return Ok(());
            };
            self.live(batch)?;
        }
        Ok(())
    }

    pub(super) fn live(&mut self, batch: Batch) -> Verdict {
        if batch.life == self.engine.life {
            self.came.push(batch);
        }
        self.feed(Input::Live {
            sequence: batch.sequence,
            frame: batch,
        })
    }

    /// The same frame again, by another way.
    pub(super) fn duplicate(&mut self) -> Verdict {
        let reach = if self.config.replay { 500 } else { 100 };
        let oldest = self.came.len().saturating_sub(reach);
        if !self.connected || self.came.is_empty() {
            return Ok(());
        }
        let batch = self.came[self.rng.random_range(oldest..self.came.len())];
        self.feed(Input::Live {
            sequence: batch.sequence,
            frame: batch,
        })
    }

    /// Sends up to `n` things of the replay.
    pub(super) fn serve(&mut self, n: usize) -> Verdict {
        for _ in 0..n {
            let Some(mut replay) = self.replay.take() else {
                return Ok(());
            };
            let input = self.step(&mut replay);
            if matches!(
                input,
                Some(Input::ReplayEnd { .. } | Input::ReplayFailed { .. })
            ) {
                self.check.over(replay.id);
            } else {
                self.replay = Some(replay);
            }
            match input {
                Some(input) => self.feed(input)?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// The next thing of a replay.
    fn step(&mut self, r: &mut Replay) -> Option<In> {
        let replay = r.id;
        let Some(frames) = &mut r.frames else {
            let all = self.engine.buffer.iter().filter(|b| b.sequence >= r.from);
            let mut frames: VecDeque<Batch> = all.copied().collect();
            if r.fate == Fate::Loses && frames.len() > 1 {
                // Not the first one: a queue is full behind others only.
                let from = self.rng.random_range(1..frames.len());
                let to = self.rng.random_range(from..frames.len());
                frames.drain(from..=to);
            }
            if r.fate == Fate::Repeats {
                frames = frames.into_iter().flat_map(|b| [b, b]).collect();
            }
            if matches!(r.fate, Fate::Silent | Fate::Fails) {
                frames.truncate(self.rng.random_range(0..=frames.len()));
            }
            r.frames = Some(frames);
            return Some(Input::ReplayStarted { replay });
        };
        match (frames.pop_front(), r.fate) {
            (Some(frame), _) => Some(Input::Replayed {
                replay,
                sequence: frame.sequence,
                frame,
            }),
            (None, Fate::Silent) => None,
            (None, Fate::Fails) => Some(Input::ReplayFailed { replay }),
            (None, _) => Some(Input::ReplayEnd { replay }),
        }
    }

    /// A closed replay's last words.
    pub(super) fn stale(&mut self) -> Verdict {
        let Some(mut replay) = self.old.pop() else {
            return Ok(());
        };
        for _ in 0..self.rng.random_range(1..4) {
            match self.step(&mut replay) {
                Some(input) => self.feed(input)?,
                None => break,
            }
        }
        self.old.truncate(3);
        Ok(())
    }

    pub(super) fn pass(&mut self, micros: u64) -> Verdict {
        self.in_time(self.now + micros)?;
        self.now += micros;
        self.feed(Input::Tick)
    }

    /// A reliable engine lets no deadline pass.
    fn in_time(&mut self, until: u64) -> Verdict {
        let due = self.machine.deadline().is_some_and(|at| at <= until);
        if self.terms.reliable && due && self.machine.status().state != "live" {
            if !self.connected && !self.config.shared {
                self.connect()?;
            }
            self.serve(usize::MAX)?;
        }
        Ok(())
    }

    /// Time passes until the machine wants something.
    pub(super) fn pass_to_deadline(&mut self) -> Verdict {
        if let Some(at) = self.machine.deadline() {
            self.in_time(at)?;
        }
        if let Some(at) = self.machine.deadline() {
            self.now = self.now.max(at);
        }
        self.feed(Input::Tick)
    }

    pub(super) fn disconnect(&mut self) -> Verdict {
        if !self.connected {
            return Ok(());
        }
        self.connected = false;
        self.check.unproven |= !self.config.replay;
        self.feed(Input::Disconnected)?;
        match self.rng.random_range(0..3) {
            // What the connection still held is read,
            0 => self.arrive(usize::MAX)?,
            // is lost,
            1 => self.pipe.clear(),
            // or is read together with the next connection.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn connect(&mut self) -> Verdict {
        self.connected = true;
        if self.leftovers_lost && self.pipe.iter().any(|b| b.life < self.engine.life) {
            // Nothing could tell them from the new engine's.
            self.pipe.clear();
        }
        self.feed(Input::Connected)
    }

    /// Again connected, and nobody heard of the loss.
    pub(super) fn reconnect_unheard(&mut self) -> Verdict {
        if !self.connected {
            return Ok(());
        }
        self.check.unproven |= !self.config.replay;
        self.feed(Input::Connected)
    }

    /// The process dies, and another takes its place.
    pub(super) fn restart(&mut self) -> Verdict {
        self.disconnect()?;
        self.engine.restart(self.config.first);
        self.came.clear();
        if self.one_in(4) {
            self.pipe.clear();
            self.feed(Input::Announced)?;
        }
        Ok(())
    }

    /// It dies with much unread, and its successor has a lot to tell when the rest of
    /// the old connection is read.
    pub(super) fn restart_behind_backlog(&mut self) -> Verdict {
        self.connect_if_down()?;
        for _ in 0..self.rng.random_range(1..40) {
            let batch = self.engine.publish();
            self.pipe.push_back(batch);
        }
        self.connected = false;
        self.check.unproven |= !self.config.replay;
        self.feed(Input::Disconnected)?;
        self.engine.restart(self.config.first);
        self.came.clear();
        let n = self.rng.random_range(0..60);
        self.publish(n);
        self.connect()?;
        let n = self.rng.random_range(0..4);
        self.serve(n)?;
        let n = self.rng.random_range(0..60);
        self.arrive(n)
    }

    /// The same behind a proxy: the connection stays.
    pub(super) fn restart_unseen(&mut self) -> Verdict {
        if !self.connected && !self.config.shared {
            return Ok(());
        }
        self.arrive(usize::MAX)?;
        let high = self.came.iter().map(|b| b.sequence).max();
        self.engine.restart(self.config.first);
        self.came.clear();
        if let Some(replay) = self.replay.as_mut().filter(|r| r.frames.is_some()) {
            replay.fate = Fate::Silent;
            replay.frames = Some(VecDeque::new());
        }
        // While a replay that joins or verifies is under way it is one restart in
        // another, with nothing heard of the engine between.
        let known = matches!(self.machine.status().state, "live" | "filling" | "tail");
        if known && self.one_in(2) {
            // Its first batches are lost, before the proxy is back. Not so many that its
            // sequences go on where the old ones stopped: nothing would show it then.
            let high = high.map_or(0, |high| high.min(self.check.next()));
            let known = high.saturating_sub(self.config.first);
            let lost = self.rng.random_range(0..known.clamp(1, 20));
            for _ in 0..lost {
                self.engine.publish();
            }
            self.serve(usize::MAX)?;
        }
        let batch = self.engine.publish();
        self.live(batch)
    }

    /// The daemon is killed and comes back with what it wrote down some time before.
    /// The engine knows nothing of it and goes on, or restarts meanwhile.
    pub(super) fn kill_and_resume(&mut self) -> Verdict {
        let many = self.check.saved.len();
        if many == 0 {
            return Ok(());
        }
        // Mostly the newest one.
        let back = if self.one_in(2) {
            self.rng.random_range(1..=many)
        } else {
            1
        };
        let saved = self.check.saved[many - back];
        self.check.saved.truncate(many - back + 1);
        let mut machine = Machine::resume(self.config.clone(), saved.mark(), saved.complete);
        std::mem::swap(&mut machine.taps, &mut self.machine.taps);
        self.machine = machine;
        self.check.resume(saved, self.config.replay);
        if self.keep_trace {
            self.trace.push(format!("     killed, resumes {saved:?}"));
        }
        self.connected = false;
        self.pipe.clear();
        self.replay = None;
        self.old.clear();
        match self.rng.random_range(0..6) {
            0 => {
                self.engine.restart(self.config.first);
                self.came.clear();
            }
            1 => {
                self.engine.restart(self.config.first);
                self.came.clear();
                // It is past the saved batch when it is asked.
                let n = saved.mark().position.sequence + self.rng.random_range(0..5);
                self.publish(n);
            }
            _ => {
                let n = self.rng.random_range(0..6);
                self.publish(n);
            }
        }
        match self.rng.random_range(0..4) {
            // Frames before word of their connection,
            0 => {
                self.connected = true;
                let n = self.rng.random_range(1..4);
                self.publish(n);
                self.arrive(2)?;
                self.feed(Input::Connected)
            }
            // or after word that it was lost.
            1 => {
                self.feed(Input::Disconnected)?;
                self.connected = true;
                let n = self.rng.random_range(1..4);
                self.publish(n);
                self.connected = false;
                self.arrive(usize::MAX)
            }
            2 => Ok(()),
            _ => self.connect(),
        }
    }

    /// All is well again and time passes, until nothing is left to do.
    pub(super) fn quiesce(&mut self) -> Verdict {
        self.terms.reliable = true;
        if !self.connected && !self.config.shared {
            self.connect()?;
        }
        for _ in 0..10_000 {
            self.arrive(usize::MAX)?;
            self.serve(usize::MAX)?;
            if self.replay.is_none() && self.idle() {
                return Ok(());
            }
            self.pass_to_deadline()?;
        }
        Err(format!("no end: {:?}", self.machine.status()))
    }
}

impl World {
    /// Nothing is to be done but to look once in a while, for ever.
    fn idle(&self) -> bool {
        let rarely = self.now + 64 * self.config.tail_after;
        let live = self.machine.status().state == "live";
        self.machine
            .deadline()
            .is_none_or(|at| live && at >= rarely)
    }

    pub(super) fn connect_if_down(&mut self) -> Verdict {
        if self.connected {
            return Ok(());
        }
        self.connect()
    }
}
