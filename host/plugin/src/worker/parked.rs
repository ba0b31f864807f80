//! Items that were taken from the feed and cannot be handled yet.

use crate::Feed;
use penstock_event::{Item, SourceId};
use std::collections::VecDeque;

/// By source, in order. Others go on meanwhile.
#[derive(Default)]
pub(super) struct Parked {
    sources: Vec<(SourceId, VecDeque<Item>)>,
    items: usize,
    /// The source whose item was taken last.
    taken: Option<SourceId>,
}

/// Items that wait at most; then nothing is taken from the feed.
const MOST: usize = 4_096;

// === impl Parked ===

impl Parked {
    /// The next item that may be handled, and whether it comes straight from the
    /// feed and has not been called done yet.
    pub(super) fn next(
        &mut self,
        feed: &mut dyn Feed,
        mut may: impl FnMut(&Item) -> bool,
    ) -> Option<(Item, bool)> {
        let ready = |(_, items): &(SourceId, VecDeque<Item>)| items.front().is_some_and(&mut may);
        if let Some(at) = self.sources.iter().position(ready) {
            let (source, items) = &mut self.sources[at];
            let item = items.pop_front();
            self.items -= 1;
            self.taken = Some(*source);
            return item.map(|item| (item, false));
        }
        while self.items < MOST {
            let item = feed.next()?;
            let source = item.source();
            let behind = self.sources.iter_mut().find(|(s, _)| *s == source);
            match behind {
                Some((_, items)) => items.push_back(item),
                None if may(&item) => return Some((item, true)),
                None => self.sources.push((source, VecDeque::from([item]))),
            }
            self.items += 1;
            feed.park();
        }
        None
    }

    /// The parked item taken last was handled.
    pub(super) fn done(&mut self, feed: &mut dyn Feed) {
        let Some(source) = self.taken.take() else {
            return;
        };
        let empty = |(s, items): &(SourceId, VecDeque<Item>)| *s == source && items.is_empty();
        if let Some(at) = self.sources.iter().position(empty) {
            self.sources.swap_remove(at);
            feed.unpark(source);
        }
    }

    /// Whatever waited comes again from the feed.
    pub(super) fn clear(&mut self) {
        self.sources.clear();
        self.taken = None;
        self.items = 0;
    }
}
