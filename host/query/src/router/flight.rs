//! Requests in flight: whose they are, when they must end, and how many a client
//! may have. No I/O; the time comes in.

use crate::wire::Encoding;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;
use zmq::Message;

/// A request that waits for its reply.
pub(super) struct Waiting {
    /// Frames that lead back to the client, up to the delimiter.
    pub envelope: Vec<Message>,
    pub encoding: Encoding,
    /// The raw id.
    pub id: Option<Vec<u8>>,
    pub since: Instant,
}

struct Entry {
    client: Arc<[u8]>,
    deadline: Instant,
    /// None once the deadline has been answered: the place stays taken until
    /// the plugin lets go of it, since the lookup still stands in its queue.
    waiting: Option<Waiting>,
}

pub(super) struct Flights {
    entries: HashMap<u64, Entry>,
    deadlines: BTreeSet<(Instant, u64)>,
    clients: HashMap<Arc<[u8]>, usize>,
    next: u64,
    most: usize,
    most_per_client: usize,
}

// === impl Flights ===

impl Flights {
    pub(super) fn new(most: usize, most_per_client: usize) -> Self {
        Self {
            entries: HashMap::new(),
            deadlines: BTreeSet::new(),
            clients: HashMap::new(),
            next: 0,
            most,
            most_per_client,
        }
    }

    /// True when this client may have one more.
    pub(super) fn has_room(&self, client: &[u8]) -> bool {
        let own = self.clients.get(client).copied().unwrap_or(0);
        self.entries.len() < self.most && own < self.most_per_client
    }

    /// Notes a request; the number is its name from now on.
    pub(super) fn begin(&mut self, client: Vec<u8>, deadline: Instant, waiting: Waiting) -> u64 {
        let client: Arc<[u8]> = match self.clients.get_key_value(client.as_slice()) {
            Some((known, _)) => Arc::clone(known),
            None => client.into(),
        };
        *self.clients.entry(Arc::clone(&client)).or_default() += 1;
        let number = self.next;
        self.next += 1;
        self.deadlines.insert((deadline, number));
        let entry = Entry {
            client,
            deadline,
            waiting: Some(waiting),
        };
        self.entries.insert(number, entry);
        number
    }

    /// The plugin has spoken: the place is free. None when the deadline had
    /// been answered before.
    pub(super) fn end(&mut self, number: u64) -> Option<Waiting> {
        let entry = self.entries.remove(&number)?;
        if let Some(count) = self.clients.get_mut(&entry.client) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&entry.client);
            }
        }
        self.deadlines.remove(&(entry.deadline, number));
        entry.waiting
    }

    /// A request whose deadline has passed, each once.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Waiting> {
        let &(deadline, number) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.deadlines.pop_first();
        self.entries.get_mut(&number)?.waiting.take()
    }

    /// The next deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Requests that still await a reply.
    pub(super) fn awaited(&self) -> usize {
        self.deadlines.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn waiting(now: Instant) -> Waiting {
        Waiting {
            envelope: Vec::new(),
            encoding: Encoding::Json,
            id: None,
            since: now,
        }
    }

    #[test]
    fn places_are_bounded_overall_and_for_each_client() {
        let now = Instant::now();
        let mut flights = Flights::new(3, 2);
        let a1 = flights.begin(b"a".to_vec(), now, waiting(now));
        flights.begin(b"a".to_vec(), now, waiting(now));
        assert!(!flights.has_room(b"a") && flights.has_room(b"b"));
        flights.begin(b"b".to_vec(), now, waiting(now));
        assert!(!flights.has_room(b"c"));
        assert!(flights.end(a1).is_some() && flights.end(a1).is_none());
        assert!(flights.has_room(b"a") && flights.has_room(b"c"));
    }

    #[test]
    fn a_deadline_is_answered_once_and_its_place_freed_by_the_plugin() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut flights = Flights::new(2, 2);
        let late = flights.begin(b"a".to_vec(), later, waiting(now));
        let soon = flights.begin(b"a".to_vec(), now, waiting(now));
        assert_eq!(flights.next_deadline(), Some(now));
        assert!(flights.expired(now).is_some());
        assert!(flights.expired(now).is_none());
        assert_eq!(flights.next_deadline(), Some(later));
        assert_eq!(flights.awaited(), 1);
        assert!(!flights.has_room(b"a"), "its lookup is still queued");
        assert!(flights.end(soon).is_none(), "answered before");
        assert!(flights.has_room(b"a"));
        assert!(flights.end(late).is_some());
        assert_eq!(flights.awaited(), 0);
        assert!(flights.clients.is_empty());
    }
}
