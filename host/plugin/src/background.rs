//! Work that gives way to events.

/// How much it gives way, as for `nice`. With 5, a new build never caught up with an index
/// that takes half of what two cores can do.
const YIELDS: i32 = 2;

/// Works on a thread of less priority: on a busy machine the events go first. One of
/// its own, since threads begin with the priority of those that start them, and none may
/// raise its own again.
pub fn run<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let work = || {
        // Without it everything works, later.
        let _ = rustix::process::nice(YIELDS);
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name);
        match thread.spawn_scoped(scope, work).map(|thread| thread.join()) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => panic!("no thread to be had: {error}"),
        }
    })
}
