//! From plugin threads back to the ROUTER's thread: a bounded queue and an
//! eventfd that the thread sleeps on beside its socket.
//!
//! Each request in flight owns one [`Ticket`], and a ticket speaks exactly once:
//! with the reply, or by being dropped. The queue has a place for every ticket
//! that may exist, so nothing is lost between the threads.

use crossbeam_queue::ArrayQueue;
use penstock_event::{Answer, LookupError};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A reply and the number of its request.
pub(super) type Done = (u64, Result<Answer, LookupError>);

pub(super) struct Line {
    queue: ArrayQueue<Done>,
    wake: OwnedFd,
    /// The eventfd is set and not read yet: another write would be wasted.
    signalled: AtomicBool,
}

pub(super) struct Ticket {
    number: u64,
    line: Arc<Line>,
    spoken: bool,
}

// === impl Line ===

impl Line {
    pub(super) fn new(places: usize) -> std::io::Result<Self> {
        Ok(Self {
            queue: ArrayQueue::new(places.max(1)),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            signalled: AtomicBool::new(false),
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    pub(super) fn ticket(self: &Arc<Self>, number: u64) -> Ticket {
        Ticket {
            number,
            line: Arc::clone(self),
            spoken: false,
        }
    }

    /// Ends the thread's sleep.
    pub(super) fn wake(&self) {
        if !self.signalled.swap(true, Ordering::SeqCst) {
            // The counter cannot be full: one write for each read.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Takes the signal back; what is queued from now on signals anew.
    pub(super) fn calm(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        // A swap, not a store: it must see what was queued before a signal skipped.
        self.signalled.swap(false, Ordering::SeqCst);
    }

    pub(super) fn pop(&self) -> Option<Done> {
        self.queue.pop()
    }
}

// === impl Ticket ===

impl Ticket {
    pub(super) fn reply(mut self, result: Result<Answer, LookupError>) {
        self.speak(result);
    }

    fn speak(&mut self, result: Result<Answer, LookupError>) {
        self.spoken = true;
        if self.line.queue.push((self.number, result)).is_err() {
            tracing::error!(number = self.number, "a lookup's reply found no place");
        }
        self.line.wake();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.spoken {
            let why = "the plugin went away before it answered".to_owned();
            self.speak(Err(LookupError::Failed(why)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signalled(line: &Line) -> bool {
        let mut items = [zmq::PollItem::from_fd(line.fd(), zmq::POLLIN)];
        zmq::poll(&mut items, 0).unwrap() == 1
    }

    #[test]
    fn a_ticket_speaks_once_even_when_dropped() {
        let line = Arc::new(Line::new(2).unwrap());
        let (kept, dropped) = (line.ticket(1), line.ticket(2));
        assert!(!signalled(&line));
        kept.reply(Err(LookupError::Busy));
        drop(dropped);
        assert!(signalled(&line));
        line.calm();
        assert!(!signalled(&line));
        assert_eq!(line.pop(), Some((1, Err(LookupError::Busy))));
        assert!(matches!(line.pop(), Some((2, Err(LookupError::Failed(_))))));
        assert_eq!(line.pop(), None);
        line.ticket(3).reply(Err(LookupError::Busy));
        assert!(signalled(&line), "signals again after calm");
    }
}
