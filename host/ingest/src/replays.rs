//! What a thread does about replays: those that its order machines ask for, and
//! fetches for single plugins.
//!
//! ```text
//! waiting (for one of the few places) -> jitter -> open -> closed
//! ```
//! A replay can be stopped in every state. Order machines watch their own
//! deadlines; a fetch ends after a silence, or when its time is over.

use crate::config::micros;
use crate::fetch::{Fetch, FetchItem, FetchRequest, Place};
use crate::frame::{Next, Received};
use crate::line::unix_micros;
use crate::meters::Total;
use crate::poll::Token;
use crate::replay::Dealer;
use crate::shared::Command;
use crate::slab::Key;
use crate::source::Source;
use crate::thread::{Due, Thread};
use crate::timers::Armed;
use penstock_event::{Mode, Payload, Sequence};
use penstock_order::{Input, Micros, ReplayId};
use rand::RngExt;

/// A replay of this thread.
pub(crate) struct Replay {
    /// It is in the list of sockets to visit.
    pub(crate) queued: bool,
    place: Place,
    purpose: Purpose,
    from: Sequence,
    phase: Phase,
    /// When its request was sent.
    asked_at: Micros,
    /// Something came back.
    answered: bool,
    armed: Armed,
}

enum Purpose {
    Order(ReplayId),
    Fetch(Box<Fetch>),
}

enum Phase {
    /// In line for a place.
    Waiting,
    /// Has a place and begins then.
    Jitter(Micros),
    /// The request is under way.
    Open(Box<Dealer>),
}

/// What a replay's socket brought.
enum Came {
    Batch(Sequence, Payload),
    End,
}

// === impl Replay ===

impl Replay {
    fn new(place: Place, from: Sequence, purpose: Purpose) -> Self {
        Self {
            queued: false,
            place,
            purpose,
            from,
            phase: Phase::Waiting,
            asked_at: 0,
            answered: false,
            armed: Armed::default(),
        }
    }

    fn deadline(&self) -> Option<Micros> {
        let begin = match self.phase {
            Phase::Jitter(at) => Some(at),
            _ => None,
        };
        let end = match &self.purpose {
            Purpose::Fetch(fetch) => Some(fetch.until.min(fetch.idle)),
            Purpose::Order(_) => None,
        };
        begin.into_iter().chain(end).min()
    }
}

// === impl Thread ===

impl Thread {
    /// A machine asks for everything from `from` on; its replay before, if any, is over.
    pub(crate) fn start_replay(&mut self, line: Key, source: Key, id: ReplayId, from: Sequence) {
        self.stop_replay(line, source, None);
        let place = Place { line, source };
        let key = self.enter(Replay::new(place, from, Purpose::Order(id)));
        if let Some(source) = self.source(place) {
            source.replay = Some(key);
        }
    }

    /// A machine does not want its replay any more.
    pub(crate) fn stop_replay(&mut self, line: Key, source: Key, id: Option<ReplayId>) {
        let place = Place { line, source };
        let Some(key) = self.source(place).and_then(|source| source.replay) else {
            return;
        };
        let same = match self.replays.get(key).map(|replay| &replay.purpose) {
            Some(Purpose::Order(running)) => id.is_none_or(|id| id == *running),
            _ => false,
        };
        if same {
            self.close(key);
        }
    }

    pub(crate) fn start_fetch(&mut self, request: FetchRequest) {
        // Dropped requests end their taker.
        let Some((line, Some(source))) = self.place(request.source) else {
            return;
        };
        let place = Place { line, source };
        let until = self.shared.now() + micros(self.shared.config.fetch_wait);
        let Some(source) = self.source(place) else {
            return;
        };
        if source.state.info.spec.replay.is_none() {
            return;
        }
        let (from, fetch) = Fetch::new(request, source.epoch(), source.losses, until);
        self.enter(Replay::new(place, from, Purpose::Fetch(Box::new(fetch))));
    }

    /// Ends the fetches of a line.
    pub(crate) fn stop_fetches(&mut self, line: Key) {
        for key in self.replays.keys() {
            if self.replays.get(key).is_some_and(|r| r.place.line == line) {
                self.close(key);
            }
        }
    }

    /// A place is free for the replay that waited for it.
    pub(crate) fn granted(&mut self, key: Key) {
        let jitter = micros(self.shared.config.replay_jitter);
        let begin = self.shared.now() + self.rng.random_range(0..=jitter);
        match self.replays.get_mut(key) {
            Some(replay) => replay.phase = Phase::Jitter(begin),
            // It was stopped while the place was on its way.
            None => self.pass_on(),
        }
        self.arm(key);
    }

    pub(crate) fn replay_due(&mut self, key: Key, at: Micros, now: Micros) {
        let Some(replay) = self.replays.get_mut(key) else {
            return;
        };
        if !replay.armed.spend(at) {
            return;
        }
        let over = match &replay.purpose {
            Purpose::Fetch(fetch) => fetch.until.min(fetch.idle) <= now,
            Purpose::Order(_) => false,
        };
        if over {
            self.close(key);
            return;
        }
        if matches!(replay.phase, Phase::Jitter(begin) if begin <= now) {
            self.open(key, now);
        }
        self.arm(key);
    }

    /// Reads a replay's socket.
    pub(crate) fn replay_turn(&mut self, key: Key) {
        let Some(replay) = self.replays.get_mut(key) else {
            return;
        };
        replay.queued = false;
        let place = replay.place;
        // A lost connection is to be known before an answer is believed: the answer
        // may be that of the engine's successor.
        let now = self.shared.now();
        if let Some(line) = self.lines.get_mut(place.line) {
            line.news(&mut self.work, now);
        }
        self.settle(place.line);
        let (came, more) = self.read(key, now);
        for came in came {
            if !self.hand_on(key, now, came) {
                break;
            }
        }
        self.settle(place.line);
        self.arm(key);
        if more {
            self.visit_replay(key);
        }
    }

    fn source(&mut self, place: Place) -> Option<&mut Source> {
        self.lines
            .get_mut(place.line)?
            .sources
            .get_mut(place.source)
    }

    fn enter(&mut self, replay: Replay) -> Key {
        let key = self.replays.insert(replay);
        if self.shared.gate.enter((self.index, key.pack())) {
            self.granted(key);
        } else {
            self.arm(key);
        }
        key
    }

    fn arm(&mut self, key: Key) {
        if let Some(replay) = self.replays.get_mut(key) {
            let at = replay.deadline();
            self.timers.arm(&mut replay.armed, at, Due::Replay(key));
        }
    }

    /// Gives a place to whoever is next.
    fn pass_on(&self) {
        if let Some((thread, ticket)) = self.shared.gate.leave()
            && !self.shared.tell(thread, Command::Granted(ticket))
        {
            tracing::debug!("the thread of a waiting replay has ended");
        }
    }

    fn open(&mut self, key: Key, now: Micros) {
        let Some(replay) = self.replays.get_mut(key) else {
            return;
        };
        let place = replay.place;
        let (line, from) = (self.lines.get_mut(place.line), replay.from);
        let Some(source) = line.and_then(|line| line.sources.get_mut(place.source)) else {
            self.close(key);
            return;
        };
        let endpoint = source.state.info.spec.replay.clone().unwrap_or_default();
        let asked = Dealer::ask(&endpoint, from, &self.shared.contexts, &self.shared.config);
        let failed = match asked {
            Ok(dealer) => {
                replay.asked_at = now;
                let watched = self.poller.watch(&dealer.socket, Token::Replay(key));
                replay.phase = Phase::Open(Box::new(dealer));
                if let Purpose::Fetch(fetch) = &mut replay.purpose {
                    fetch.idle = now + micros(self.shared.config.replay_wait);
                }
                watched.err().map(|e| e.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = failed {
            let name = &*source.state.info.name;
            tracing::error!(
                source = name,
                endpoint,
                error,
                "a replay cannot be asked for"
            );
            let id = order_id(&replay.purpose);
            self.close(key);
            self.feed(place, now, id.map(|replay| Input::ReplayFailed { replay }));
            return;
        }
        source.meters.add(Total::Replays, 1);
        let id = order_id(&replay.purpose);
        self.feed(place, now, id.map(|replay| Input::ReplayStarted { replay }));
        // Sending may have taken a wake-up away.
        self.visit_replay(key);
    }

    fn feed(&mut self, place: Place, now: Micros, input: Option<Input<Received>>) {
        let line = self.lines.get_mut(place.line);
        let source = line.and_then(|line| line.sources.get_mut(place.source));
        if let (Some(source), Some(input)) = (source, input) {
            source.feed(&mut self.work, now, input);
            self.settle(place.line);
        }
    }

    /// Reads at most a turn's worth; true when more may wait.
    fn read(&mut self, key: Key, now: Micros) -> (Vec<Came>, bool) {
        let mut came = Vec::new();
        let Some(replay) = self.replays.get_mut(key) else {
            return (came, false);
        };
        let Phase::Open(dealer) = &mut replay.phase else {
            return (came, false);
        };
        let line = self.lines.get_mut(replay.place.line);
        let Some(source) = line.and_then(|line| line.sources.get_mut(replay.place.source)) else {
            return (came, false);
        };
        let spec = &source.state.info.spec;
        let topic = match (spec.mode, spec.topics.first()) {
            // Several topics may share a bound socket's replay endpoint.
            (Mode::Bind, Some(topic)) => Some(topic.clone()),
            _ => None,
        };
        let mut bytes = 0;
        for _ in 0..self.shared.config.turn.max(1) {
            match dealer.next() {
                Next::Empty => return (came, false),
                Next::End => {
                    replay.answered = true;
                    came.push(Came::End);
                    return (came, false);
                }
                Next::Malformed(reason, size) => {
                    bytes += size;
                    source.malformed(now, reason, size);
                }
                Next::Batch(sequence, payload) => {
                    bytes += payload.len();
                    replay.answered = true;
                    let theirs = dealer.topic();
                    let other = topic
                        .as_ref()
                        .is_some_and(|mine| !theirs.is_empty() && theirs != mine.as_bytes());
                    if !other {
                        came.push(Came::Batch(sequence, payload));
                    }
                }
            }
            if bytes >= self.shared.config.turn_bytes {
                break;
            }
        }
        (came, true)
    }

    /// Hands on what came. False when the replay is over.
    fn hand_on(&mut self, key: Key, now: Micros, came: Came) -> bool {
        let Some(replay) = self.replays.get_mut(key) else {
            return false;
        };
        let line = self.lines.get_mut(replay.place.line);
        let Some(source) = line.and_then(|line| line.sources.get_mut(replay.place.source)) else {
            return false;
        };
        let over = match (&mut replay.purpose, came) {
            (Purpose::Order(id), Came::Batch(sequence, payload)) => {
                let input = Input::Replayed {
                    replay: *id,
                    sequence,
                    frame: Received::new(payload, unix_micros()),
                };
                source.feed(&mut self.work, now, input);
                return true;
            }
            (Purpose::Order(id), Came::End) => {
                let input = Input::ReplayEnd { replay: *id };
                source.feed(&mut self.work, now, input);
                true
            }
            (Purpose::Fetch(fetch), Came::Batch(sequence, payload)) => {
                fetch.idle = now + micros(self.shared.config.replay_wait);
                let current = fetch.epoch == source.epoch() && fetch.losses == source.losses;
                let item = FetchItem {
                    epoch: fetch.epoch,
                    sequence,
                    payload,
                    received_us: unix_micros(),
                };
                !current || !fetch.take(item)
            }
            (Purpose::Fetch(_), Came::End) => true,
        };
        if over {
            self.close(key);
        }
        !over
    }

    /// Ends a replay in whatever state it is, and frees its place.
    fn close(&mut self, key: Key) {
        let Some(replay) = self.replays.remove(key) else {
            return;
        };
        match &replay.phase {
            Phase::Waiting => {
                // If a place is on its way, `granted` passes it on.
                self.shared.gate.give_up((self.index, key.pack()));
            }
            Phase::Jitter(_) => self.pass_on(),
            Phase::Open(dealer) => {
                self.poller.forget(&dealer.socket);
                self.pass_on();
                self.judge(&replay);
            }
        }
        if let Some(source) = self.source(replay.place)
            && source.replay == Some(key)
        {
            source.replay = None;
        }
    }

    /// Whether the source's end can be checked is known once its replay was tried.
    fn judge(&mut self, replay: &Replay) {
        let open = self.shared.now().saturating_sub(replay.asked_at);
        if !replay.answered && open < micros(self.shared.config.replay_wait) {
            // Stopped before an answer was due: it proves nothing.
            return;
        }
        let Some(source) = self.source(replay.place) else {
            return;
        };
        if matches!(replay.purpose, Purpose::Order(_)) {
            source.state.set_verified(replay.answered);
        }
        if replay.answered {
            source.replay_doubted = false;
        } else if !std::mem::replace(&mut source.replay_doubted, true) {
            let info = &source.state.info;
            let endpoint = info.spec.replay.as_deref().unwrap_or_default();
            tracing::warn!(
                source = &*info.name,
                endpoint,
                "replay was asked for and nothing came. Is replay_endpoint set in \
                 --kv-events-config, with a port of its own for each data-parallel rank?"
            );
        }
    }
}

fn order_id(purpose: &Purpose) -> Option<ReplayId> {
    match purpose {
        Purpose::Order(id) => Some(*id),
        Purpose::Fetch(_) => None,
    }
}
