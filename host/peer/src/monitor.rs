//! What libzmq tells of a socket's connections.

use crate::endpoint::{Bounds, Side, attach, receive, socket};
use crate::{PeerError, Result};
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use zmq::SocketEvent;

/// Connections of a socket, so far and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Something took the connection, whatever it is.
    pub answered: u64,
    /// It spoke ZeroMQ, and as a kind of socket that fits this one.
    pub connected: u64,
    /// Of those, the ones that ended.
    pub lost: u64,
}

/// Follows the connections of a socket.
pub(crate) struct Watch {
    monitor: zmq::Socket,
    link: Link,
}

// === impl Watch ===

impl Watch {
    pub(crate) fn new(context: &zmq::Context, of: &zmq::Socket) -> Result<Self> {
        let events = [
            SocketEvent::ACCEPTED,
            SocketEvent::CONNECTED,
            SocketEvent::HANDSHAKE_SUCCEEDED,
            SocketEvent::DISCONNECTED,
        ];
        Ok(Self {
            monitor: monitor(context, of, &events)?,
            link: Link::default(),
        })
    }

    /// Reads what there is to read.
    pub(crate) fn link(&mut self) -> Result<Link> {
        loop {
            let received = receive(&self.monitor, 1);
            let received = received.map_err(PeerError::socket("read the monitor"))?;
            let Some((frames, _)) = received else {
                return Ok(self.link);
            };
            let Some(&[e0, e1, ..]) = frames.first().map(|f| &**f) else {
                continue;
            };
            let link = &mut self.link;
            match SocketEvent::from_raw(u16::from_ne_bytes([e0, e1])) {
                SocketEvent::HANDSHAKE_SUCCEEDED => link.connected += 1,
                // The end of a connection that never was one is no loss.
                SocketEvent::DISCONNECTED => link.lost = link.connected.min(link.lost + 1),
                _ => link.answered += 1,
            }
        }
    }
}

/// A monitor of a socket.
pub(crate) fn monitor(
    context: &zmq::Context,
    of: &zmq::Socket,
    events: &[SocketEvent],
) -> Result<zmq::Socket> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("inproc://penstock-peer-{}", NUMBER.fetch_add(1, Relaxed));
    let bounds = Bounds {
        hwm: 100_000,
        linger: Duration::ZERO,
        max_message: -1,
    };
    let events = events.iter().fold(0, |all, e| all | i32::from(e.to_raw()));
    of.monitor(&name, events)
        .map_err(PeerError::socket("monitor a socket"))?;
    let pair = socket(context, zmq::PAIR, bounds)?;
    attach(&pair, &name, Side::Connect, Duration::ZERO)?;
    Ok(pair)
}
