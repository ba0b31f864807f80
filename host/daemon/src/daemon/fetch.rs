use penstock_event::{Sequence, SourceId};
use penstock_ingest::{FetchItem, Ingest};
use penstock_route::{Fetch, Fetched};
use std::sync::{Arc, OnceLock};

/// The router's way back to the engines. Ingest needs the router to start, so it
/// is set a moment later; until then there is nothing to fetch.
#[derive(Default)]
pub struct Engines {
    pub ingest: OnceLock<Arc<Ingest>>,
}

impl Fetch for Engines {
    fn fetch(
        &self,
        source: SourceId,
        first: Sequence,
        last: Sequence,
        mut take: Box<dyn FnMut(Fetched) -> bool + Send>,
    ) {
        let Some(ingest) = self.ingest.get() else {
            take(Fetched::End);
            return;
        };
        let mut open = true;
        ingest.fetch(
            source,
            first,
            last,
            Box::new(move |item: Option<FetchItem>| {
                if open {
                    open = match item {
                        Some(item) => take(Fetched::Batch(item.sequence, item.payload)),
                        None => take(Fetched::End),
                    };
                }
                open
            }),
        );
    }
}
