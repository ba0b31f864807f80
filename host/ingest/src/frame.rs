//! What comes off a socket: three frames of a live message, three or four of a
//! replay.

use bytes::Bytes;
use penstock_event::{Payload, Sequence, digest};
use penstock_order::Frame;

/// A payload and what is known of it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) payload: Payload,
    pub(crate) received_us: i64,
    digest: u64,
}

/// What one receive brought.
pub(crate) enum Next {
    /// Nothing is left to read.
    Empty,
    /// A batch; its topic is in [`Receiver::topic`].
    Batch(Sequence, Payload),
    /// The end of a replay.
    End,
    /// Not the engine's protocol: a reason for counters, and its size.
    Malformed(&'static str, usize),
}

/// Reads messages off one socket; the small frames reuse their memory.
pub(crate) struct Receiver {
    topic: zmq::Message,
    sequence: zmq::Message,
    spare: zmq::Message,
}

/// Payloads up to this size are copied. libzmq receives small messages into a
/// shared buffer of 8 KiB, which lives as long as any message in it: kept as they
/// are, a few bytes could hold all of it.
const COPY_BYTES: usize = 2048;

/// Makes an owner of bytes of a message.
struct Owner(zmq::Message);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

// === impl Received ===

impl Received {
    pub(crate) fn new(payload: Payload, received_us: i64) -> Self {
        Self {
            digest: digest(&payload),
            payload,
            received_us,
        }
    }
}

impl Frame for Received {
    fn digest(&self) -> u64 {
        self.digest
    }

    fn bytes(&self) -> usize {
        self.payload.len()
    }
}

// === impl Receiver ===

impl Receiver {
    pub(crate) fn new() -> Self {
        Self {
            topic: zmq::Message::new(),
            sequence: zmq::Message::new(),
            spare: zmq::Message::new(),
        }
    }

    /// Topic of the message received last.
    pub(crate) fn topic(&self) -> &[u8] {
        &self.topic
    }

    /// Reads one live message: topic, sequence, payload. A fourth frame is ignored.
    pub(crate) fn live(&mut self, socket: &zmq::Socket) -> Next {
        if !receive(socket, &mut self.topic) {
            return Next::Empty;
        }
        let mut size = self.topic.len();
        if !self.topic.get_more() || !receive(socket, &mut self.sequence) {
            return Next::Malformed("frames", size);
        }
        size += self.sequence.len();
        let mut payload = zmq::Message::new();
        if !self.sequence.get_more() || !receive(socket, &mut payload) {
            return Next::Malformed("frames", size);
        }
        size += payload.len();
        let extra = self.rest(socket, payload.get_more(), &mut size);
        if extra > 1 {
            return Next::Malformed("frames", size);
        }
        match number(&self.sequence) {
            Some(sequence) => Next::Batch(sequence, own(payload)),
            None => Next::Malformed("sequence", size),
        }
    }

    /// Reads one message of a replay, in either framing: `["", sequence, payload]`
    /// or `["", topic, sequence, payload]`. An empty payload is the end.
    pub(crate) fn replay(&mut self, socket: &zmq::Socket) -> Next {
        if !receive(socket, &mut self.spare) {
            return Next::Empty;
        }
        let mut size = self.spare.len();
        let mut parts = [
            zmq::Message::new(),
            zmq::Message::new(),
            zmq::Message::new(),
        ];
        let mut count = 0;
        let mut more = self.spare.get_more();
        for part in &mut parts {
            if !more || !receive(socket, part) {
                break;
            }
            more = part.get_more();
            size += part.len();
            count += 1;
        }
        let extra = self.rest(socket, more, &mut size);
        let [first, second, third] = parts;
        let (topic, sequence, payload) = match (count, extra) {
            (2, 0) => (zmq::Message::new(), first, second),
            (3, 0) => (first, second, third),
            _ => return Next::Malformed("replay_frames", size),
        };
        self.topic = topic;
        if payload.is_empty() {
            return Next::End;
        }
        match number(&sequence) {
            Some(sequence) => Next::Batch(sequence, own(payload)),
            None => Next::Malformed("replay_sequence", size),
        }
    }

    /// Reads what is left of a message, and returns how many frames that were.
    fn rest(&mut self, socket: &zmq::Socket, mut more: bool, size: &mut usize) -> usize {
        let mut extra = 0;
        while more && receive(socket, &mut self.spare) {
            *size += self.spare.len();
            more = self.spare.get_more();
            extra += 1;
        }
        extra
    }
}

fn number(frame: &[u8]) -> Option<Sequence> {
    frame.try_into().ok().map(u64::from_be_bytes)
}

/// Receives one frame without waiting; false when there is none.
pub(crate) fn receive(socket: &zmq::Socket, frame: &mut zmq::Message) -> bool {
    loop {
        match socket.recv(frame, zmq::DONTWAIT) {
            Ok(()) => return true,
            Err(zmq::Error::EAGAIN) => return false,
            Err(zmq::Error::EINTR) => {}
            Err(error) => {
                tracing::error!(%error, "a socket cannot be read");
                return false;
            }
        }
    }
}

fn own(payload: zmq::Message) -> Payload {
    if payload.len() <= COPY_BYTES {
        Bytes::copy_from_slice(&payload)
    } else {
        Bytes::from_owner(Owner(payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (zmq::Socket, zmq::Socket) {
        let context = zmq::Context::new();
        let a = context.socket(zmq::PAIR).unwrap();
        let b = context.socket(zmq::PAIR).unwrap();
        a.bind("inproc://frames").unwrap();
        b.connect("inproc://frames").unwrap();
        (a, b)
    }

    fn show(next: &Next) -> String {
        match next {
            Next::Empty => "empty".into(),
            Next::End => "end".into(),
            Next::Malformed(why, size) => format!("{why} {size}"),
            Next::Batch(sequence, payload) => format!("{sequence} {}", payload.len()),
        }
    }

    const SEVEN: &[u8] = &7u64.to_be_bytes();
    const ALL: &[u8] = &[0xff; 8];

    #[test]
    fn live_messages() {
        let (a, b) = pair();
        let big = vec![1u8; COPY_BYTES + 1];
        let table: [(&[&[u8]], &str); 8] = [
            (&[b"t", SEVEN, b"abc"], "7 3"),
            (&[b"t", SEVEN, &big], "7 2049"),
            (&[b"t", SEVEN, b"abc", b"extra"], "7 3"),
            (&[b"t"], "frames 1"),
            (&[b"t", SEVEN], "frames 9"),
            (&[b"t", SEVEN, b"a", b"b", b"c"], "frames 12"),
            (&[b"t", b"123", b"abc"], "sequence 7"),
            (&[b"", SEVEN, b""], "7 0"),
        ];
        let mut receiver = Receiver::new();
        for (frames, expected) in table {
            a.send_multipart(frames, 0).unwrap();
            assert_eq!(show(&receiver.live(&b)), expected);
            assert_eq!(receiver.topic(), frames[0]);
        }
        assert_eq!(show(&receiver.live(&b)), "empty");
    }

    #[test]
    fn replays_in_both_framings() {
        let (a, b) = pair();
        let table: [(&[&[u8]], &str); 8] = [
            (&[b"", SEVEN, b"abc"], "7 3"),
            (&[b"", b"t", SEVEN, b"abc"], "7 3"),
            (&[b"", ALL, b""], "end"),
            (&[b"", b"", ALL, b""], "end"),
            (&[b""], "replay_frames 0"),
            (&[b"", b"x"], "replay_frames 1"),
            (&[b"", b"t", SEVEN, b"a", b"b"], "replay_frames 11"),
            (&[b"", b"t", b"a"], "replay_sequence 2"),
        ];
        let mut receiver = Receiver::new();
        for (frames, expected) in table {
            a.send_multipart(frames, 0).unwrap();
            assert_eq!(show(&receiver.replay(&b)), expected);
        }
        assert_eq!(show(&receiver.replay(&b)), "empty");
    }
}
