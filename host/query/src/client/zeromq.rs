//! The ZeroMQ door's client: a DEALER with as many requests in flight as wanted.

use super::{Outgoing, SLACK, bad_reply, unreachable};
use crate::msgpack::id_of;
use crate::wire::Encoding;
use crate::{AnswerBody, ErrorBody, QueryError};
use penstock_event::Query;
use std::time::{Duration, Instant};

/// Asks one ZeroMQ door. One thread at a time.
pub struct ZmqClient {
    socket: zmq::Socket,
    endpoint: String,
    next: u64,
}

/// A reply and the number of its request.
pub type ZmqReply = (u64, Result<AnswerBody, ErrorBody>);

impl ZmqClient {
    /// Connects. The door may come up later; requests wait until it does.
    ///
    /// # Errors
    /// [`QueryError::Unreachable`] when the endpoint cannot be right.
    pub fn connect(endpoint: &str) -> Result<Self, QueryError> {
        let open = || {
            let socket = zmq::Context::new().socket(zmq::DEALER)?;
            socket.set_linger(0)?;
            if endpoint.contains('[') {
                socket.set_ipv6(true)?;
            }
            socket.set_rcvhwm(10_000)?;
            socket.set_sndhwm(10_000)?;
            socket.connect(endpoint)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(|e: zmq::Error| unreachable(endpoint, e))?,
            endpoint: endpoint.to_owned(),
            next: 0,
        })
    }

    /// Asks a lookup and waits for its answer; replies to others are dropped.
    ///
    /// # Errors
    /// [`QueryError`]: late, refused, or not an answer.
    pub fn query(&mut self, plugin: Option<&str>, query: &Query) -> Result<AnswerBody, QueryError> {
        let until = Instant::now() + query.deadline + SLACK;
        let number = self.send(plugin, query)?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.receive(left)? {
                (id, result) if id == number => return result.map_err(QueryError::Refused),
                _ => {}
            }
        }
    }

    /// Sends a lookup and returns its number.
    ///
    /// # Errors
    /// [`QueryError::Unreachable`] when the queue to the door is full.
    pub fn send(&mut self, plugin: Option<&str>, query: &Query) -> Result<u64, QueryError> {
        let number = self.next;
        let request = Outgoing::new(Some(number), plugin, query);
        let body = rmp_serde::to_vec_named(&request).map_err(|e| bad_reply(&self.endpoint, e))?;
        self.socket
            .send_multipart([Vec::new(), body], zmq::DONTWAIT)
            .map_err(|e| unreachable(&self.endpoint, e))?;
        self.next += 1;
        Ok(number)
    }

    /// The next reply, to whichever request.
    ///
    /// # Errors
    /// [`QueryError::Timeout`], or a reply that cannot be read.
    pub fn receive(&mut self, timeout: Duration) -> Result<ZmqReply, QueryError> {
        let until = Instant::now() + timeout;
        let bad = |why: &str| bad_reply(&self.endpoint, why);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let ms = left.as_micros().div_ceil(1_000) as i64;
            match self.socket.poll(zmq::POLLIN, ms) {
                Ok(0) if left.is_zero() => {
                    return Err(QueryError::Timeout {
                        address: self.endpoint.clone(),
                    });
                }
                Ok(0) | Err(zmq::Error::EINTR) => continue,
                Ok(_) => break,
                Err(e) => return Err(unreachable(&self.endpoint, e)),
            }
        }
        let frames = self
            .socket
            .recv_multipart(0)
            .map_err(|e| unreachable(&self.endpoint, e))?;
        let [delimiter, body] = frames.as_slice() else {
            return Err(bad("expected two frames"));
        };
        if !delimiter.is_empty() {
            return Err(bad("expected an empty delimiter frame"));
        }
        let id: Option<u64> = match id_of(Encoding::Msgpack, body) {
            Some(id) => rmp_serde::from_slice(id).map_err(|e| bad_reply(&self.endpoint, e))?,
            None => None,
        };
        // An error has no scores.
        let result = match rmp_serde::from_slice(body) {
            Ok(answer) => Ok(answer),
            Err(why) => match rmp_serde::from_slice::<ErrorBody>(body) {
                Ok(error) => Err(error),
                Err(_) => return Err(bad_reply(&self.endpoint, why)),
            },
        };
        match (id, result) {
            (Some(id), result) => Ok((id, result)),
            (None, Err(error)) => Err(QueryError::Refused(error)),
            (None, Ok(_)) => Err(bad("the reply has no id")),
        }
    }
}
