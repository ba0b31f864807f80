//! The thread behind the ZeroMQ door: receive, ask, reply.

use super::flight::{Flights, Waiting};
use super::line::Line;
use super::{RouterTotals, Stop};
use crate::meter::Meter;
use crate::msgpack::reply;
use crate::wire::{Asked, Incoming};
use crate::{AnswerBody, Beat, Code, Control, DoorsConfig, ErrorBody, Lookups};
use metrics::{Counter, counter};
use penstock_event::LookupError;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use zmq::{DONTWAIT, Message, POLLIN, SNDMORE};

pub(super) struct Worker {
    pub socket: zmq::Socket,
    pub line: Arc<Line>,
    pub stop: Arc<Stop>,
    pub flights: Flights,
    pub lookups: Arc<dyn Lookups>,
    pub control: Arc<dyn Control>,
    pub config: DoorsConfig,
    pub totals: Arc<RouterTotals>,
    pub meter: Meter,
    pub lost: Lost,
}

/// Metrics of replies and messages that were lost, by reason.
pub(super) struct Lost {
    gone: Counter,
    unread: Counter,
    malformed: Counter,
    late: Counter,
}

/// The body of a `health` reply.
#[derive(Serialize)]
struct Vitals {
    ok: bool,
    stuck: Vec<String>,
    ready: bool,
    reasons: Vec<String>,
}

/// Messages taken before replies are looked at again.
const TURN: usize = 64;

/// Frames of a message, proxies included.
const MAX_FRAMES: usize = 32;

/// The longest sleep, so that the loop is seen to turn.
const NAP: Duration = Duration::from_millis(500);

pub(super) fn lost_counters() -> Lost {
    let lost = |reason: &'static str| counter!("penstock_query_lost_total", "door" => "zmq", "reason" => reason);
    Lost {
        gone: lost("client_gone"),
        unread: lost("client_unread"),
        malformed: lost("malformed"),
        late: lost("late"),
    }
}

// === impl Worker ===

impl Worker {
    pub(super) fn run(mut self, beat: &Beat) {
        loop {
            beat.touch();
            if let Err(e) = self.sleep() {
                tracing::error!(error = %e, "the ZeroMQ door cannot poll its socket and closes");
                return;
            }
            self.finish();
            for _ in 0..TURN {
                match self.receive() {
                    Some(frames) => self.handle(frames),
                    None => break,
                }
            }
            self.finish();
            let over = |until| self.flights.awaited() == 0 || Instant::now() >= until;
            if self.stop.until().is_some_and(over) {
                return self.close();
            }
        }
    }

    fn sleep(&self) -> Result<(), zmq::Error> {
        let now = Instant::now();
        let wake_at = [self.flights.next_deadline(), self.stop.until()];
        let nap = wake_at
            .into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(now))
            .fold(NAP, Duration::min);
        // Rounded up, or the loop would spin through the last millisecond.
        let ms = nap.as_micros().div_ceil(1_000) as i64;
        let mut items = [
            self.socket.as_poll_item(POLLIN),
            zmq::PollItem::from_fd(self.line.fd(), POLLIN),
        ];
        match zmq::poll(&mut items, ms) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(e) => return Err(e),
        }
        if items[1].is_readable() {
            self.line.calm();
        }
        Ok(())
    }

    /// Sends what plugins have answered, and `deadline` for what they have not.
    fn finish(&mut self) {
        while let Some((number, result)) = self.line.pop() {
            match self.flights.end(number) {
                Some(waiting) => {
                    let result = result.map(AnswerBody::from).map_err(ErrorBody::from);
                    self.answer(waiting, result);
                }
                None => self.count(&self.totals.late, &self.lost.late),
            }
        }
        let now = Instant::now();
        while let Some(waiting) = self.flights.expired(now) {
            self.answer::<AnswerBody>(waiting, Err(LookupError::Deadline.into()));
        }
    }

    /// One whole message, or none waiting.
    fn receive(&mut self) -> Option<Vec<Message>> {
        let mut frames = Vec::with_capacity(3);
        let mut too_many = false;
        loop {
            let mut frame = Message::new();
            match self.socket.recv(&mut frame, DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EINTR) => continue,
                Err(_) => return None,
            }
            let more = frame.get_more();
            if frames.len() < MAX_FRAMES {
                frames.push(frame);
            } else {
                too_many = true;
            }
            if more {
                continue;
            }
            if !too_many {
                return Some(frames);
            }
            // No reply: where the envelope ends is anyone's guess.
            self.count(&self.totals.malformed, &self.lost.malformed);
            frames.clear();
            too_many = false;
        }
    }

    fn handle(&mut self, frames: Vec<Message>) {
        self.totals.requests.fetch_add(1, Relaxed);
        let since = Instant::now();
        let (envelope, body) = match split(frames) {
            Ok(parts) => parts,
            Err((envelope, body, why)) => {
                self.count(&self.totals.malformed, &self.lost.malformed);
                let incoming = Incoming::read(&body, &self.config);
                let waiting = Waiting {
                    envelope,
                    encoding: incoming.encoding,
                    id: incoming.id,
                    since,
                };
                return self.answer::<AnswerBody>(waiting, Err(ErrorBody::bad(why)));
            }
        };
        let incoming = Incoming::read(&body, &self.config);
        let waiting = Waiting {
            envelope,
            encoding: incoming.encoding,
            id: incoming.id,
            since,
        };
        let lookup = match incoming.asked {
            Ok(Asked::Lookup(lookup)) => lookup,
            Ok(Asked::Health) => return self.answer(waiting, Ok(self.vitals())),
            Err(error) => return self.answer::<AnswerBody>(waiting, Err(error)),
        };
        if self.stop.until().is_some() {
            let error = ErrorBody::new(Code::Closing, "the daemon is shutting down");
            return self.answer::<AnswerBody>(waiting, Err(error));
        }
        let client = client_key(&waiting.envelope);
        if !self.flights.has_room(&client) {
            return self.answer::<AnswerBody>(waiting, Err(ErrorBody::busy()));
        }
        let deadline = since + lookup.query.deadline;
        let number = self.flights.begin(client, deadline, waiting);
        let ticket = self.line.ticket(number);
        self.lookups.ask(
            lookup.plugin.as_deref(),
            lookup.query,
            Box::new(move |result| ticket.reply(result)),
        );
    }

    fn vitals(&self) -> Vitals {
        let health = self.control.health();
        let ready = self.control.ready();
        Vitals {
            ok: health.ok,
            stuck: health.stuck,
            ready: ready.ready,
            reasons: ready.reasons,
        }
    }

    fn answer<T: Serialize>(&self, waiting: Waiting, result: Result<T, ErrorBody>) {
        let (encoding, id) = (waiting.encoding, waiting.id.as_deref());
        let code = result.as_ref().err().map(|e| e.code);
        let body = match &result {
            Ok(body) => reply(encoding, id, body),
            Err(error) => reply(encoding, id, error),
        };
        self.meter.ended(waiting.since, code);
        match body {
            Ok(body) => self.send(waiting.envelope, body),
            Err(e) => tracing::error!(error = %e, "a reply cannot be written"),
        }
    }

    /// Only the first frame can fail: with the peer's pipe found and not full,
    /// the rest of the message has its place.
    fn send(&self, envelope: Vec<Message>, body: Vec<u8>) {
        for frame in envelope {
            match self.socket.send(frame, SNDMORE | DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN) => {
                    return self.count(&self.totals.unread, &self.lost.unread);
                }
                Err(_) => return self.count(&self.totals.undeliverable, &self.lost.gone),
            }
        }
        match self.socket.send(body, DONTWAIT) {
            Ok(()) => {
                self.totals.replies.fetch_add(1, Relaxed);
            }
            Err(_) => self.count(&self.totals.undeliverable, &self.lost.gone),
        }
    }

    fn count(&self, total: &AtomicU64, metric: &Counter) {
        total.fetch_add(1, Relaxed);
        metric.increment(1);
    }

    /// What is still awaited at the end is told so.
    fn close(&mut self) {
        let end = Instant::now() + self.config.max_deadline();
        while let Some(waiting) = self.flights.expired(end) {
            let error = ErrorBody::new(Code::Closing, "the daemon is shutting down");
            self.answer::<AnswerBody>(waiting, Err(error));
        }
    }
}

type Parts = (Vec<Message>, Message);

/// The frames that lead back, delimiter included, and the body. On error, what
/// leads back as far as can be told.
fn split(mut frames: Vec<Message>) -> Result<Parts, (Vec<Message>, Message, &'static str)> {
    // The first frame is the peer's identity, which libzmq never leaves empty.
    let delimiter = frames.iter().position(|frame| frame.is_empty());
    let last = frames.len().saturating_sub(1);
    let body = frames.pop().unwrap_or_else(Message::new);
    match delimiter {
        None => Err((
            frames,
            body,
            "no empty delimiter frame before the body; a DEALER sends it itself",
        )),
        Some(at) if at + 1 == last => Ok((frames, body)),
        Some(at) => {
            if at == last {
                frames.push(Message::new());
            } else {
                frames.truncate(at + 1);
            }
            let why = "expected exactly one body frame after the empty delimiter frame";
            Err((frames, body, why))
        }
    }
}

/// The client's name: all that leads back to it, so that clients behind one
/// proxy are told apart.
fn client_key(envelope: &[Message]) -> Vec<u8> {
    let mut key = Vec::with_capacity(16);
    for frame in envelope {
        key.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        key.extend_from_slice(frame);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(parts: &[&str]) -> Vec<Message> {
        parts.iter().map(|p| Message::from(*p)).collect()
    }

    #[test]
    fn envelopes_end_at_the_first_empty_frame() {
        let table: [(&[&str], &[&str], bool); 7] = [
            (&["a", "", "{}"], &["a", ""], true),
            (&["p", "a", "", "{}"], &["p", "a", ""], true),
            (&["a", "", ""], &["a", ""], true),
            (&["a", "{}"], &["a"], false),
            (&["p", "a", "{}"], &["p", "a"], false),
            (&["a", "", "x", "{}"], &["a", ""], false),
            (&["a", ""], &["a", ""], false),
        ];
        for (message, wanted, fine) in table {
            let (envelope, ok) = match split(frames(message)) {
                Ok((envelope, _)) => (envelope, true),
                Err((envelope, _, _)) => (envelope, false),
            };
            let envelope: Vec<&str> = envelope.iter().map(|f| f.as_str().unwrap()).collect();
            assert_eq!((envelope.as_slice(), ok), (wanted, fine), "{message:?}");
        }
    }

    #[test]
    fn clients_behind_one_proxy_are_told_apart() {
        let one = client_key(&frames(&["p", "ab", ""]));
        assert_ne!(one, client_key(&frames(&["p", "a", "b", ""])));
        assert_ne!(one, client_key(&frames(&["pa", "b", ""])));
        assert_eq!(one, client_key(&frames(&["p", "ab", ""])));
    }
}
