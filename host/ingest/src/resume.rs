//! Going on where a daemon before this one stopped.
//!
//! ```text
//! checkpoint -> Sources::resume_from -> a source of that name -> order machine:
//!   the saved batch is asked for again ─┬─ the same: on behind it, in its epoch
//!                                       └─ else: a reset, its epoch + 1, from the first
//! ```

use crate::Sources;
use penstock_event::{Beginning, Epoch, Identity, Mark, NameKind, SourceState};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a source was left, from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Which stream this is about.
    pub source: Identity,
    /// [`Beginning::lineage`].
    pub lineage: u64,
    /// The last batch applied ([`Batch::mark`](penstock_event::Batch::mark)).
    pub mark: Mark,
    /// Nothing was known to be missing up to it.
    pub complete: bool,
    /// When it was written, µs since 1970.
    #[serde(default)]
    pub written_us: i64,
    /// The dictionary, by code from 1: what a plugin keeps may refer to it.
    #[serde(default)]
    pub names: Vec<(NameKind, String)>,
}

// === impl Resume ===

impl Resume {
    /// What to keep of a source after this batch.
    #[must_use]
    pub fn of(state: &SourceState, mark: Mark, complete: bool) -> Self {
        Self {
            source: state.info.spec.identity(),
            lineage: state.beginning().lineage,
            mark,
            complete,
            written_us: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX)),
            names: (state.dictionary.entries(0, u32::MAX).into_iter())
                .map(|entry| (entry.kind, entry.text.to_string()))
                .collect(),
        }
    }

    /// True where the position is one of this source's, behind or ahead of where it is,
    /// so that a lane can go on there. Otherwise what was kept with it is void: two
    /// checkpoints of one name may be of different times of it.
    #[must_use]
    pub fn fits(&self, state: &SourceState) -> bool {
        self.lineage == state.beginning().lineage && self.source == state.info.spec.identity()
    }
}

/// Looks up where a new source begins, and says so in its state.
pub(crate) fn set_out(state: &SourceState, sources: &Sources) -> Option<Resume> {
    let resume = sources.point(&state.info.spec.identity());
    let position = resume.as_ref().map(|resume| resume.mark.position);
    state.set_beginning(Beginning {
        lineage: resume.as_ref().map_or_else(rand::random, |r| r.lineage),
        epoch: position.map_or(Epoch(0), |position| position.epoch),
        resumed: position.map(|position| position.sequence),
    });
    if let Some(resume) = &resume {
        let position = resume.mark.position;
        tracing::info!(source = &*state.info.name, %position, "goes on from a checkpoint");
        state.set_mark(resume.mark);
        state.set_complete(resume.complete);
        for (kind, name) in &resume.names {
            state.dictionary.code(*kind, name);
        }
    }
    resume
}
