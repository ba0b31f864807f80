//! One ingest thread. It owns sockets and waits for all of them at once.
//!
//! ```text
//! rest, wait (epoll) -> commands -> one turn for each socket that is ready -> timers -> wait
//!                                 |  not drained: to the end of the list
//!                                 +-> settle: replays asked for, deadlines, topics learnt
//! ```
//!
//! A socket is never left unread, whatever happens behind it: [`Outlet::deliver`]
//! does not block, and a source that waits for a replay buffers within its bounds.
//! With nothing to do the thread sleeps until the next deadline of any source.
//!
//! [`Outlet::deliver`]: penstock_event::Outlet::deliver

use crate::batch::BatchMaker;
use crate::line::Line;
use crate::poll::{Events, Poller, Token, Waker};
use crate::replays::Replay;
use crate::shared::{Command, NewLine, Shared};
use crate::slab::{Key, Slab};
use crate::source::{Ask, Work};
use crate::timers::Timers;
use penstock_event::{SourceId, Wakeups};
use penstock_order::{Input, Micros};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

pub(crate) struct Thread {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) poller: Poller,
    pub(crate) lines: Slab<Line>,
    pub(crate) replays: Slab<Replay>,
    pub(crate) timers: Timers<Due>,
    pub(crate) work: Work,
    pub(crate) rng: SmallRng,
    commands: Receiver<Command>,
    waker: Arc<Waker>,
    ready: VecDeque<Ready>,
    /// Where each source is; a bound socket has a line and no source.
    places: HashMap<SourceId, (Key, Option<Key>)>,
}

/// What has a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Line(Key),
    Source(Key, Key),
    Replay(Key),
}

/// A socket to visit.
#[derive(Clone, Copy)]
enum Ready {
    Line(Key),
    Replay(Key),
}

// === impl Thread ===

impl Thread {
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared>,
        poller: Poller,
        commands: Receiver<Command>,
        waker: Arc<Waker>,
    ) -> Self {
        let maker = BatchMaker::new(shared.config.limits, shared.pool.clone());
        let seed = shared.config.seed.wrapping_add(index as u64);
        Self {
            index,
            poller,
            lines: Slab::default(),
            replays: Slab::default(),
            timers: Timers::default(),
            work: Work::new(shared.outlet.clone(), maker, shared.config.clone()),
            rng: SmallRng::seed_from_u64(seed),
            commands,
            waker,
            ready: VecDeque::new(),
            places: HashMap::new(),
            shared,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::new();
        let mut tokens = Vec::new();
        let mut wakeups = Wakeups::new(Instant::now());
        loop {
            if self.ready.is_empty() {
                let taken = std::mem::take(&mut self.work.taken);
                if let Some(rest) = wakeups.rest(Instant::now(), taken) {
                    std::thread::sleep(rest);
                }
            }
            self.poller.wait(self.timeout(), &mut events, &mut tokens);
            let mut woken = false;
            for token in tokens.drain(..) {
                match token {
                    Token::Wake => woken = true,
                    Token::Line(key) => self.visit_line(key),
                    Token::Replay(key) => self.visit_replay(key),
                }
            }
            if woken {
                self.waker.clear();
                while let Ok(command) = self.commands.try_recv() {
                    if matches!(command, Command::Stop) {
                        return;
                    }
                    self.command(command);
                }
            }
            for _ in 0..self.ready.len() {
                if self.shared.stopping.load(Relaxed) {
                    return;
                }
                match self.ready.pop_front() {
                    Some(Ready::Line(key)) => self.turn(key),
                    Some(Ready::Replay(key)) => self.replay_turn(key),
                    None => break,
                }
            }
            // What comes due from here on waits for the next round.
            let now = self.shared.now();
            while let Some((at, due)) = self.timers.due(now) {
                self.due(at, due, now);
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let at = self.timers.next()?;
        Some(Duration::from_micros(at.saturating_sub(self.shared.now())))
    }

    fn visit_line(&mut self, key: Key) {
        if let Some(line) = self.lines.get_mut(key)
            && !std::mem::replace(&mut line.queued, true)
        {
            self.ready.push_back(Ready::Line(key));
        }
    }

    pub(crate) fn visit_replay(&mut self, key: Key) {
        if let Some(replay) = self.replays.get_mut(key)
            && !std::mem::replace(&mut replay.queued, true)
        {
            self.ready.push_back(Ready::Replay(key));
        }
    }

    fn turn(&mut self, key: Key) {
        let now = self.shared.now();
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        line.queued = false;
        let more = line.turn(&mut self.work, &self.shared.sources, now);
        self.settle(key);
        if more {
            self.visit_line(key);
        }
    }

    fn due(&mut self, at: Micros, due: Due, now: Micros) {
        match due {
            Due::Line(key) => {
                let Some(line) = self.lines.get_mut(key) else {
                    return;
                };
                if !line.armed.spend(at) {
                    return;
                }
                line.tick(&self.work, now);
                // Connecting again may have taken a wake-up away.
                self.visit_line(key);
            }
            Due::Source(key, source_key) => {
                let Some(line) = self.lines.get_mut(key) else {
                    return;
                };
                let Some(source) = line.sources.get_mut(source_key) else {
                    return;
                };
                if !source.armed.spend(at) {
                    return;
                }
                let left = source.tick(&mut self.work, now);
                self.settle(key);
                if left {
                    self.unlearn(key, source_key);
                }
            }
            Due::Replay(key) => self.replay_due(key, at, now),
        }
    }

    /// Does what the line's sources asked for during a turn, and sets the timers.
    pub(crate) fn settle(&mut self, key: Key) {
        let mut asks = std::mem::take(&mut self.work.asks);
        for (source, ask) in asks.drain(..) {
            match ask {
                Ask::Start { id, from } => self.start_replay(key, source, id, from),
                Ask::Stop { id } => self.stop_replay(key, source, Some(id)),
                Ask::StopAny => self.stop_replay(key, source, None),
            }
        }
        self.work.asks = asks;
        // A deadline in the past comes up in the next round, not in this one: sockets
        // have their turn in between, whatever a machine asks for.
        let soon = self.shared.now() + 1;
        let Some(line) = self.lines.get_mut(key) else {
            self.work.touched.clear();
            return;
        };
        for (id, source) in line.learnt.drain(..) {
            self.places.insert(id, (key, Some(source)));
            self.shared.own(id, self.index);
        }
        for source_key in self.work.touched.drain(..) {
            if let Some(source) = line.sources.get_mut(source_key) {
                source.settled();
                let at = source.deadline(&self.work.config).map(|at| at.max(soon));
                let due = Due::Source(key, source_key);
                self.timers.arm(&mut source.armed, at, due);
            }
        }
        let at = line.deadline(&self.work).map(|at| at.max(soon));
        self.timers.arm(&mut line.armed, at, Due::Line(key));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Add(new) => self.add(*new),
            Command::Remove(id) => self.remove(id),
            Command::Announced(id) => {
                let now = self.shared.now();
                if let Some((key, Some(source_key))) = self.place(id)
                    && let Some(line) = self.lines.get_mut(key)
                    && let Some(source) = line.sources.get_mut(source_key)
                {
                    source.feed(&mut self.work, now, Input::Announced);
                    self.settle(key);
                }
            }
            Command::Fetch(request) => self.start_fetch(*request),
            Command::Granted(ticket) => self.granted(Key::unpack(ticket)),
            Command::Ping(n) => self.shared.pong(self.index, n),
            Command::Stop => {}
        }
    }

    pub(crate) fn place(&self, id: SourceId) -> Option<(Key, Option<Key>)> {
        self.places.get(&id).copied()
    }

    fn add(&mut self, new: NewLine) {
        let id = new.state.info.id;
        let now = self.shared.now();
        let line = Line::new(new.state, new.subscriber, new.resume, &mut self.work, now);
        let only = line.only();
        let key = self.lines.insert(line);
        if let Some(line) = self.lines.get(key) {
            let sockets = [
                Some(&line.subscriber.socket),
                line.subscriber.monitor.as_ref(),
            ];
            for socket in sockets.into_iter().flatten() {
                if let Err(error) = self.poller.watch(socket, Token::Line(key)) {
                    let source = &*line.state.info.name;
                    tracing::error!(source, %error, "a socket cannot be watched; nothing is read");
                }
            }
        }
        self.places.insert(id, (key, only));
        self.settle(key);
        self.visit_line(key);
    }

    fn remove(&mut self, id: SourceId) {
        let Some((key, source_key)) = self.places.remove(&id) else {
            return;
        };
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        if let Some(source_key) = source_key
            && line.only().is_none()
        {
            // One topic of a bound socket: its next message makes it a new source.
            if let Some(source) = line.sources.get_mut(source_key) {
                source.leave(&mut self.work);
            }
            self.settle(key);
            self.unlearn(key, source_key);
            return;
        }
        for source in line.sources.iter_mut() {
            source.leave(&mut self.work);
        }
        self.settle(key);
        self.stop_fetches(key);
        let Some(mut line) = self.lines.remove(key) else {
            return;
        };
        self.poller.forget(&line.subscriber.socket);
        if let Some(monitor) = &line.subscriber.monitor {
            self.poller.forget(monitor);
        }
        for source in line.sources.iter_mut() {
            let id = source.state.info.id;
            self.places.remove(&id);
            self.gone(id);
        }
        self.gone(id);
        self.shared.count_line(self.index, false);
    }

    /// A learnt source that has left is taken out of its line; another one stays,
    /// since its socket goes on trying.
    fn unlearn(&mut self, key: Key, source_key: Key) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        if let Some(source) = line.unlearn(source_key) {
            self.places.remove(&source.state.info.id);
            self.gone(source.state.info.id);
        }
    }

    fn gone(&self, id: SourceId) {
        self.shared.disown(id);
        self.shared.sources.forget(id);
    }
}
