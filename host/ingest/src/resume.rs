//! Going on where a daemon before this one stopped.
//!
//! ```text
//! checkpoint -> Sources::resume_from -> a source of that name -> order machine:
//!   the saved batch is asked for again ─┬─ the same: on behind it, in its epoch
//!                                       └─ else: a reset, its epoch + 1, from the first
//! ```

use crate::Sources;
use penstock_event::{Beginning, Identity, Mark, SourceState};
use serde::{Deserialize, Serialize};

/// Where a source was left, from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Which stream this is about.
    pub source: Identity,
    /// The last batch applied ([`Batch::mark`](penstock_event::Batch::mark)).
    pub mark: Mark,
    /// Nothing was known to be missing up to it.
    pub complete: bool,
}

/// Looks up where a new source begins, and says so in its state.
pub(crate) fn set_out(state: &SourceState, sources: &Sources) -> Option<Resume> {
    let resume = sources.point(&state.info.spec.identity())?;
    let position = resume.mark.position;
    tracing::info!(source = &*state.info.name, %position, "goes on from a checkpoint");
    state.set_mark(resume.mark);
    state.set_complete(resume.complete);
    state.set_beginning(Beginning {
        epoch: position.epoch,
        resumed: Some(position.sequence),
    });
    Some(resume)
}
