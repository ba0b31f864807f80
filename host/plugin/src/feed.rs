use crate::Recent;
use penstock_event::{Item, SourceId};
use std::thread::Thread;

/// Where an instance's thread gets its items: a lane of the router. One
/// consumer, the runner's thread; nothing here blocks.
///
/// Contract: for each source, `Joined` comes before anything else, and items
/// come in order, exactly once or covered by a `Gap`. After
/// [`rewind`](Self::rewind) nothing queued before comes any more: each source
/// joins again and is fed from the start of what is still to be had. A source
/// that the plugin is not fed any more is told as `Left`, then too.
pub trait Feed: Send {
    /// Called first, by each thread that takes from then on. Whoever queues an item
    /// when there was none calls `runner.unpark()`.
    fn attach(&mut self, runner: Thread);

    /// The thread looks for items by itself, soon, and need not be unparked (true), or
    /// must be again.
    fn rest(&mut self, _rests: bool) {}

    /// The next item, if one waits.
    fn next(&mut self) -> Option<Item>;

    /// The item taken last has been handled: the source's cursor moves past it. Not
    /// called for one that killed the instance, which may come again.
    fn done(&mut self);

    /// The item taken last waits elsewhere. Not called again for it: until
    /// [`unpark`](Self::unpark) its source goes on from there if the instance dies.
    fn park(&mut self) {
        self.done();
    }

    /// No item of the source waits elsewhere any more.
    fn unpark(&mut self, _source: SourceId) {}

    /// The plugin's state is gone: feed everything again.
    fn rewind(&mut self);

    /// The last batches of a source that the host still holds, oldest first, at most
    /// `most`.
    fn recent(&self, _source: SourceId, _most: usize) -> Vec<Recent> {
        Vec::new()
    }

    /// What waits, for status.
    fn waiting(&self) -> Waiting;
}

/// What waits in a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Items.
    pub items: usize,
    /// Their bytes.
    pub bytes: usize,
}
