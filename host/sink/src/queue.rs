//! The bounded queue between plugins and a sink's thread.
//!
//! Guarantees: `publish` never waits for the sink, only for the lock, which is
//! held for a few instructions; messages leave in the order they came in; what
//! the thread holds in hand still counts against the bounds until it is done
//! with. A thread that sleeps on [`Queue::wake_fd`] is woken by the first
//! message and by closing; one that is awake costs publishers no system call.
//!
//! It does not say what becomes of a message: that is the sink's part.

use crate::config::Limits;
use crate::status::Stats;
use bytes::Bytes;
use penstock_event::{Position, Publish, PublishError, SourceInfo, Wakeups};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One message and the batch that caused it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub topic: Bytes,
    pub payload: Bytes,
    pub source: Option<Arc<str>>,
    pub position: Position,
    /// Numbers left out of the sequence before this one.
    pub skipped: u64,
}

impl Message {
    pub(crate) fn bytes(&self) -> usize {
        self.topic.len().saturating_add(self.payload.len())
    }
}

pub(crate) struct Queue {
    limits: Limits,
    stats: Arc<Stats>,
    wake: OwnedFd,
    state: Mutex<State>,
    finished: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Message>,
    /// Messages waiting and in hand.
    messages: usize,
    /// Bytes of them.
    bytes: usize,
    /// Numbers to leave out before the next message.
    skipped: u64,
    /// Messages taken since the thread last had nothing to do.
    taken: u64,
    wakeups: Option<Wakeups>,
    /// The thread is about to sleep on the descriptor.
    sleeping: bool,
    /// Set once: no more messages; the thread may go on until then.
    deadline: Option<Instant>,
    /// The thread is gone.
    finished: bool,
}

impl Queue {
    pub(crate) fn new(limits: Limits, stats: Arc<Stats>) -> io::Result<Self> {
        Ok(Self {
            limits,
            stats,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            state: Mutex::new(State::default()),
            finished: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // It fails only when the counter is full, and then the thread wakes anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn push(&self, mut message: Message) -> Result<(), PublishError> {
        let bytes = message.bytes();
        let mut state = self.lock();
        if state.deadline.is_some() {
            return Err(PublishError::Closed);
        }
        let large = bytes > self.limits.message_bytes;
        let full = state.messages >= self.limits.messages
            || state.bytes.saturating_add(bytes) > self.limits.bytes;
        if large || full {
            state.skipped += 1;
            return Err(match large {
                true => PublishError::TooLarge,
                false => PublishError::Full,
            });
        }
        message.skipped = std::mem::take(&mut state.skipped);
        state.messages += 1;
        state.bytes += bytes;
        state.waiting.push_back(message);
        let wake = std::mem::take(&mut state.sleeping);
        drop(state);
        if wake {
            self.wake();
        }
        Ok(())
    }

    // === the thread's side ===

    /// Moves up to `most` messages into `hand`.
    pub(crate) fn take(&self, hand: &mut VecDeque<Message>, most: usize) {
        let mut state = self.lock();
        let n = state.waiting.len().min(most);
        hand.extend(state.waiting.drain(..n));
        state.taken += n as u64;
        let (messages, bytes) = (state.messages, state.bytes);
        drop(state);
        self.stats.waiting(messages, bytes);
    }

    /// One message, of so many bytes, is sent or dropped.
    pub(crate) fn done(&self, bytes: usize) {
        let mut state = self.lock();
        state.messages = state.messages.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Rests a little if messages come so often that there will be several then. False:
    /// they do not, or some wait.
    pub(crate) fn rest(&self) -> bool {
        let mut state = self.lock();
        if !state.waiting.is_empty() || state.deadline.is_some() {
            return false;
        }
        let taken = std::mem::take(&mut state.taken);
        let now = Instant::now();
        let wakeups = state.wakeups.get_or_insert_with(|| Wakeups::new(now));
        let rest = wakeups.rest(now, taken);
        drop(state);
        rest.map(std::thread::sleep).is_some()
    }

    /// Whether the thread may sleep on the descriptor: nothing waits. From now
    /// on the next message writes to the descriptor.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut state = self.lock();
        state.sleeping = state.waiting.is_empty() && state.deadline.is_none();
        state.sleeping
    }

    /// To be called after each sleep.
    pub(crate) fn awake(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
        let mut state = self.lock();
        state.sleeping = false;
        let (messages, bytes) = (state.messages, state.bytes);
        drop(state);
        self.stats.waiting(messages, bytes);
    }

    pub(crate) fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    pub(crate) fn wake_descriptor(&self) -> &OwnedFd {
        &self.wake
    }

    /// Set once the sink is closing: how long the thread may still go on.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lock().deadline
    }

    /// Whether nothing waits and nothing will come.
    pub(crate) fn exhausted(&self) -> bool {
        let state = self.lock();
        state.deadline.is_some() && state.waiting.is_empty()
    }

    // === the owner's side ===

    /// Refuses new messages; the thread goes on until `deadline` at most.
    pub(crate) fn close(&self, deadline: Instant) {
        let mut state = self.lock();
        state.deadline.get_or_insert(deadline);
        state.sleeping = false;
        drop(state);
        self.wake();
    }

    /// The thread will do nothing more: what is left is counted as unsent.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        state.deadline.get_or_insert_with(Instant::now);
        state.waiting = VecDeque::new();
        let unsent = std::mem::take(&mut state.messages);
        state.bytes = 0;
        state.finished = true;
        drop(state);
        self.stats.unsent_at_exit.add(unsent as u64);
        self.stats.waiting(0, 0);
        self.finished.notify_all();
    }

    /// Waits for [`Self::finish`]; false when `until` passed first.
    pub(crate) fn wait_finished(&self, until: Instant) -> bool {
        let mut state = self.lock();
        while !state.finished {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .finished
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Messages and bytes waiting or in hand, and whether the thread runs.
    pub(crate) fn standing(&self) -> (usize, usize, bool) {
        let state = self.lock();
        (state.messages, state.bytes, !state.finished)
    }
}

impl Publish for Queue {
    fn publish(
        &self,
        topic: Bytes,
        payload: Bytes,
        source: Option<&SourceInfo>,
        position: Position,
    ) -> Result<(), PublishError> {
        self.push(Message {
            topic,
            payload,
            source: source.map(|s| Arc::clone(&s.name)),
            position,
            skipped: 0,
        })
        .inspect_err(|why| self.stats.refused(*why))
    }

    fn skip(&self) -> Result<(), PublishError> {
        let mut state = self.lock();
        if state.deadline.is_some() {
            return Err(PublishError::Closed);
        }
        state.skipped += 1;
        Ok(())
    }
}

/// Finishes the queue when the thread ends, in whatever way.
pub(crate) struct FinishOnDrop(pub Arc<Queue>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let stats = &self.0.stats;
            stats.error("the sink's thread panicked".into());
            tracing::error!(sink = %stats.name, "the sink's thread panicked; the sink is closed");
        }
        self.0.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn queue(messages: usize, bytes: usize) -> Arc<Queue> {
        let limits = Limits {
            messages,
            bytes,
            message_bytes: 8,
        };
        let stats = Arc::new(Stats::new("q", "test"));
        Arc::new(Queue::new(limits, stats).unwrap())
    }

    fn put(queue: &Queue, payload: &'static [u8]) -> Result<(), PublishError> {
        queue.publish(
            Bytes::new(),
            Bytes::from_static(payload),
            None,
            Position::default(),
        )
    }

    #[test]
    fn bounds_hold_for_what_is_in_hand_too() {
        let q = queue(3, 10);
        assert_eq!(put(&q, b"123456789"), Err(PublishError::TooLarge));
        put(&q, b"1234").unwrap();
        put(&q, b"5678").unwrap();
        assert_eq!(put(&q, b"abc"), Err(PublishError::Full), "bytes");
        put(&q, b"9").unwrap();
        assert_eq!(put(&q, b""), Err(PublishError::Full), "messages");

        let mut hand = VecDeque::new();
        q.take(&mut hand, 2);
        assert_eq!(hand.len(), 2);
        assert_eq!(put(&q, b""), Err(PublishError::Full), "still in hand");
        q.done(4);
        put(&q, b"").unwrap();
        q.skip().unwrap();
        q.done(4);
        put(&q, b"").unwrap();
        q.take(&mut hand, 9);
        let skipped: Vec<_> = hand.iter().map(|m| m.skipped).collect();
        assert_eq!(skipped, [1, 0, 1, 2, 1], "each refusal leaves a number out");
        assert_eq!(q.stats.status().dropped_full_queue, 3);
        assert_eq!(q.stats.status().dropped_too_large, 1);
        assert_eq!(q.standing(), (3, 1, true));
    }

    #[test]
    fn a_sleeper_is_woken_once_and_a_closed_queue_refuses() {
        let q = queue(10, 100);
        let mut count = [0u8; 8];
        put(&q, b"a").unwrap();
        assert!(!q.may_sleep(), "something waits");
        assert!(rustix::io::read(&q.wake, &mut count).is_err(), "no wake-up");
        q.take(&mut VecDeque::new(), 10);
        assert!(q.may_sleep());
        put(&q, b"b").unwrap();
        put(&q, b"c").unwrap();
        rustix::io::read(&q.wake, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);

        assert!(!q.wait_finished(Instant::now() + Duration::from_millis(1)));
        q.close(Instant::now());
        assert_eq!(put(&q, b"d"), Err(PublishError::Closed));
        assert!(!q.exhausted());
        q.finish();
        assert!(q.exhausted() && q.wait_finished(Instant::now()));
        assert_eq!(q.stats.status().unsent_at_exit, 3);
    }
}
