//! How far each source has been applied in one instance, and the answers made
//! of that: rows from the plugin, positions from here.
//!
//! ```text
//!            Joined                gap                    reset, or a clear
//! (unknown) --------> complete ---------> not complete ---------------------> complete
//!                         | the instance dies: lost, until it joins again
//! ```

use crate::handover::At;
use crate::trail::Mark;
use penstock_event::{
    Answer, Batch, Change, Item, Link, LookupError, Position, Query, Row, SourceId, SourcePosition,
    SourceState,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

#[derive(Default)]
pub(crate) struct Applied {
    sources: HashMap<SourceId, Progress>,
    /// Sources of an instance that died, until the next one has them.
    lost: HashMap<SourceId, (Arc<SourceState>, Mark)>,
}

struct Progress {
    state: Arc<SourceState>,
    instance: Arc<str>,
    position: Option<Position>,
    /// Of the batch there; none: not known.
    digest: Option<u64>,
    complete: bool,
    /// Up to where it was handled, by this instance or by those before it.
    mark: Mark,
}

// === impl Applied ===

impl Applied {
    /// A batch was applied.
    pub(crate) fn batch(&mut self, batch: &Batch) {
        let Some(progress) = self.sources.get_mut(&batch.source) else {
            return;
        };
        progress.position = Some(batch.position());
        progress.digest = Some(batch.digest);
        // After a clear, what came before does not matter.
        if batch.skipped_events() > 0 {
            progress.complete = false;
        } else if !progress.complete {
            progress.complete = batch.clears();
        }
    }

    /// A change was told.
    pub(crate) fn change(&mut self, change: &Change) {
        let id = change.source();
        match change {
            Change::Joined(state) => {
                let mark = self.lost.remove(&id).map(|(_, mark)| mark);
                let progress = Progress {
                    state: state.clone(),
                    instance: state.info.spec.instance.as_str().into(),
                    position: None,
                    digest: None,
                    complete: true,
                    mark: mark.unwrap_or_default(),
                };
                self.sources.insert(id, progress);
            }
            Change::Left(_) => {
                self.lost.remove(&id);
                self.sources.remove(&id);
            }
            Change::Reset { .. } => {
                if let Some(progress) = self.sources.get_mut(&id) {
                    progress.position = None;
                    progress.complete = true;
                }
            }
            Change::Gap { .. } => {
                if let Some(progress) = self.sources.get_mut(&id) {
                    progress.complete = false;
                }
            }
        }
    }

    /// Another instance's state of a source was taken over, as of a position.
    pub(crate) fn inherit(&mut self, source: SourceId, position: Position, at: &At) {
        if let Some(progress) = self.sources.get_mut(&source) {
            progress.position = Some(position);
            progress.digest = at.digest;
            progress.complete = at.complete;
            progress.mark = Mark::at(position);
        }
    }

    /// An item was handled. Where its source stands now.
    pub(crate) fn mark(&mut self, item: &Item) -> Option<(SourceId, Mark)> {
        let (id, mark) = (item.source(), Mark::after(item)?);
        if let Some(progress) = self.sources.get_mut(&id) {
            progress.mark = progress.mark.max(mark);
        }
        Some((id, mark))
    }

    /// Another instance has handled so much: what it published is not published again,
    /// by whoever comes after this one either.
    pub(crate) fn had(&mut self, marks: HashMap<SourceId, Mark>) {
        for (id, mark) in marks {
            if let Some(progress) = self.sources.get_mut(&id).filter(|_| mark != Mark::END) {
                progress.mark = progress.mark.max(mark);
            }
        }
    }

    /// Up to where each source was handled.
    pub(crate) fn marks(&self) -> impl Iterator<Item = (SourceId, Mark)> {
        let lost = self.lost.iter().map(|(id, (_, mark))| (*id, *mark));
        let present = self.sources.iter().map(|(id, p)| (*id, p.mark));
        present.chain(lost)
    }

    /// How far a source was applied, and whether anything is missing.
    pub(crate) fn at(&self, source: SourceId) -> Option<At> {
        let progress = self.sources.get(&source)?;
        Some(At {
            position: progress.position,
            digest: progress.digest,
            complete: progress.complete,
        })
    }

    /// The source's own state.
    pub(crate) fn state(&self, source: SourceId) -> Option<Arc<SourceState>> {
        Some(self.sources.get(&source)?.state.clone())
    }

    /// Every source that has joined.
    pub(crate) fn ids(&self) -> Vec<SourceId> {
        self.sources.keys().copied().collect()
    }

    /// The instance is gone, and with it all that was applied.
    pub(crate) fn lose(&mut self) {
        for (id, progress) in self.sources.drain() {
            self.lost.insert(id, (progress.state, progress.mark));
        }
        self.lost.retain(|_, (state, _)| state.link() != Link::Left);
    }

    pub(crate) fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Whether the query can be put to the plugin at all.
    ///
    /// # Errors
    /// [`LookupError::NoModel`]: no source serves it.
    pub(crate) fn serves(&self, query: &Query) -> Result<(), LookupError> {
        // A source without a model may name one in its events.
        let fits =
            |s: &Arc<SourceState>| s.info.spec.model == query.model || s.info.spec.model.is_empty();
        if self.states().any(fits) {
            return Ok(());
        }
        let known: BTreeSet<_> = self.states().map(|s| s.info.spec.model.clone()).collect();
        Err(LookupError::NoModel(known.into_iter().collect()))
    }

    /// The answer: rows, and positions of every source of the model and of every
    /// row, stale ones left out unless they were asked for.
    pub(crate) fn answer(&self, query: &Query, mut rows: Vec<Row>) -> Answer {
        let shown = |link: Link| match link {
            Link::Left => false,
            Link::Stale => query.include_stale,
            _ => true,
        };
        rows.retain(|row| {
            let source = self.sources.get(&SourceId(row.source));
            source.is_some_and(|p| shown(p.state.link()))
        });
        let of_row: BTreeSet<_> = rows.iter().map(|row| SourceId(row.source)).collect();
        let mut positions: Vec<_> = self
            .sources
            .iter()
            .filter(|(id, p)| p.state.info.spec.model == query.model || of_row.contains(id))
            .filter(|(_, p)| shown(p.state.link()))
            .map(|(id, p)| SourcePosition {
                source: *id,
                name: p.state.info.name.clone(),
                instance: p.instance.clone(),
                position: p.position,
                complete: p.complete && p.state.knowable(),
                verified: p.state.verified(),
                link: p.state.link(),
            })
            .collect();
        positions.sort_by_key(|p| p.source);
        let asked_for = |s: &&Arc<SourceState>| s.info.spec.model == query.model;
        let lost = self.lost.values().map(|(state, _)| state);
        let lost = lost.filter(|s| shown(s.link()));
        // Left out above, and not to be taken for engines that hold nothing.
        let present = self.sources.values().map(|p| &p.state);
        let stale = present.filter(|s| s.link() == Link::Stale && !query.include_stale);
        let mut unavailable: Vec<_> = (lost.chain(stale).filter(asked_for))
            .map(|s| s.info.name.clone())
            .collect();
        unavailable.sort();
        Answer {
            rows,
            positions,
            unavailable,
        }
    }

    fn states(&self) -> impl Iterator<Item = &Arc<SourceState>> {
        self.sources
            .values()
            .map(|p| &p.state)
            .chain(self.lost.values().map(|(state, _)| state))
    }
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
