//! A side replay for one plugin that fell behind: batches from the engine, beside
//! the ordered stream and without touching it.

use crate::slab::Key;
use penstock_event::{Epoch, Payload, Sequence, SourceId};
use penstock_order::Micros;

/// One batch of a fetch, not decoded (see [`crate::BatchMaker`]).
#[derive(Clone, Debug)]
pub struct FetchItem {
    /// The epoch that runs.
    pub epoch: Epoch,
    /// The publisher's number. Rising within one fetch, but what the engine no
    /// longer holds is left out.
    pub sequence: Sequence,
    /// The payload as it came.
    pub payload: Payload,
    /// When it was received, µs since 1970.
    pub received_us: i64,
}

/// Takes what a fetch brings: `None` ends it, and comes exactly once unless the
/// taker ended the fetch by returning false. Called on an ingest thread; it must
/// not block.
pub type FetchTaker = Box<dyn FnMut(Option<FetchItem>) -> bool + Send>;

/// A fetch that waits or runs.
pub(crate) struct Fetch {
    pub(crate) to: Sequence,
    pub(crate) epoch: Epoch,
    /// The source's losses when it began: after another one, the answers may be
    /// those of another engine.
    pub(crate) losses: u64,
    /// It ends here, whatever came.
    pub(crate) until: Micros,
    /// It ends here unless another batch comes.
    pub(crate) idle: Micros,
    pub(crate) taker: Taker,
    next: Sequence,
}

/// What [`crate::Ingest::fetch`] was asked for.
pub(crate) struct FetchRequest {
    pub(crate) source: SourceId,
    pub(crate) from: Sequence,
    pub(crate) to: Sequence,
    pub(crate) taker: Taker,
}

/// Whose stream is fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: Key,
    pub(crate) source: Key,
}

/// Calls the taker with `None` when dropped: a fetch always ends.
pub(crate) struct Taker {
    take: Option<FetchTaker>,
    /// Runs once, when the fetch is over.
    over: Option<Box<dyn FnOnce() + Send>>,
}

// === impl Fetch ===

impl Fetch {
    pub(crate) fn new(
        request: FetchRequest,
        epoch: Epoch,
        losses: u64,
        until: Micros,
    ) -> (Sequence, Self) {
        let fetch = Self {
            to: request.to,
            epoch,
            losses,
            until,
            idle: Micros::MAX,
            taker: request.taker,
            next: request.from,
        };
        (request.from, fetch)
    }

    /// Hands on one batch. False when the fetch is over.
    pub(crate) fn take(&mut self, item: FetchItem) -> bool {
        let sequence = item.sequence;
        if sequence < self.next {
            return true;
        }
        if sequence > self.to {
            return false;
        }
        self.next = sequence.saturating_add(1);
        self.taker.give(item) && sequence < self.to
    }
}

// === impl Taker ===

impl Taker {
    pub(crate) fn new(take: FetchTaker, over: Box<dyn FnOnce() + Send>) -> Self {
        Self {
            take: Some(take),
            over: Some(over),
        }
    }

    fn give(&mut self, item: FetchItem) -> bool {
        let more = self.take.as_mut().is_some_and(|take| take(Some(item)));
        if !more {
            self.take = None;
        }
        more
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        if let Some(over) = self.over.take() {
            over();
        }
        if let Some(mut take) = self.take.take() {
            take(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn item(sequence: Sequence) -> FetchItem {
        FetchItem {
            epoch: Epoch(0),
            sequence,
            payload: Payload::new(),
            received_us: 0,
        }
    }

    fn fetch(from: Sequence, to: Sequence, max: usize) -> (Fetch, Arc<Mutex<Vec<Option<u64>>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let take: FetchTaker = Box::new(move |item| {
            let mut log = log.lock().unwrap();
            log.push(item.map(|item| item.sequence));
            log.len() < max
        });
        let request = FetchRequest {
            source: SourceId(1),
            from,
            to,
            taker: Taker::new(take, Box::new(|| {})),
        };
        (Fetch::new(request, Epoch(0), 0, 9).1, seen)
    }

    #[test]
    fn only_what_was_asked_for_and_then_the_end() {
        let (mut fetch, seen) = fetch(3, 5, 99);
        for (sequence, more) in [(1, true), (3, true), (3, true), (5, false)] {
            assert_eq!(fetch.take(item(sequence)), more);
        }
        drop(fetch);
        assert_eq!(*seen.lock().unwrap(), [Some(3), Some(5), None]);
    }

    #[test]
    fn a_taker_that_has_enough_is_not_called_again() {
        let (mut fetch, seen) = fetch(0, 9, 1);
        assert!(!fetch.take(item(0)));
        drop(fetch);
        assert_eq!(*seen.lock().unwrap(), [Some(0)]);
    }
}
