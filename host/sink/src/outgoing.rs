//! One message as frames, offered to a socket without ever blocking.
//!
//! ```text
//! [topic][own sequence, 8 bytes big endian][payload]([position])
//! ```
//!
//! The position is msgpack: an array of the source's name (nil when no batch
//! caused the message), its epoch and its sequence.

use crate::queue::Message;
use penstock_event::Sequence;
use std::time::{Duration, Instant};
use zmq::{DONTWAIT, Error, SNDMORE, Socket};

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// libzmq has all of it.
    Taken,
    /// A pipe is full, or there is no peer. Offer it again later.
    Full,
}

/// How libzmq treats a message that it refuses in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The first frames are kept; go on with the refused one (XPUB).
    Resume,
    /// The first frames are taken back (PUSH, when the peer goes away between
    /// two frames); the rest is swallowed up to the last frame. Begin again.
    Restart,
}

/// Builds frames and keeps the place within a message.
pub(crate) struct Outgoing {
    refusal: Refusal,
    positions: bool,
    position: Vec<u8>,
    /// Frames of the current message that libzmq has.
    taken: usize,
}

impl Outgoing {
    pub(crate) fn new(refusal: Refusal, positions: bool) -> Self {
        Self {
            refusal,
            positions,
            position: Vec::new(),
            taken: 0,
        }
    }

    /// Whether libzmq has the first half of a message: it must get the rest.
    pub(crate) fn halfway(&self) -> bool {
        self.taken > 0
    }

    /// Offers a message, or what is left of it.
    ///
    /// # Errors
    /// All errors of libzmq but `EAGAIN`. The message is given up then.
    pub(crate) fn offer(
        &mut self,
        socket: &Socket,
        message: &Message,
        sequence: Sequence,
    ) -> zmq::Result<Offer> {
        let number = sequence.to_be_bytes();
        if self.positions {
            encode_position(&mut self.position, message);
        }
        let frames: [&[u8]; 4] = [
            &message.topic,
            &number,
            &message.payload,
            self.position.as_slice(),
        ];
        let frames = if self.positions {
            &frames[..]
        } else {
            &frames[..3]
        };
        let last = frames.len() - 1;
        for (i, frame) in frames.iter().enumerate().skip(self.taken) {
            match send(socket, frame, i < last) {
                Ok(()) => self.taken = i + 1,
                Err(Error::EAGAIN) => {
                    if self.refusal == Refusal::Restart && self.taken > 0 {
                        for (j, rest) in frames.iter().enumerate().skip(i + 1) {
                            let _ = send(socket, rest, j < last);
                        }
                        self.taken = 0;
                    }
                    return Ok(Offer::Full);
                }
                Err(e) => {
                    self.taken = 0;
                    return Err(e);
                }
            }
        }
        self.taken = 0;
        Ok(Offer::Taken)
    }
}

fn send(socket: &Socket, frame: &[u8], more: bool) -> zmq::Result<()> {
    let flags = DONTWAIT | if more { SNDMORE } else { 0 };
    loop {
        match socket.send(frame, flags) {
            Err(Error::EINTR) => {}
            other => return other,
        }
    }
}

fn encode_position(out: &mut Vec<u8>, message: &Message) {
    out.clear();
    // Writing to a Vec cannot fail.
    let _ = rmp::encode::write_array_len(out, 3);
    let _ = match &message.source {
        Some(name) => rmp::encode::write_str(out, name).is_ok(),
        None => rmp::encode::write_nil(out).is_ok(),
    };
    let _ = rmp::encode::write_uint(out, u64::from(message.position.epoch.0));
    let _ = rmp::encode::write_uint(out, message.position.sequence);
}

/// How long a socket may refuse before messages are dropped.
///
/// ```text
///         refused              too long
///  calm ───────────> waiting ───────────> stalled: drop at once
///   ^ ^     taken       │                    │
///   │ └─────────────────┘                    │
///   └── a second without a refusal ──────────┘
/// ```
///
/// A message that is taken does not end a stall: it may have gone to other
/// peers than the one that is stuck.
pub(crate) struct Patience {
    limit: Duration,
    /// First refusal of this wait or stall, and the latest.
    refusals: Option<(Instant, Instant)>,
    stalled: bool,
}

/// A stall is over when this passed without a refusal.
const CALM: Duration = Duration::from_secs(1);

impl Patience {
    pub(crate) fn new(limit_ms: u64) -> Self {
        Self {
            limit: Duration::from_millis(limit_ms),
            refusals: None,
            stalled: false,
        }
    }

    /// A message is dropped and the next one is to be waited for as long.
    pub(crate) fn restart(&mut self) {
        self.refusals = None;
        self.stalled = false;
    }

    /// The socket took a message. True: no stall lasts.
    pub(crate) fn taken(&mut self) -> bool {
        if self.stalled && !self.calm(Instant::now()) {
            return false;
        }
        self.restart();
        true
    }

    /// The socket refused. Returns how long it may go on refusing, or none:
    /// that was too long.
    pub(crate) fn refused(&mut self, now: Instant) -> Option<Duration> {
        if self.stalled && self.calm(now) {
            self.restart();
        }
        let (first, _) = self.refusals.unwrap_or((now, now));
        self.refusals = Some((first, now));
        let left = self
            .limit
            .saturating_sub(now.saturating_duration_since(first));
        self.stalled = left.is_zero();
        (!self.stalled).then_some(left)
    }

    fn calm(&self, now: Instant) -> bool {
        self.refusals
            .is_none_or(|(_, latest)| now.saturating_duration_since(latest) >= CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use penstock_event::{Epoch, Position};

    #[test]
    fn positions_are_three_msgpack_values() {
        let mut out = vec![1, 2, 3];
        let mut message = Message {
            topic: Bytes::new(),
            payload: Bytes::new(),
            source: Some("a/dp1".into()),
            position: Position {
                epoch: Epoch(2),
                sequence: 300,
            },
            skipped: 0,
        };
        encode_position(&mut out, &message);
        assert_eq!(out, b"\x93\xa5a/dp1\x02\xcd\x01\x2c");
        message.source = None;
        encode_position(&mut out, &message);
        assert_eq!(out, b"\x93\xc0\x02\xcd\x01\x2c");
    }

    #[test]
    fn patience_is_had_once_a_stall() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let ms = |ms| Some(Duration::from_millis(ms));
        let mut patience = Patience::new(100);
        assert_eq!(patience.refused(at(0)), ms(100));
        assert_eq!(patience.refused(at(60)), ms(40));
        assert!(patience.taken(), "a wait ends with a success");
        assert_eq!(patience.refused(at(70)), ms(100));
        assert_eq!(patience.refused(at(170)), None);
        assert_eq!(patience.refused(at(500)), None, "still the same stall");
        assert!(!patience.taken(), "a stall does not");
        assert_eq!(patience.refused(at(510)), None);
        assert_eq!(patience.refused(at(1_510)), ms(100), "a second of calm");
        patience.restart();
        assert_eq!(patience.refused(at(1_600)), ms(100));
        assert_eq!(Patience::new(0).refused(start), None);
    }
}
