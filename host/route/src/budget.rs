use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A bound on bytes that many queues share.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A bound of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
        }
    }

    /// Takes `bytes`, or nothing and says no.
    pub fn take(&self, bytes: usize) -> bool {
        self.used
            .fetch_update(Relaxed, Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }

    /// Takes `bytes` past the limit: for what must not be refused and is small.
    pub fn force(&self, bytes: usize) {
        self.used.fetch_add(bytes, Relaxed);
    }

    /// Gives `bytes` back.
    pub fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// Bytes taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// The bound.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// True while more than the limit is taken.
    #[must_use]
    pub fn over(&self) -> bool {
        self.used() > self.limit
    }
}
