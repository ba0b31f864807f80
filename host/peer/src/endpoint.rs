//! Endpoints and sockets as engines treat them.
//!
//! An engine binds to wildcards, IPv6 addresses, `ipc://` and `inproc://`, and
//! connects to anything else; a [`Side`] says otherwise. Ports of several
//! engines follow each other. Every socket opened here has explicit bounds.

use crate::{PeerError, Result};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Largest frame a socket of this crate accepts by default: 64 MiB.
pub const MAX_MESSAGE: i64 = 64 << 20;

/// Which end of a connection a socket takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// What an engine would do with such an endpoint: see [`binds`].
    #[default]
    Auto,
    /// Bind, whatever the endpoint looks like.
    Bind,
    /// Connect, whatever the endpoint looks like.
    Connect,
}

/// True when an engine's publisher binds to this endpoint rather than connect.
#[must_use]
pub fn binds(endpoint: &str) -> bool {
    endpoint.contains('*')
        || endpoint.contains("::")
        || endpoint.starts_with("ipc://")
        || endpoint.starts_with("inproc://")
}

/// Endpoint of the `n`th engine (or rank) given that of the first: `tcp` ports
/// are counted up, `ipc` and `inproc` names get a suffix `_dpN`. A port `*` or
/// 0 stays, since the system chooses it.
///
/// # Errors
/// [`PeerError::Config`] without a port, or past 65,535.
pub fn nth(endpoint: &str, n: usize) -> Result<String> {
    if n == 0 {
        return Ok(endpoint.to_owned());
    }
    if !endpoint.starts_with("tcp://") {
        return Ok(format!("{endpoint}_dp{n}"));
    }
    let bad = || PeerError::Config(format!("{endpoint}: no port to count {n} up from"));
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(bad)?;
    if port == "*" || port == "0" {
        return Ok(endpoint.to_owned());
    }
    let port: u16 = port.parse().map_err(|_| bad())?;
    let port = u16::try_from(n)
        .ok()
        .and_then(|n| port.checked_add(n))
        .ok_or_else(bad)?;
    Ok(format!("{host}:{port}"))
}

/// What a client on this machine connects to, given what a server bound:
/// wildcard addresses become loopback.
#[must_use]
pub fn connectable(bound: &str) -> String {
    bound
        .replacen("tcp://0.0.0.0:", "tcp://127.0.0.1:", 1)
        .replacen("tcp://*:", "tcp://127.0.0.1:", 1)
        .replacen("tcp://[::]:", "tcp://[::1]:", 1)
}

/// Bounds of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub hwm: i32,
    pub linger: Duration,
    pub max_message: i64,
}

/// A socket with explicit bounds, TCP keepalive and no heartbeats.
pub(crate) fn socket(
    context: &zmq::Context,
    kind: zmq::SocketType,
    bounds: Bounds,
) -> Result<zmq::Socket> {
    let set = || -> zmq::Result<zmq::Socket> {
        let socket = context.socket(kind)?;
        socket.set_linger(millis(bounds.linger))?;
        socket.set_sndhwm(bounds.hwm)?;
        socket.set_rcvhwm(bounds.hwm)?;
        socket.set_maxmsgsize(bounds.max_message)?;
        socket.set_tcp_keepalive(1)?;
        socket.set_reconnect_ivl(100)?;
        socket.set_reconnect_ivl_max(1_500)?;
        Ok(socket)
    };
    set().map_err(PeerError::socket("open a socket"))
}

/// Binds or connects, and says where the socket is now: for a bound one the
/// endpoint with the port that the system chose.
///
/// A port still held by a socket that is being closed is asked for again for
/// up to `patience`.
pub(crate) fn attach(
    socket: &zmq::Socket,
    endpoint: &str,
    side: Side,
    patience: Duration,
) -> Result<String> {
    let bind = match side {
        Side::Auto => binds(endpoint),
        Side::Bind => true,
        Side::Connect => false,
    };
    let action = if bind { "bind" } else { "connect" };
    let failed = |source| PeerError::Endpoint {
        action,
        endpoint: endpoint.to_owned(),
        source,
    };
    check(endpoint)?;
    if endpoint.contains("::") || endpoint.contains('[') {
        socket.set_ipv6(true).map_err(failed)?;
    }
    if !bind {
        socket.connect(endpoint).map_err(failed)?;
        return Ok(endpoint.to_owned());
    }
    let deadline = Instant::now() + patience;
    loop {
        match socket.bind(endpoint) {
            Ok(()) => break,
            Err(zmq::Error::EADDRINUSE) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(source) => return Err(failed(source)),
        }
    }
    let bound = socket.get_last_endpoint().map_err(failed)?;
    Ok(bound.unwrap_or_else(|_| endpoint.to_owned()))
}

/// Refuses what libzmq would take in another sense or panic on: it counts a port
/// above 65,535 from 0 again.
fn check(endpoint: &str) -> Result<()> {
    let bad = |why: &str| Err(PeerError::Config(format!("{endpoint:?}: {why}")));
    if endpoint.contains('\0') {
        return bad("an endpoint has no NUL");
    }
    if !endpoint.contains("://") {
        return bad(&format!("no transport; did you mean tcp://{endpoint}?"));
    }
    let Some(address) = endpoint.strip_prefix("tcp://") else {
        return Ok(());
    };
    match address.rsplit_once(':') {
        Some((_, "*")) => Ok(()),
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(()),
        _ => bad("its port is not between 0 and 65535"),
    }
}

/// A duration as libzmq wants it. Never -1, which means for ever.
pub(crate) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// Receives one message without blocking; none when there is none. Frames past
/// `keep` are read and dropped, and only counted: the sender does not choose
/// how much memory a message takes here.
pub(crate) fn receive(
    socket: &zmq::Socket,
    keep: usize,
) -> zmq::Result<Option<(Vec<zmq::Message>, usize)>> {
    let mut frames = Vec::with_capacity(keep);
    let mut count = 0;
    loop {
        let frame = match socket.recv_msg(zmq::DONTWAIT) {
            Ok(frame) => frame,
            Err(zmq::Error::EAGAIN) if count == 0 => return Ok(None),
            Err(zmq::Error::EINTR) => continue,
            Err(error) => return Err(error),
        };
        let more = frame.get_more();
        count += 1;
        if count <= keep {
            frames.push(frame);
        }
        if !more {
            return Ok(Some((frames, count)));
        }
    }
}

/// Polls, taking an interrupted call for one that found nothing.
pub(crate) fn poll(items: &mut [zmq::PollItem], timeout: Duration) -> Result<i32> {
    match zmq::poll(items, i64::from(millis(timeout))) {
        Err(zmq::Error::EINTR) => Ok(0),
        other => other.map_err(PeerError::socket("poll")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_bind_to_wildcards_and_connect_to_names() {
        for (endpoint, bound) in [
            ("tcp://*:5557", true),
            ("tcp://[::1]:5557", true),
            ("tcp://127.0.0.1:*", true),
            ("ipc:///tmp/a", true),
            ("inproc://a", true),
            ("tcp://collector:5557", false),
            ("tcp://10.0.0.1:5557", false),
        ] {
            assert_eq!(binds(endpoint), bound, "{endpoint}");
        }
    }

    #[test]
    fn ports_are_counted_up() {
        let nth = |endpoint, n| nth(endpoint, n).ok();
        assert_eq!(nth("tcp://*:5557", 2).unwrap(), "tcp://*:5559");
        assert_eq!(nth("tcp://[::1]:5557", 1).unwrap(), "tcp://[::1]:5558");
        assert_eq!(nth("tcp://127.0.0.1:*", 3).unwrap(), "tcp://127.0.0.1:*");
        assert_eq!(nth("ipc:///tmp/a", 1).unwrap(), "ipc:///tmp/a_dp1");
        assert_eq!(nth("tcp://*:65535", 0).unwrap(), "tcp://*:65535");
        assert_eq!(nth("tcp://*:65535", 1), None);
        assert_eq!(nth("tcp://host", 1), None);
    }

    #[test]
    fn endpoints_that_libzmq_would_bend_are_refused() {
        for (endpoint, good) in [
            ("tcp://*:65535", true),
            ("tcp://[::1]:*", true),
            ("ipc:///tmp/99999", true),
            ("tcp://*:65536", false),
            ("tcp://host", false),
            ("tcp://host:", false),
            ("host:1", false),
            ("ipc:///tmp/\0", false),
        ] {
            assert_eq!(check(endpoint).is_ok(), good, "{endpoint}");
        }
    }

    #[test]
    fn wildcards_become_loopback() {
        assert_eq!(connectable("tcp://0.0.0.0:1"), "tcp://127.0.0.1:1");
        assert_eq!(connectable("tcp://[::]:1"), "tcp://[::1]:1");
        assert_eq!(connectable("ipc:///tmp/a"), "ipc:///tmp/a");
    }
}
