//! Sockets as ingest wants them: every default that would lose, hang or abort is
//! set. SUB sockets come with a monitor, which tells of connections.

use crate::IngestError;
use crate::config::{IngestConfig, micros};
use crate::context::{Contexts, Place};
use crate::endpoint::wants_ipv6;
use crate::frame::receive;
use penstock_event::{Mode, SourceInfo};
use std::time::{Duration, Instant};

/// A SUB socket and its monitor. They may move to another thread once, before use.
pub(crate) struct Subscriber {
    pub(crate) socket: zmq::Socket,
    pub(crate) monitor: Option<zmq::Socket>,
    /// An inproc name that no monitor uses.
    spare_name: String,
    endpoints: Vec<String>,
    // Dropped last: the place is free once the sockets are closed.
    _place: Place,
}

/// What a monitor tells, with the address that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A peer finished its handshake.
    Up(String),
    /// A connection is gone.
    Lost(String),
    /// A peer did not speak ZeroMQ, or not in time. `Lost` follows.
    Failed,
    /// libzmq is going to connect again.
    Retried(String),
}

/// Events of a monitor that may wait while its reader is busy.
const MONITOR_HWM: i32 = 10_000;

/// How long to insist on an address that is in use: a listener that was removed a
/// moment ago closes in the background.
const BIND_PATIENCE: Duration = Duration::from_secs(1);

// === impl Subscriber ===

impl Subscriber {
    pub(crate) fn open(
        info: &SourceInfo,
        contexts: &Contexts,
        config: &IngestConfig,
    ) -> Result<Self, IngestError> {
        let spec = &info.spec;
        let place = contexts.place(&spec.endpoints);
        let wrong = |doing: &'static str, endpoint: &str| {
            let endpoint = endpoint.to_owned();
            let name = info.name.clone();
            move |cause| IngestError::Socket {
                name,
                doing,
                endpoint,
                cause,
                hint: hint(cause),
            }
        };
        let first = spec.endpoints.first().map_or("", String::as_str);
        let socket = place
            .context
            .socket(zmq::SUB)
            .map_err(wrong("cannot open a socket for", first))?;
        let ipv6 = spec.endpoints.iter().any(|e| wants_ipv6(e, spec.mode));
        set_up(&socket, config, ipv6).map_err(wrong("cannot set up a socket for", first))?;
        let name = contexts.monitor_name();
        let spare_name = format!("{name}-off");
        let monitor = if spec.endpoints.iter().all(|e| e.starts_with("inproc://")) {
            // Connections within the process are not monitored.
            None
        } else {
            Some(
                monitor(&place.context, &socket, &name, spec.mode)
                    .map_err(wrong("cannot monitor", first))?,
            )
        };
        let everything = [String::new()];
        let topics = if spec.topics.is_empty() {
            everything.as_slice()
        } else {
            spec.topics.as_slice()
        };
        for topic in topics {
            socket
                .set_subscribe(topic.as_bytes())
                .map_err(wrong("cannot subscribe at", first))?;
        }
        for endpoint in &spec.endpoints {
            match spec.mode {
                Mode::Connect => socket
                    .connect(endpoint)
                    .map_err(wrong("cannot connect to", endpoint))?,
                Mode::Bind => {
                    bind(&socket, endpoint).map_err(wrong("cannot bind", endpoint))?;
                }
            }
        }
        Ok(Self {
            socket,
            monitor,
            spare_name,
            endpoints: spec.endpoints.clone(),
            _place: place,
        })
    }

    /// The next thing that the monitor tells.
    pub(crate) fn news(&self) -> Option<News> {
        let monitor = self.monitor.as_ref()?;
        let mut event = zmq::Message::new();
        let mut address = zmq::Message::new();
        loop {
            if !receive(monitor, &mut event) {
                return None;
            }
            if event.get_more() {
                receive(monitor, &mut address);
            }
            let Some(&[a, b, ..]) = event.get(..2) else {
                continue;
            };
            let kind = i32::from(u16::from_ne_bytes([a, b]));
            let address = || String::from_utf8_lossy(&address).into_owned();
            if kind == bit(zmq::SocketEvent::HANDSHAKE_SUCCEEDED) {
                return Some(News::Up(address()));
            } else if kind == bit(zmq::SocketEvent::DISCONNECTED) {
                return Some(News::Lost(address()));
            } else if kind == bit(zmq::SocketEvent::CONNECT_RETRIED) {
                return Some(News::Retried(address()));
            } else if kind & FAILED != 0 {
                return Some(News::Failed);
            }
        }
    }

    /// Connects anew where libzmq has given up: it does not come back by itself
    /// after a violation of the protocol, such as a frame above the limit. False
    /// when `address` is none of this socket's endpoints.
    pub(crate) fn reconnect(&self, address: &str) -> bool {
        let endpoint = match self.endpoints.as_slice() {
            [only] => only,
            several => match several.iter().find(|e| *e == address) {
                Some(endpoint) => endpoint,
                None => return false,
            },
        };
        // ENOENT: libzmq has forgotten it already.
        let _ = self.socket.disconnect(endpoint);
        match self.socket.connect(endpoint) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%endpoint, %error, "cannot connect again");
                false
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.monitor.is_some() {
            // libzmq's I/O thread would wait for ever to send an event to a monitor
            // that nobody reads. A new monitor without events replaces it.
            let _ = self.socket.monitor(&self.spare_name, 0);
        }
    }
}

const FAILED: i32 = zmq::SocketEvent::HANDSHAKE_FAILED_NO_DETAIL as i32
    | zmq::SocketEvent::HANDSHAKE_FAILED_PROTOCOL as i32
    | zmq::SocketEvent::HANDSHAKE_FAILED_AUTH as i32;

fn bit(event: zmq::SocketEvent) -> i32 {
    i32::from(event.to_raw())
}

fn monitor(
    context: &zmq::Context,
    socket: &zmq::Socket,
    name: &str,
    mode: Mode,
) -> zmq::Result<zmq::Socket> {
    let mut events =
        bit(zmq::SocketEvent::HANDSHAKE_SUCCEEDED) | bit(zmq::SocketEvent::DISCONNECTED) | FAILED;
    if mode == Mode::Connect {
        events |= bit(zmq::SocketEvent::CONNECT_RETRIED);
    }
    socket.monitor(name, events)?;
    let monitor = context.socket(zmq::PAIR)?;
    monitor.set_linger(0)?;
    monitor.set_rcvhwm(MONITOR_HWM)?;
    monitor.connect(name)?;
    Ok(monitor)
}

fn bind(socket: &zmq::Socket, endpoint: &str) -> zmq::Result<()> {
    let until = Instant::now() + BIND_PATIENCE;
    loop {
        match socket.bind(endpoint) {
            Err(zmq::Error::EADDRINUSE) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Sets what every socket of ingest has in common.
pub(crate) fn set_up(socket: &zmq::Socket, config: &IngestConfig, ipv6: bool) -> zmq::Result<()> {
    socket.set_linger(0)?;
    socket.set_rcvhwm(config.receive_hwm.max(1))?;
    socket.set_maxmsgsize(i64::try_from(config.max_message_bytes).unwrap_or(i64::MAX))?;
    socket.set_reconnect_ivl(millis(config.reconnect))?;
    socket.set_reconnect_ivl_max(millis(config.reconnect_max))?;
    socket.set_handshake_ivl(millis(config.handshake))?;
    socket.set_connect_timeout(millis(config.handshake))?;
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(seconds(config.keepalive.idle))?;
    socket.set_tcp_keepalive_intvl(seconds(config.keepalive.interval))?;
    socket.set_tcp_keepalive_cnt(i32::try_from(config.keepalive.count.max(1)).unwrap_or(3))?;
    if ipv6 {
        socket.set_ipv6(true)?;
    }
    Ok(())
}

fn millis(d: Duration) -> i32 {
    i32::try_from(micros(d) / 1000).unwrap_or(i32::MAX).max(1)
}

fn seconds(d: Duration) -> i32 {
    i32::try_from(d.as_secs()).unwrap_or(i32::MAX).max(1)
}

fn hint(cause: zmq::Error) -> &'static str {
    match cause {
        zmq::Error::EADDRINUSE => {
            " (another process holds it; data-parallel ranks and replay ports may overlap)"
        }
        zmq::Error::ENODEV | zmq::Error::EADDRNOTAVAIL => {
            " (bind takes *, an interface or an address of this machine)"
        }
        zmq::Error::EMFILE => " (out of sockets or descriptors: raise the limit, ulimit -n)",
        _ => "",
    }
}
