use penstock_event::{Payload, Sequence, SourceId};

/// One step of a fetch.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// A batch, in order of sequence.
    Batch(Sequence, Payload),
    /// No more will come.
    End,
}

/// Asks an engine again for what a lane missed and the ring no longer holds.
pub trait Fetch: Send + Sync {
    /// Asks for `first..=last` of the running epoch. `take` is called from another
    /// thread, must not block, ends the fetch by returning false, and is called
    /// with [`Fetched::End`] exactly once unless it ended the fetch itself.
    fn fetch(
        &self,
        source: SourceId,
        first: Sequence,
        last: Sequence,
        take: Box<dyn FnMut(Fetched) -> bool + Send>,
    );
}
