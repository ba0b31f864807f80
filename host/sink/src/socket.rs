//! Making a sink's sockets: every option that matters is set here, none is
//! left to libzmq's defaults.
//!
//! ZMTP heartbeats stay off: libzmq 4.3.4 aborts the process when a peer that
//! stopped reading resumes under them. Dead peers are found by TCP keepalive.

use crate::error::SinkError;
use penstock_event::Mode;
use std::time::{Duration, Instant};
use zmq::{Context, Socket, SocketType};

/// What a peer may send to a sink, in bytes: subscriptions, and replay
/// requests of eight bytes.
const MAX_INBOUND: i64 = 64 * 1024;

/// libzmq gives an endpoint up a little after its socket is closed: a sink that
/// follows another on the same endpoint asks again for so long.
pub(crate) const BIND_PATIENCE: Duration = Duration::from_millis(300);

pub(crate) struct Plan<'a> {
    pub name: &'a str,
    pub kind: SocketType,
    pub endpoint: &'a str,
    pub mode: Mode,
    pub hwm: u32,
}

/// A socket, set up and bound or connected.
pub(crate) fn open(ctx: &Context, plan: &Plan<'_>) -> Result<Socket, SinkError> {
    let name = || plan.name.to_owned();
    let endpoint = || plan.endpoint.to_owned();
    let socket = set_up(ctx, plan).map_err(|source| SinkError::Socket {
        name: name(),
        endpoint: endpoint(),
        source,
    })?;
    match plan.mode {
        Mode::Bind => bind(&socket, plan.endpoint).map_err(|source| SinkError::Bind {
            name: name(),
            endpoint: endpoint(),
            source,
        })?,
        Mode::Connect => socket
            .connect(plan.endpoint)
            .map_err(|source| SinkError::Connect {
                name: name(),
                endpoint: endpoint(),
                source,
            })?,
    }
    Ok(socket)
}

fn bind(socket: &Socket, endpoint: &str) -> zmq::Result<()> {
    let until = Instant::now() + BIND_PATIENCE;
    loop {
        match socket.bind(endpoint) {
            Err(zmq::Error::EADDRINUSE) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

fn set_up(ctx: &Context, plan: &Plan<'_>) -> zmq::Result<Socket> {
    let mut socket = ctx.socket(plan.kind)?;
    let hwm = i32::try_from(plan.hwm).unwrap_or(i32::MAX);
    socket.set_sndhwm(hwm)?;
    socket.set_rcvhwm(10_000)?;
    // Set again on closing; until then a failed open must not hold the context.
    socket.set_linger(0)?;
    socket.set_maxmsgsize(MAX_INBOUND)?;
    socket.set_handshake_ivl(10_000)?;
    socket.set_reconnect_ivl(100)?;
    socket.set_reconnect_ivl_max(1_500)?;
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(5)?;
    socket.set_tcp_keepalive_intvl(3)?;
    socket.set_tcp_keepalive_cnt(3)?;
    if plan.endpoint.starts_with("tcp://[") {
        socket.set_ipv6(true)?;
    }
    if plan.kind == SocketType::XPUB {
        set_no_drop(&mut socket)?;
    }
    Ok(socket)
}

/// `ZMQ_XPUB_NODROP`, which the `zmq` crate does not offer: a full pipe makes
/// the send fail with `EAGAIN` instead of losing the message in silence.
#[allow(unsafe_code)]
fn set_no_drop(socket: &mut Socket) -> zmq::Result<()> {
    let on: std::ffi::c_int = 1;
    // SAFETY: the socket is open and ours alone; the option takes an int, which
    // libzmq copies before it returns.
    let rc = unsafe {
        zmq_sys::zmq_setsockopt(
            socket.as_mut_ptr(),
            zmq_sys::ZMQ_XPUB_NODROP as std::ffi::c_int,
            (&raw const on).cast(),
            size_of_val(&on),
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        // SAFETY: reads the calling thread's error number.
        Err(zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() }))
    }
}

/// The endpoint with the port that the system chose.
pub(crate) fn actual(socket: &Socket, configured: &str) -> String {
    match socket.get_last_endpoint() {
        // What the user wrote says more than libzmq's reading of a host name.
        Ok(Ok(actual)) if configured.ends_with(":*") || configured.ends_with(":0") => actual,
        _ => configured.to_owned(),
    }
}

/// Before a socket is dropped: libzmq goes on sending for `linger`, but not
/// past `deadline`.
pub(crate) fn set_linger(socket: &Socket, linger: Duration, deadline: Option<Instant>) {
    let left = deadline.map_or(Duration::ZERO, |d| {
        d.saturating_duration_since(Instant::now())
    });
    let linger = i32::try_from(linger.min(left).as_millis()).unwrap_or(i32::MAX);
    // It fails only when the context is gone, and the messages with it.
    let _ = socket.set_linger(linger);
}

/// A number of milliseconds for `zmq::poll`, rounded up, at least 1.
pub(crate) fn poll_millis(wait: Duration) -> i64 {
    i64::try_from(wait.as_micros().div_ceil(1_000))
        .unwrap_or(i64::MAX)
        .max(1)
}
