//! Replays: the sockets that ask engines for the past, and how many may run.
//!
//! A replay holds up its engine, so in the whole process only a few run at once;
//! the others wait in line, first come first served. A socket lives only as long
//! as its replay.

use crate::config::IngestConfig;
use crate::context::Contexts;
use crate::endpoint::wants_ipv6;
use crate::frame::{Next, Receiver};
use crate::socket::set_up;
use penstock_event::{Mode, Sequence};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// A DEALER with a request under way.
pub(crate) struct Dealer {
    pub(crate) socket: zmq::Socket,
    receiver: Receiver,
}

/// Who waits for a place: the thread, and the thread's own number for it.
pub(crate) type Ticket = (usize, u64);

/// Lets only so many replays run at once.
pub(crate) struct Gate {
    inner: Mutex<Places>,
}

struct Places {
    free: usize,
    waiting: VecDeque<Ticket>,
}

// === impl Dealer ===

impl Dealer {
    /// Connects and asks for everything from `from` on.
    pub(crate) fn ask(
        endpoint: &str,
        from: Sequence,
        contexts: &Contexts,
        config: &IngestConfig,
    ) -> zmq::Result<Self> {
        let socket = contexts.replay(endpoint).socket(zmq::DEALER)?;
        set_up(&socket, config, wants_ipv6(endpoint, Mode::Connect))?;
        socket.set_sndhwm(16)?;
        socket.connect(endpoint)?;
        let request: [&[u8]; 2] = [b"", &from.to_be_bytes()];
        socket.send_multipart(request, zmq::DONTWAIT)?;
        Ok(Self {
            socket,
            receiver: Receiver::new(),
        })
    }

    pub(crate) fn next(&mut self) -> Next {
        self.receiver.replay(&self.socket)
    }

    /// Topic of the batch received last; empty in the old framing.
    pub(crate) fn topic(&self) -> &[u8] {
        self.receiver.topic()
    }
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            inner: Mutex::new(Places {
                free: places.max(1),
                waiting: VecDeque::new(),
            }),
        }
    }

    /// Takes a place, or stands in line for one and returns false.
    pub(crate) fn enter(&self, ticket: Ticket) -> bool {
        self.with(|places| {
            if places.free > 0 {
                places.free -= 1;
                return true;
            }
            places.waiting.push_back(ticket);
            false
        })
    }

    /// Gives a place back. It goes to the first in line, who is to be told.
    #[must_use]
    pub(crate) fn leave(&self) -> Option<Ticket> {
        self.with(|places| {
            let next = places.waiting.pop_front();
            if next.is_none() {
                places.free += 1;
            }
            next
        })
    }

    /// Leaves the line. False: a place was given already and is on its way.
    pub(crate) fn give_up(&self, ticket: Ticket) -> bool {
        self.with(|places| {
            let at = places.waiting.iter().position(|t| *t == ticket);
            at.is_some_and(|at| places.waiting.remove(at).is_some())
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Places) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_go_to_the_first_in_line() {
        let gate = Gate::new(2);
        assert!(gate.enter((0, 1)));
        assert!(gate.enter((0, 2)));
        for n in 3..6 {
            assert!(!gate.enter((1, n)));
        }
        assert!(gate.give_up((1, 4)));
        assert!(!gate.give_up((1, 4)));
        assert_eq!(gate.leave(), Some((1, 3)));
        assert_eq!(gate.leave(), Some((1, 5)));
        assert_eq!(gate.leave(), None);
        assert!(gate.enter((0, 6)));
        assert_eq!(gate.leave(), None);
        assert_eq!(gate.leave(), None);
    }
}
