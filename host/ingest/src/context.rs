//! ZeroMQ contexts. One context has 1,023 sockets and a monitored SUB takes three,
//! so sources are spread over as many contexts as they need. Endpoints of
//! `inproc://` see each other within one context only, so all of those share one,
//! in which other parts of the process (and tests) can bind.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) struct Contexts {
    inproc: zmq::Context,
    /// Replay sockets: at most as many as may run at once.
    replay: zmq::Context,
    per_context: usize,
    pools: Mutex<Vec<Pool>>,
    monitors: AtomicUsize,
}

struct Pool {
    context: zmq::Context,
    used: Arc<AtomicUsize>,
}

/// A place in a context, given back when dropped.
pub(crate) struct Place {
    pub(crate) context: zmq::Context,
    used: Option<Arc<AtomicUsize>>,
}

// === impl Contexts ===

impl Contexts {
    pub(crate) fn new(per_context: usize) -> Self {
        Self {
            inproc: zmq::Context::new(),
            replay: zmq::Context::new(),
            // Beyond 330 the sockets of a context would not suffice.
            per_context: per_context.clamp(1, 330),
            pools: Mutex::default(),
            monitors: AtomicUsize::new(0),
        }
    }

    /// A place for a source's sockets.
    pub(crate) fn place(&self, endpoints: &[String]) -> Place {
        if endpoints.iter().any(|e| e.starts_with("inproc://")) {
            return Place {
                context: self.inproc.clone(),
                used: None,
            };
        }
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let free = pools
            .iter()
            .position(|pool| pool.used.load(Relaxed) < self.per_context);
        let pool = match free.and_then(|at| pools.get(at)) {
            Some(pool) => Pool {
                context: pool.context.clone(),
                used: pool.used.clone(),
            },
            None => {
                let pool = Pool {
                    context: zmq::Context::new(),
                    used: Arc::default(),
                };
                pools.push(Pool {
                    context: pool.context.clone(),
                    used: pool.used.clone(),
                });
                pool
            }
        };
        pool.used.fetch_add(1, Relaxed);
        Place {
            context: pool.context,
            used: Some(pool.used),
        }
    }

    /// The context for a replay from `endpoint`.
    pub(crate) fn replay(&self, endpoint: &str) -> &zmq::Context {
        if endpoint.starts_with("inproc://") {
            &self.inproc
        } else {
            &self.replay
        }
    }

    pub(crate) fn inproc(&self) -> &zmq::Context {
        &self.inproc
    }

    /// An inproc name for a monitor that no other monitor has.
    pub(crate) fn monitor_name(&self) -> String {
        let n = self.monitors.fetch_add(1, Relaxed);
        format!("inproc://penstock-monitor-{n}")
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.pools.lock().unwrap().len()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(used) = &self.used {
            used.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_come_as_needed_and_places_are_reused() {
        let contexts = Contexts::new(2);
        let tcp = ["tcp://h:1".to_owned()];
        let mut places: Vec<_> = (0..5).map(|_| contexts.place(&tcp)).collect();
        assert_eq!(contexts.len(), 3);
        places.clear();
        drop(contexts.place(&tcp));
        assert_eq!(contexts.len(), 3);
        let places: Vec<_> = (0..6).map(|_| contexts.place(&tcp)).collect();
        assert_eq!((places.len(), contexts.len()), (6, 3));
        drop(contexts.place(&["inproc://a".to_owned()]));
        assert_eq!(contexts.len(), 3);
    }
}
