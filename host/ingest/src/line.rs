//! One SUB socket and the sources behind it: one where the daemon connects, one a
//! topic where it binds.
//!
//! A turn: read the socket, at most so much; *then* read the monitor; then tell the
//! sources of the news of the connection, and only then of the frames. libzmq gives
//! no order between monitor and data, and frames of a new engine taken for those of
//! the old one would be wrong answers; the other way round they only wait.
//!
//! **Bound sockets.** A lost connection does not say which topic it carried, so all
//! topics are in doubt. A message that can only have come after the loss, while
//! nobody has connected since, clears its topic. A message after somebody connected
//! counts as a reconnect of its topic. A topic in doubt for long goes stale, then it
//! is forgotten, like a source whose connection is lost.

use crate::frame::{Next, Received, Receiver};
use crate::hints::{Hints, overlaps};
use crate::meters::LogGate;
use crate::peers::{Peers, Rise};
use crate::registry::Sources;
use crate::resume::set_out;
use crate::slab::{Key, Slab};
use crate::socket::{News, Subscriber};
use crate::source::{Source, Work};
use crate::timers::Armed;
use crate::{Resume, config::micros};
use penstock_event::{Link, Mode, Sequence, SourceId, SourceSpec, SourceState};
use penstock_order::Micros;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

pub(crate) struct Line {
    /// The source, or the bound socket, that discovery named.
    pub(crate) state: Arc<SourceState>,
    pub(crate) subscriber: Subscriber,
    pub(crate) sources: Slab<Source>,
    /// It is in the list of lines to visit.
    pub(crate) queued: bool,
    pub(crate) armed: Armed,
    /// The socket's only source; none for a bound one.
    only: Option<Key>,
    topics: HashMap<Box<[u8]>, Key>,
    /// Topics whose publisher may be gone.
    doubts: HashMap<Key, Doubt>,
    peers: Peers,
    hints: Hints,
    receiver: Receiver,
    arrived: Vec<Arrived>,
    /// Turns that read the socket empty.
    drains: u64,
    /// Sources learnt since the thread last looked.
    pub(crate) learnt: Vec<(SourceId, Key)>,
    log: LogGate,
}

/// A peer was lost, and it may have been this topic's.
#[derive(Clone, Copy)]
struct Doubt {
    /// Nobody was left.
    certain: bool,
    /// [`Peers::accepts`] then.
    accepts: u64,
    /// [`Line::drains`] from which on a frame must have come after the loss.
    ripe: u64,
}

struct Arrived {
    whose: Whose,
    sequence: Sequence,
    frame: Received,
}

enum Whose {
    Known(Key),
    /// The first message of a topic.
    New(Box<[u8]>),
}

/// Bytes that a topic may have to name a source.
const MAX_TOPIC: usize = 1024;

// === impl Line ===

impl Line {
    pub(crate) fn new(
        state: Arc<SourceState>,
        subscriber: Subscriber,
        resume: Option<Resume>,
        work: &mut Work,
        now: Micros,
    ) -> Self {
        let mut sources = Slab::default();
        let mut only = None;
        if state.info.spec.mode == Mode::Connect {
            let key = sources.next_key();
            let left_off = resume.is_some();
            let mut source = Source::new(state.clone(), key, &work.config, false, resume);
            source.join(work);
            if left_off {
                // What plugins know of it may be of an engine that is gone for good: it
                // is stale after a while, and leaves, as after a lost connection.
                source.doubt(work, now);
            }
            only = Some(sources.insert(source));
        }
        let mut line = Self {
            state,
            subscriber,
            sources,
            queued: false,
            armed: Armed::default(),
            only,
            topics: HashMap::new(),
            doubts: HashMap::new(),
            peers: Peers::default(),
            hints: Hints::new(now),
            receiver: Receiver::new(),
            arrived: Vec::new(),
            drains: 0,
            learnt: Vec::new(),
            log: LogGate::default(),
        };
        if line.subscriber.monitor.is_none() {
            // Nothing tells of connections within the process: taken for granted.
            line.tell(work, now, News::Up(String::new()));
        }
        line
    }

    pub(crate) fn only(&self) -> Option<Key> {
        self.only
    }

    /// Reads, and hands on what was read. True when more may wait.
    pub(crate) fn turn(&mut self, work: &mut Work, sources: &Sources, now: Micros) -> bool {
        let more = self.read(work, now);
        self.news(work, now);
        let mut arrived = std::mem::take(&mut self.arrived);
        if !arrived.is_empty() {
            self.hints.heard();
        }
        for Arrived {
            whose,
            sequence,
            frame,
        } in arrived.drain(..)
        {
            let key = match whose {
                Whose::Known(key) => Some(key),
                Whose::New(topic) => self.learn(work, sources, now, topic),
            };
            if let Some(key) = key
                && !self.doubts.is_empty()
            {
                self.judge(work, now, key);
            }
            if let Some(source) = key.and_then(|key| self.sources.get_mut(key)) {
                source.live(work, now, sequence, frame);
            }
        }
        self.arrived = arrived;
        if !more {
            self.drains += 1;
        }
        more
    }

    /// Reads the monitor and tells the sources.
    pub(crate) fn news(&mut self, work: &mut Work, now: Micros) {
        while let Some(news) = self.subscriber.news() {
            self.tell(work, now, news);
        }
    }

    /// When [`Line::tick`] is to be called.
    pub(crate) fn deadline(&self, work: &Work) -> Option<Micros> {
        let hint = self.hints.deadline(micros(work.config.hint_after));
        let silent = match self.state.info.spec.mode {
            Mode::Connect => self.peers.deadline(),
            Mode::Bind => None,
        };
        hint.into_iter().chain(silent).min()
    }

    /// Time passed: says hints that are due, connects again where libzmq has given up.
    pub(crate) fn tick(&mut self, work: &Work, now: Micros) {
        let spec = &self.state.info.spec;
        let source = &*self.state.info.name;
        let after = micros(work.config.hint_after);
        let replayed = self.state.totals.replayed.load(Relaxed);
        if let Some(hint) = self.hints.due(now, after, spec, replayed) {
            tracing::warn!(source, "{hint}");
        }
        if spec.mode == Mode::Bind {
            return;
        }
        while let Some(address) = self.peers.given_up(now) {
            if self.subscriber.reconnect(&address) {
                tracing::warn!(
                    source,
                    address,
                    "the connection was dropped for breaking the protocol (a frame above the \
                     limit, or no ZeroMQ peer); connecting again"
                );
            } else {
                tracing::error!(
                    source,
                    address,
                    "a connection is gone and cannot be told apart"
                );
            }
        }
    }

    /// Takes a source that has left out of the line, if it was learnt.
    pub(crate) fn unlearn(&mut self, key: Key) -> Option<Source> {
        if self.only == Some(key) {
            return None;
        }
        self.topics.retain(|_, topic| *topic != key);
        self.doubts.remove(&key);
        self.sources.remove(key)
    }

    fn read(&mut self, work: &Work, now: Micros) -> bool {
        let mut bytes = 0;
        let received_us = unix_micros();
        for _ in 0..work.config.turn.max(1) {
            match self.receiver.live(&self.subscriber.socket) {
                Next::Empty | Next::End => return false,
                Next::Malformed(reason, size) => {
                    bytes += size;
                    self.malformed(now, reason, size);
                }
                // No engine counts so far; in replays it marks the end.
                Next::Batch(u64::MAX, payload) => {
                    bytes += payload.len();
                    self.malformed(now, "sequence", payload.len());
                }
                Next::Batch(sequence, payload) => {
                    bytes += payload.len();
                    let topic = self.receiver.topic();
                    if self.only.is_none() && topic.len() > MAX_TOPIC {
                        self.malformed(now, "topic_too_long", payload.len());
                        continue;
                    }
                    let whose = match self.only.or_else(|| self.topics.get(topic).copied()) {
                        Some(key) => Whose::Known(key),
                        None => Whose::New(topic.into()),
                    };
                    self.arrived.push(Arrived {
                        whose,
                        sequence,
                        frame: Received::new(payload, received_us),
                    });
                }
            }
            if bytes >= work.config.turn_bytes {
                break;
            }
        }
        true
    }

    fn malformed(&mut self, now: Micros, reason: &'static str, size: usize) {
        self.hints.heard();
        match self.only.and_then(|key| self.sources.get_mut(key)) {
            Some(source) => source.malformed(now, reason, size),
            None => {
                self.state.totals.messages.fetch_add(1, Relaxed);
                self.state.totals.malformed.fetch_add(1, Relaxed);
                let name = &self.state.info.name;
                metrics::counter!("penstock_source_errors_total",
                    "source" => name.to_string(), "stage" => "frame", "code" => reason)
                .increment(1);
                if let Some(held) = self.log.pass(now) {
                    let source = &**name;
                    tracing::warn!(source, reason, size, held, "a message names no source");
                }
            }
        }
    }

    fn tell(&mut self, work: &mut Work, now: Micros, news: News) {
        match news {
            News::Retried(address) => self.peers.retried(&address),
            News::Failed => {
                self.peers.failed();
                self.hints.strangers += 1;
            }
            News::Up(address) => {
                let rise = self.peers.up(&address);
                self.hints.up(now);
                tracing::debug!(source = &*self.state.info.name, address, ?rise, "connected");
                match self.only.and_then(|key| self.sources.get_mut(key)) {
                    Some(source) => match rise {
                        Rise::First => source.up(work, now),
                        Rise::Again => {
                            source.down(work, now);
                            source.up(work, now);
                        }
                        Rise::More => {}
                    },
                    None => self.state.set_link(Link::Live),
                }
            }
            News::Lost(address) => {
                if !self.peers.lost(address, now) {
                    return;
                }
                let alone = self.peers.up == 0;
                match self.only.and_then(|key| self.sources.get_mut(key)) {
                    Some(source) if alone => source.down(work, now),
                    Some(_) => {}
                    None => self.doubt_all(work, now, alone),
                }
            }
        }
    }

    fn doubt_all(&mut self, work: &mut Work, now: Micros, alone: bool) {
        if alone {
            self.state.set_link(Link::Down);
        }
        let (accepts, ripe) = (self.peers.accepts, self.drains + 2);
        for key in self.topics.values() {
            let Some(source) = self.sources.get_mut(*key) else {
                continue;
            };
            let before = self.doubts.get(key).copied();
            let was_certain = before.is_some_and(|doubt| doubt.certain);
            if alone && !was_certain {
                source.down(work, now);
            } else {
                source.doubt(work, now);
            }
            let doubt = Doubt {
                certain: alone || was_certain,
                accepts: before.map_or(accepts, |doubt| doubt.accepts),
                ripe,
            };
            self.doubts.insert(*key, doubt);
        }
    }

    /// A message of a topic came: if the topic was in doubt, what does it prove?
    fn judge(&mut self, work: &mut Work, now: Micros, key: Key) {
        let Some(doubt) = self.doubts.get(&key).copied() else {
            return;
        };
        let Some(source) = self.sources.get_mut(key) else {
            return;
        };
        if self.peers.accepts > doubt.accepts {
            if !doubt.certain {
                source.down(work, now);
            }
            source.up(work, now);
            self.doubts.remove(&key);
        } else if !doubt.certain && self.drains >= doubt.ripe {
            source.assure();
            self.doubts.remove(&key);
        }
    }

    /// A new source of a bound socket, from the first message of its topic.
    fn learn(
        &mut self,
        work: &mut Work,
        sources: &Sources,
        now: Micros,
        name: Box<[u8]>,
    ) -> Option<Key> {
        if let Some(key) = self.topics.get(&name) {
            // Learnt a moment ago, from another message of this turn.
            return Some(*key);
        }
        let listener = &self.state.info;
        let registered = if self.topics.len() < work.config.topics_per_bind {
            sources.register(learnt(&listener.spec, &listener.name, &name), false)
        } else {
            Err(crate::IngestError::Duplicate {
                name: listener.name.clone(),
            })
        };
        let Ok(state) = registered else {
            metrics::counter!("penstock_ingest_topics_refused_total",
                "listener" => listener.name.to_string())
            .increment(1);
            if let Some(held) = self.log.pass(now) {
                tracing::error!(
                    source = &*listener.name,
                    topic = %name.escape_ascii(),
                    limit = work.config.topics_per_bind,
                    held,
                    "no room for another topic, or its name is taken; its messages are lost"
                );
            }
            return None;
        };
        tracing::info!(source = &*state.info.name, "learnt from its topic");
        let key = self.sources.next_key();
        let resume = set_out(&state, sources);
        let mut source = Source::new(state.clone(), key, &work.config, true, resume);
        source.join(work);
        source.up(work, now);
        self.sources.insert(source);
        self.learnt.push((state.info.id, key));
        self.topics.insert(name, key);
        Some(key)
    }
}

/// Says where a new source's endpoints meet those of others.
pub(crate) fn warn_of_overlaps(spec: &SourceSpec, sources: &Sources) {
    let others = sources.named();
    for overlap in overlaps(spec, others.iter().map(|s| &s.info.spec)) {
        tracing::warn!(source = spec.name(), "{overlap}");
    }
}

/// What a topic of a bound socket says of its source. `kv@POD@MODEL` names the
/// pod and the model.
fn learnt(listener: &SourceSpec, name: &str, topic: &[u8]) -> SourceSpec {
    let topic = match std::str::from_utf8(topic) {
        Ok(topic) => topic.to_owned(),
        Err(_) => topic.escape_ascii().to_string(),
    };
    let mut spec = listener.clone();
    spec.instance = format!("{name}/{topic}");
    spec.rank = None;
    let mut parts = topic.splitn(3, '@');
    if let (Some("kv"), Some(pod), Some(model)) = (parts.next(), parts.next(), parts.next()) {
        if !model.is_empty() {
            spec.model = model.to_owned();
        }
        if !pod.is_empty() {
            spec.labels
                .entry("pod".to_owned())
                .or_insert_with(|| pod.to_owned());
        }
    }
    spec.topics = vec![topic];
    spec
}

/// µs since 1970.
pub(crate) fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;

    #[test]
    fn topics_name_sources() {
        let mut listener = spec("bound", &["tcp://*:1"]);
        listener.model = "default".into();
        let a = learnt(&listener, "bound", b"kv@pod-1@meta/llama@x");
        assert_eq!(a.name(), "bound/kv@pod-1@meta/llama@x");
        assert_eq!(a.model, "meta/llama@x");
        assert_eq!(a.labels["pod"], "pod-1");
        let b = learnt(&listener, "bound", b"\xff");
        assert_eq!(
            (b.name().as_str(), b.model.as_str()),
            ("bound/\\xff", "default")
        );
    }
}
