//! A recording as one source of the daemon: the same ordering, the same decoder, the same
//! limits. Gaps and restarts in it become what a plugin is told of them; there is no
//! replay, since nobody is there to answer.

use anyhow::Result;
use bytes::Bytes;
use penstock_decode::Limits;
use penstock_event::{
    Change, ColumnSet, Epoch, GapReason, Item, Link, Mark, Mode, Pool, Position, Sequence,
    SourceId, SourceInfo, SourceSpec, SourceState, digest,
};
use penstock_ingest::{BatchMaker, IngestConfig, Undecoded};
use penstock_order::{Config, Frame, Input, Machine, Micros, Output};
use penstock_peer::frames::{FramesReader, Recorded, batch};
use std::path::Path;
use std::sync::Arc;

/// Time between two messages, as far as the ordering is concerned.
const BEAT: Micros = 1_000;
/// Longer than anything waits.
const FOREVER: Micros = 3_600_000_000;

/// One source, fed by hand.
pub struct Stream {
    state: Arc<SourceState>,
    machine: Machine<Kept>,
    maker: BatchMaker,
    now: Micros,
}

struct Kept {
    payload: Bytes,
    digest: u64,
}

/// Reads a recording. Messages that are no batches are left out, and said why.
pub fn read(path: &Path) -> Result<Vec<Result<Recorded, &'static str>>> {
    let mut messages = Vec::new();
    for message in FramesReader::open(path)? {
        messages.push(batch(&message?));
    }
    Ok(messages)
}

impl Frame for Kept {
    fn digest(&self) -> u64 {
        self.digest
    }

    fn bytes(&self) -> usize {
        self.payload.len()
    }
}

// === impl Stream ===

impl Stream {
    /// A source of this name and model that has just connected.
    pub fn new(name: &str, model: &str) -> Self {
        let spec = SourceSpec {
            instance: name.into(),
            rank: None,
            endpoints: Vec::new(),
            replay: None,
            topics: Vec::new(),
            mode: Mode::Connect,
            model: model.into(),
            first_sequence: 0,
            block_size: 0,
            labels: std::collections::BTreeMap::new(),
        };
        let state = SourceState::new(SourceInfo {
            id: SourceId(1),
            name: name.into(),
            spec,
        });
        state.set_link(Link::Live);
        let patience = IngestConfig::default();
        let mut machine = Machine::new(Config {
            replay: false,
            shared: false,
            first: 0,
            buffer_frames: patience.buffer_frames,
            buffer_bytes: patience.buffer_bytes,
            replay_wait: patience.replay_wait.as_micros() as Micros,
            replay_attempts: patience.replay_attempts,
            tail_after: patience.tail_after.as_micros() as Micros,
        });
        machine.handle(0, Input::Connected, &mut Vec::new());
        Self {
            state: Arc::new(state),
            machine,
            maker: BatchMaker::new(Limits::default(), Pool::new(16)),
            now: 0,
        }
    }

    /// What a plugin is told first.
    pub fn joined(&self) -> Item {
        Item::Change(Change::Joined(self.state.clone()))
    }

    /// The source itself.
    pub fn source(&self) -> &SourceInfo {
        &self.state.info
    }

    /// What follows from one message.
    pub fn take(&mut self, recorded: Recorded, wants: ColumnSet) -> Vec<Item> {
        self.now += BEAT;
        let frame = Kept {
            digest: digest(&recorded.payload),
            payload: recorded.payload,
        };
        let sequence = recorded.sequence;
        self.feed(Input::Live { sequence, frame }, wants)
    }

    /// What was still waited for when the stream ended.
    pub fn end(&mut self, wants: ColumnSet) -> Vec<Item> {
        if self.machine.deadline().is_none() {
            return Vec::new();
        }
        self.now += FOREVER;
        self.feed(Input::Tick, wants)
    }

    fn feed(&mut self, input: Input<Kept>, wants: ColumnSet) -> Vec<Item> {
        let mut outputs = Vec::new();
        self.machine.handle(self.now, input, &mut outputs);
        let items = outputs.into_iter().filter_map(|output| match output {
            Output::Deliver {
                epoch,
                sequence,
                frame,
                digest,
                replayed,
            } => {
                let position = Position { epoch, sequence };
                let mark = Mark { position, digest };
                Some(self.batch(mark, frame.payload, replayed, wants))
            }
            Output::Gap {
                epoch,
                first,
                last,
                reason,
            } => Some(self.gap(epoch, first, last, reason)),
            Output::Reset { epoch, reason } => Some(Item::Change(Change::Reset {
                source: self.state.info.id,
                epoch,
                reason,
            })),
            Output::StartReplay { .. }
            | Output::StopReplay { .. }
            | Output::Resumed
            | Output::Note(_) => None,
        });
        items.collect()
    }

    fn batch(&mut self, mark: Mark, payload: Bytes, replayed: bool, wants: ColumnSet) -> Item {
        let Position { epoch, sequence } = mark.position;
        let raw = Undecoded {
            epoch,
            sequence,
            payload,
            digest: mark.digest,
            received_us: 0,
            replayed,
        };
        match self.maker.make(&self.state, raw, wants) {
            Ok(mut batch) => {
                // The recording does not say when it came, and no run is to differ.
                batch.received_us = batch.published_us;
                self.state.set_mark(mark);
                Item::Batch(Arc::new(batch))
            }
            Err(error) => {
                let reason = match error.too_large() {
                    true => GapReason::TooLarge,
                    false => GapReason::Undecodable,
                };
                self.gap(epoch, sequence, sequence, reason)
            }
        }
    }

    fn gap(&self, epoch: Epoch, first: Sequence, last: Sequence, reason: GapReason) -> Item {
        Item::Change(Change::Gap {
            source: self.state.info.id,
            epoch,
            first,
            last,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::plugin::sample;

    fn names(items: Vec<Item>) -> Vec<String> {
        let name = |item| match item {
            Item::Batch(batch) => format!("{}:{}", batch.epoch.0, batch.sequence),
            Item::Change(Change::Gap {
                first,
                last,
                reason,
                ..
            }) => format!("gap {first}-{last} {}", reason.name()),
            Item::Change(Change::Reset { epoch, .. }) => format!("reset {}", epoch.0),
            Item::Change(other) => format!("{other:?}"),
        };
        items.into_iter().map(name).collect()
    }

    #[test]
    fn a_stream_is_ordered_as_the_daemon_orders_it() {
        let mut small = sample::small().into_iter().map(|(_, payload)| payload);
        let (payload, other) = (small.next().unwrap(), small.next().unwrap());
        let mut stream = Stream::new("engine", "m");
        let mut said = Vec::new();
        for (sequence, payload) in [
            (0, payload.clone()),
            (1, b"no batch".to_vec()),
            (4, payload.clone()),
            (5, payload.clone()),
            // The same again is left out; another one under its number is a restart.
            (0, payload),
            (0, other),
        ] {
            let recorded = Recorded {
                topic: Bytes::new(),
                sequence,
                payload: payload.into(),
            };
            said.extend(names(stream.take(recorded, ColumnSet::ALL)));
        }
        said.extend(names(stream.end(ColumnSet::ALL)));
        let expected = [
            "0:0",
            "gap 1-1 undecodable",
            "gap 2-3 no_replay",
            "0:4",
            "0:5",
            "reset 1",
            "1:0",
        ];
        assert_eq!(said, expected);
    }
}
