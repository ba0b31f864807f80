//! A source's recent stream: payloads, gaps and resets, bounded in bytes.

use crate::Budget;
use penstock_event::{
    Batch, Beginning, Change, Epoch, GapReason, Payload, Position, ResetReason, Sequence,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a ring keeps of one step.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Batch(Kept),
    Gap {
        epoch: Epoch,
        first: Sequence,
        last: Sequence,
        reason: GapReason,
    },
    Reset {
        epoch: Epoch,
        reason: ResetReason,
    },
}

/// A batch, still encoded: columns are made again for whoever comes late.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub position: Position,
    pub received_us: i64,
    pub replayed: bool,
    pub payload: Payload,
    pub digest: u64,
}

/// One epoch: how it began and how far it got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochSpan {
    pub epoch: Epoch,
    pub reason: Option<ResetReason>,
    /// Last sequence delivered or reported missing.
    pub last: Option<Sequence>,
}

/// Epochs remembered for lanes that slept through restarts.
const SPANS: usize = 64;

/// A ring may grow to this many times its limit while a lane fetches.
const WHILE_FETCHING: usize = 8;

/// Offsets count entries since the source joined; `start..end` are held. Where a
/// source goes on from a checkpoint, all that came before stands for the first one,
/// which is lost from the beginning.
#[derive(Debug)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    start: u64,
    bytes: usize,
    limit: usize,
    /// Lanes that fetch from the engine what the ring lost: while they do, it loses
    /// less, or they would never arrive.
    fetching: usize,
    total: Arc<Budget>,
    spans: VecDeque<EpochSpan>,
}

impl Entry {
    fn bytes(&self) -> usize {
        std::mem::size_of::<Self>()
            + match self {
                Self::Batch(kept) => kept.payload.len(),
                _ => 0,
            }
    }
}

impl Entry {
    /// Whoever is at `position` knows of it.
    fn upto(&self, position: Position) -> bool {
        let at = |epoch, sequence| Position { epoch, sequence } <= position;
        match self {
            Self::Batch(kept) => kept.position <= position,
            Self::Gap { epoch, last, .. } => at(*epoch, *last),
            Self::Reset { epoch, .. } => *epoch <= position.epoch,
        }
    }
}

impl Ring {
    pub fn new(limit: usize, total: Arc<Budget>, beginning: Beginning) -> Self {
        Self {
            entries: VecDeque::new(),
            start: u64::from(beginning.resumed.is_some()),
            bytes: 0,
            limit,
            fetching: 0,
            total,
            spans: VecDeque::from([EpochSpan {
                epoch: beginning.epoch,
                reason: None,
                last: beginning.resumed,
            }]),
        }
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn end(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    pub fn get(&self, offset: u64) -> Option<&Entry> {
        let at = offset.checked_sub(self.start)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// A lane begins to fetch, or has arrived or given up.
    pub fn hold(&mut self, fetches: bool) {
        self.fetching = match fetches {
            true => self.fetching + 1,
            false => self.fetching.saturating_sub(1),
        };
    }

    /// Epochs in order, the running one last.
    pub fn spans(&self) -> impl Iterator<Item = &EpochSpan> {
        self.spans.iter()
    }

    /// The epoch that runs.
    pub fn epoch(&self) -> Epoch {
        self.spans.back().map_or(Epoch(0), |span| span.epoch)
    }

    /// Where a newcomer begins: at the last restart still held, since what came
    /// before it is gone from the engine too.
    pub fn newcomer(&self) -> u64 {
        let back = self
            .entries
            .iter()
            .rposition(|e| matches!(e, Entry::Reset { .. }))
            .unwrap_or(0);
        self.start + back as u64
    }

    /// The last batches held, `most` of them, the oldest first.
    pub fn last_batches(&self, most: usize) -> Vec<Kept> {
        let batches = self.entries.iter().rev().filter_map(|entry| match entry {
            Entry::Batch(kept) => Some(kept.clone()),
            _ => None,
        });
        let mut last: Vec<_> = batches.take(most).collect();
        last.reverse();
        last
    }

    /// The offset of the first entry past a position. None: the ring lost whatever it
    /// held up to there, and perhaps more.
    pub fn after(&self, position: Position) -> Option<u64> {
        let back = self.entries.iter().rposition(|e| e.upto(position));
        match back {
            Some(back) => Some(self.start + back as u64 + 1),
            None => (self.start == 0).then_some(0),
        }
    }

    pub fn push_batch(&mut self, batch: &Batch) {
        self.reach(batch.epoch, batch.sequence);
        self.push(Entry::Batch(Kept {
            position: batch.position(),
            received_us: batch.received_us,
            replayed: batch.replayed,
            payload: batch.payload.clone(),
            digest: batch.digest,
        }));
    }

    pub fn push_change(&mut self, change: &Change) {
        match *change {
            Change::Gap {
                epoch,
                first,
                last,
                reason,
                ..
            } => {
                self.reach(epoch, last);
                self.push(Entry::Gap {
                    epoch,
                    first,
                    last,
                    reason,
                });
            }
            Change::Reset { epoch, reason, .. } => {
                self.spans.push_back(EpochSpan {
                    epoch,
                    reason: Some(reason),
                    last: None,
                });
                if self.spans.len() > SPANS {
                    self.spans.pop_front();
                }
                self.push(Entry::Reset { epoch, reason });
            }
            Change::Joined(_) | Change::Left(_) => {}
        }
    }

    fn reach(&mut self, epoch: Epoch, last: Sequence) {
        // An operator that came late begins in the middle.
        if let Some(span) = self.spans.back_mut()
            && span.epoch < epoch
            && span.last.is_none()
            && span.reason.is_none()
        {
            span.epoch = epoch;
        }
        if let Some(span) = self.spans.back_mut()
            && span.epoch == epoch
        {
            span.last = Some(span.last.map_or(last, |old| old.max(last)));
        }
    }

    fn push(&mut self, entry: Entry) {
        let bytes = entry.bytes();
        self.bytes += bytes;
        self.total.force(bytes);
        self.entries.push_back(entry);
        let limit = match self.fetching {
            0 => self.limit,
            _ => self.limit.saturating_mul(WHILE_FETCHING),
        };
        // The newest always stays, however large: a full lane can still get it.
        while self.entries.len() > 1 && (self.bytes > limit || self.total.over()) {
            if let Some(old) = self.entries.pop_front() {
                self.start += 1;
                self.bytes -= old.bytes();
                self.total.give(old.bytes());
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.total.give(self.bytes);
    }
}
