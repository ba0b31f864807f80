//! Work that gives way to events.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};

/// How much it gives way, as for `nice`. With 5, a new build never caught up with an index
/// that takes half of what two cores can do.
const YIELDS: i32 = 2;

/// Works on a thread of less priority: on a busy machine the events go first. One of
/// its own, since threads begin with the priority of those that start them, and none may
/// raise its own again. Where no thread is to be had, on this one.
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let work = Mutex::new(Some(work));
    let take = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let begun = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name);
        let yielding = || {
            // Without it everything works, later.
            let _ = rustix::process::nice(YIELDS);
            take().map(|work| work())
        };
        let thread = thread.spawn_scoped(scope, yielding).ok()?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    match (begun, take()) {
        (Some(done), _) => done,
        (None, Some(work)) => work(),
        (None, None) => unreachable!("work is taken by who does it"),
    }
}
