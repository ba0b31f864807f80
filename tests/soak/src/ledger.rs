//! What was published against what came out.
//!
//! - *Lost*: published, and never came out.
//! - *Doubled*: came out again under a position that had come out.
//! - *Wrong*: another content than was published, another epoch, nobody's batch, or
//!   behind a later batch of its engine.

use std::collections::HashMap;

/// Examples kept.
const EXAMPLES: usize = 5;

/// What came out of the sink.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// The engine; none: no source of ours.
    pub engine: Option<usize>,
    pub epoch: u64,
    pub sequence: u64,
    pub digest: u64,
    /// When, in ns.
    pub at: u64,
}

/// All batches of all engines.
pub struct Ledger {
    engines: Vec<Book>,
    /// Batches of the log.
    pub published: u64,
    /// Those of them that came out.
    pub delivered: u64,
    pub doubled: u64,
    pub wrong: u64,
    pub examples: Vec<String>,
}

/// One engine's batches.
#[derive(Default)]
struct Book {
    /// In the log, not out yet: digest and time.
    awaited: HashMap<u64, (u64, u64)>,
    /// Out before the log told of them: digest and time.
    early: HashMap<u64, (u64, u64)>,
    /// Sequences that came out, a bit each.
    out: Vec<u64>,
    last: Option<u64>,
}

// === impl Ledger ===

impl Ledger {
    pub fn new(engines: usize) -> Self {
        Self {
            engines: (0..engines).map(|_| Book::default()).collect(),
            published: 0,
            delivered: 0,
            doubled: 0,
            wrong: 0,
            examples: Vec::new(),
        }
    }

    /// The log tells of a batch. Its time and when it came out, if it has already.
    pub fn publish(
        &mut self,
        engine: u32,
        sequence: u64,
        digest: u64,
        at: u64,
    ) -> Option<(u64, u64)> {
        self.published += 1;
        let book = self.engines.get_mut(engine as usize)?;
        match book.early.remove(&sequence) {
            Some((theirs, arrived)) => {
                self.deliver(digest == theirs, || {
                    format!("engine {engine}, {sequence}: content")
                });
                Some((at, arrived))
            }
            None => {
                book.awaited.insert(sequence, (digest, at));
                None
            }
        }
    }

    /// A batch came out. When it was published, if that is known and it is the first.
    pub fn arrive(&mut self, batch: Arrived) -> Option<u64> {
        let Arrived {
            sequence,
            digest,
            at,
            ..
        } = batch;
        let mine = batch.engine.filter(|_| batch.epoch == 0);
        let Some((engine, book)) = mine.and_then(|e| Some((e, self.engines.get_mut(e)?))) else {
            self.wrong(|| format!("{batch:?}: nobody's batch, or an epoch that never was"));
            return None;
        };
        if !book.first(sequence) {
            self.doubled += 1;
            self.example(|| format!("engine {engine}, {sequence}: came out twice"));
            return None;
        }
        let behind = book.last.is_some_and(|last| sequence < last);
        book.last = Some(sequence.max(book.last.unwrap_or(0)));
        let known = book.awaited.remove(&sequence);
        if known.is_none() {
            book.early.insert(sequence, (digest, at));
        }
        if behind {
            self.wrong(|| format!("engine {engine}, {sequence}: behind a later one"));
        }
        let (theirs, published) = known?;
        self.deliver(digest == theirs, || {
            format!("engine {engine}, {sequence}: content")
        });
        Some(published)
    }

    /// Batches that have not come out.
    pub fn awaited(&self) -> u64 {
        self.engines.iter().map(|b| b.awaited.len() as u64).sum()
    }

    /// Nothing comes any more: batches that nobody published are wrong ones, and the
    /// number of lost ones.
    pub fn close(&mut self) -> u64 {
        let strangers: u64 = self.engines.iter().map(|b| b.early.len() as u64).sum();
        self.wrong += strangers;
        let lost = |(e, b): (usize, &Book)| Some((e, *b.awaited.keys().min()?));
        let first: Vec<_> = self.engines.iter().enumerate().filter_map(lost).collect();
        for (engine, sequence) in first {
            self.example(|| format!("engine {engine}, {sequence}: lost, the first of it"));
        }
        self.awaited()
    }

    fn deliver(&mut self, right: bool, what: impl FnOnce() -> String) {
        self.delivered += 1;
        if !right {
            self.wrong(what);
        }
    }

    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        self.example(what);
    }

    fn example(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(what());
        }
    }
}

// === impl Book ===

impl Book {
    /// False: this sequence came out before.
    fn first(&mut self, sequence: u64) -> bool {
        let (at, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if at >= self.out.len() {
            self.out.resize(at + 1, 0);
        }
        let first = self.out[at] & bit == 0;
        self.out[at] |= bit;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(engine: usize, sequence: u64, digest: u64) -> Arrived {
        Arrived {
            engine: Some(engine),
            epoch: 0,
            sequence,
            digest,
            at: 9,
        }
    }

    #[test]
    fn each_mistake_is_counted() {
        let mut ledger = Ledger::new(2);
        for sequence in 0..5 {
            assert_eq!(ledger.publish(0, sequence, 7, 1), None);
        }
        assert_eq!(ledger.arrive(out(0, 0, 7)), Some(1));
        assert_eq!(ledger.arrive(out(0, 0, 7)), None, "doubled");
        assert_eq!(ledger.arrive(out(0, 2, 8)), Some(1), "wrong content");
        assert_eq!(ledger.arrive(out(0, 1, 7)), Some(1), "late");
        assert_eq!(ledger.arrive(out(1, 0, 7)), None, "before the log");
        assert_eq!(ledger.publish(1, 0, 7, 4), Some((4, 9)));
        assert_eq!(ledger.arrive(out(1, 9, 7)), None, "never published");
        let nobody = Arrived {
            engine: None,
            ..out(0, 3, 7)
        };
        assert_eq!(ledger.arrive(nobody), None);
        assert_eq!(ledger.close(), 2, "3 and 4 are lost");
        assert_eq!((ledger.published, ledger.delivered), (6, 4));
        assert_eq!(
            (ledger.doubled, ledger.wrong),
            (1, 4),
            "{:?}",
            ledger.examples
        );
    }
}
