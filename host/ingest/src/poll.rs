//! epoll over the descriptors that libzmq gives out, and a way to wake it.
//!
//! libzmq's descriptor says "something happened", not "a message is there". It is
//! watched level-triggered: it stays readable until the socket's commands were
//! processed, which a receive that ends in `EAGAIN` has always done. A socket that
//! is not read to that point must be visited again without waiting.

use crate::slab::Key;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::io;
use std::time::Duration;

/// Whose descriptor is readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Commands wait.
    Wake,
    /// A source's socket or its monitor.
    Line(Key),
    /// A replay's socket.
    Replay(Key),
}

pub(crate) struct Poller {
    epoll: OwnedFd,
}

/// Memory for what one wait brings.
pub(crate) struct Events(Vec<epoll::Event>);

/// Wakes a poller from another thread.
pub(crate) struct Waker(OwnedFd);

/// Events taken from the kernel in one call.
const EVENTS: usize = 256;

impl Events {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS))
    }
}

// === impl Token ===

impl Token {
    fn pack(self) -> u64 {
        match self {
            Self::Wake => 0,
            Self::Line(key) => 1 << 62 | key.pack(),
            Self::Replay(key) => 2 << 62 | key.pack(),
        }
    }

    fn unpack(bits: u64) -> Self {
        match bits >> 62 {
            1 => Self::Line(Key::unpack(bits)),
            2 => Self::Replay(Key::unpack(bits)),
            _ => Self::Wake,
        }
    }
}

// === impl Poller ===

impl Poller {
    pub(crate) fn new(waker: &Waker) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(Token::Wake.pack());
        epoll::add(&epoll, &waker.0, data, epoll::EventFlags::IN)?;
        Ok(Self { epoll })
    }

    pub(crate) fn watch(&self, socket: &zmq::Socket, token: Token) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token.pack());
        with_fd(socket, |fd| {
            epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)
        })
    }

    /// To be called before the socket is closed: libzmq closes the descriptor
    /// later, in another thread.
    pub(crate) fn forget(&self, socket: &zmq::Socket) {
        if let Err(error) = with_fd(socket, |fd| epoll::delete(&self.epoll, fd)) {
            tracing::debug!(%error, "a socket was not watched");
        }
    }

    /// Waits until something is readable or the time is over (none: for ever).
    pub(crate) fn wait(
        &self,
        timeout: Option<Duration>,
        Events(events): &mut Events,
        out: &mut Vec<Token>,
    ) {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        events.clear();
        let waited = epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref());
        match waited {
            Ok(_) => out.extend(events.iter().map(|e| Token::unpack(e.data.u64()))),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => tracing::error!(%error, "epoll failed"),
        }
    }
}

/// Lends a socket's descriptor.
#[allow(unsafe_code)]
fn with_fd(
    socket: &zmq::Socket,
    f: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<()>,
) -> io::Result<()> {
    let fd = socket.get_fd().map_err(io::Error::from)?;
    // SAFETY: the socket owns the descriptor and is borrowed for as long as `f` runs.
    Ok(f(unsafe { BorrowedFd::borrow_raw(fd) })?)
}

// === impl Waker ===

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(eventfd(0, flags)?))
    }

    pub(crate) fn wake(&self) {
        // Only a counter about to overflow refuses, and then the poller wakes anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        // EAGAIN: it was clear already.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}
