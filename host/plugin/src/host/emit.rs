//! `emit`: events for the plugins after this one. Kept until the call is over, and let go
//! of if it fails.

use crate::bindings::emit::penstock::plugin::emit::{EmittedEvents, Host};
use crate::ctx::Ctx;
use crate::emission::NO_BATCH;
use penstock_event::Columns;

impl Host for Ctx {
    fn keep(&mut self, events: Vec<u32>) -> Result<(), u32> {
        let count = self.current.as_ref().and_then(|c| c.events);
        let count = count.ok_or(NO_BATCH)?;
        if self.said.is_some() {
            self.note(&[b"keep", &words(&events)]);
        }
        self.emission.keep(events, count)
    }

    fn send(&mut self, events: EmittedEvents) -> Result<(), u32> {
        let current = self.current.as_ref().filter(|c| c.events.is_some());
        let names = current.ok_or(NO_BATCH)?.source.dictionary.clone();
        let columns = Columns {
            events: events.events,
            parents: events.parents,
            hashes: events.hashes,
            tokens: events.tokens,
            token_ends: events.token_ends,
            ..Columns::default()
        };
        if self.said.is_some() {
            let longs = [longs(&columns.parents), longs(&columns.hashes)].concat();
            self.note(&[
                b"emit",
                &words(&columns.events),
                &longs,
                &words(&columns.tokens),
            ]);
        }
        let limit = self.setup.limits.publish_bytes;
        self.emission.send(columns, &names, limit)
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_le_bytes()).collect()
}
