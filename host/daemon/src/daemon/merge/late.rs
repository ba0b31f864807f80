//! Lookups whose time is nearly over: they are answered without the shards that have
//! said nothing yet.

use super::Gather;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// When a lookup's time is over, and its number.
pub type Ticket = (Instant, u64);

/// The lookups under way. Its thread starts with the first of them.
#[derive(Clone, Default)]
pub struct Late(Arc<Shared>);

#[derive(Default)]
struct Shared {
    due: Mutex<Due>,
    /// Another lookup is the first to be over.
    sooner: Condvar,
    thread: OnceLock<()>,
}

#[derive(Default)]
struct Due {
    lookups: BTreeMap<Ticket, Arc<Gather>>,
    number: u64,
}

// === impl Late ===

impl Late {
    /// Gives a lookup up at `at`, unless it is forgotten before.
    pub fn watch(&self, at: Instant, lookup: Arc<Gather>) -> Ticket {
        self.0.thread.get_or_init(|| self.start());
        let mut due = self.0.lock();
        due.number += 1;
        let ticket = (at, due.number);
        due.lookups.insert(ticket, lookup);
        let first = due.lookups.first_key_value().map(|(ticket, _)| *ticket);
        drop(due);
        if first == Some(ticket) {
            self.0.sooner.notify_one();
        }
        ticket
    }

    /// It was answered.
    pub fn forget(&self, ticket: Ticket) {
        self.0.lock().lookups.remove(&ticket);
    }

    /// The thread goes with the process: there is nothing that it would have to end.
    fn start(&self) {
        let shared = self.0.clone();
        let thread = std::thread::Builder::new().name("late".into());
        if let Err(error) = thread.spawn(move || shared.run()) {
            tracing::error!("late shards are waited for: no thread to be had: {error}");
        }
    }
}

// === impl Shared ===

impl Shared {
    fn run(&self) {
        let mut due = self.lock();
        loop {
            let now = Instant::now();
            due = match due.lookups.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let lookup = first.remove();
                    drop(due);
                    lookup.give_up();
                    self.lock()
                }
                Some(first) => {
                    let wait = first.key().0 - now;
                    let waited = self.sooner.wait_timeout(due, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.sooner.wait(due);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::gather;
    use super::*;
    use penstock_event::LookupError;
    use std::time::Duration;

    #[test]
    fn what_is_not_answered_in_time_is_given_up_in_the_order_of_deadlines() {
        let late = Late::default();
        let now = Instant::now();
        let soon = Duration::from_secs(20);
        let (never, unheard) = gather(1);
        let ticket = late.watch(now + Duration::from_millis(60), Arc::new(never));
        late.forget(ticket);
        let (second, heard) = gather(1);
        late.watch(now + Duration::from_millis(40), Arc::new(second));
        let (first, heard_first) = gather(1);
        late.watch(now, Arc::new(first));
        let told = heard_first.recv_timeout(soon).unwrap();
        assert_eq!(told, Err(LookupError::Deadline));
        heard.recv_timeout(soon).unwrap().unwrap_err();
        assert!(now.elapsed() >= Duration::from_millis(40));
        assert!(
            unheard.recv_timeout(soon).is_err(),
            "it is gone, unanswered"
        );
        assert!(late.0.lock().lookups.is_empty());
    }
}
