use super::EngineConfig;
use crate::encode::{Style, encode_batch};
use crate::event::Event;
use crate::frames::{FramesReader, batch};
use crate::trace::{Trace, TraceConfig, TraceEngine, Workload, WorkloadConfig};
use crate::{PeerError, Result};
use bytes::Bytes;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Topics of a recording whose sequences are followed.
const MAX_TOPICS: usize = 65_536;

/// Where batches come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A recording. Every engine publishes all of it.
    Frames {
        /// The `.frames` file.
        path: PathBuf,
        /// Which topics and sequences the batches get.
        numbering: Numbering,
        /// How often it is published; 0: for ever.
        rounds: u64,
    },
    /// A trace. Engines share its requests.
    Trace {
        /// The JSON lines.
        path: PathBuf,
        /// How requests become tokens. `engines` is set here.
        workload: WorkloadConfig,
        /// How they are cached. `engine` is set here.
        config: TraceConfig,
    },
}

/// Topics and sequences of recorded batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbering {
    /// As recorded. Where a recorded sequence goes back, the replay buffer is
    /// emptied, as by the restart that was recorded.
    #[default]
    Recorded,
    /// The publisher's own.
    Fresh,
}

/// What every engine's feed is made from.
pub(super) enum Opened {
    Frames {
        path: PathBuf,
        numbering: Numbering,
        rounds: u64,
    },
    Trace {
        workload: Arc<Workload>,
        config: TraceConfig,
        style: Style,
        rank: Option<u32>,
    },
}

/// One engine's batches.
pub(super) enum Feed {
    Frames(Box<Recording>),
    Trace {
        engine: Box<TraceEngine>,
        style: Style,
        rank: Option<u32>,
    },
}

/// The next batch to publish.
pub(super) struct Next {
    pub payload: Bytes,
    /// Topic and sequence, where they are not the publisher's own.
    pub place: Option<(Bytes, u64)>,
    /// The recorded publisher started over here.
    pub restarted: bool,
    pub events: Option<u64>,
    pub blocks: Option<u64>,
}

pub(super) struct Recording {
    path: PathBuf,
    reader: FramesReader<BufReader<File>>,
    numbering: Numbering,
    rounds_left: Option<u64>,
    message: u64,
    last: HashMap<Bytes, u64>,
}

// === impl Opened ===

impl Opened {
    pub fn open(config: &EngineConfig) -> Result<Self> {
        Ok(match &config.source {
            Source::Frames {
                path,
                numbering,
                rounds,
            } => Self::Frames {
                path: path.clone(),
                numbering: *numbering,
                rounds: *rounds,
            },
            Source::Trace {
                path,
                workload,
                config: trace,
            } => {
                let workload = WorkloadConfig {
                    engines: config.engines,
                    ..workload.clone()
                };
                let loaded = Arc::new(Trace::load(path)?);
                Self::Trace {
                    workload: Arc::new(Workload::new(loaded, workload)),
                    config: trace.clone(),
                    style: config.style,
                    rank: config.rank,
                }
            }
        })
    }

    pub fn feed(&self, index: usize) -> Result<Feed> {
        Ok(match self {
            Self::Frames {
                path,
                numbering,
                rounds,
            } => Feed::Frames(Box::new(Recording {
                reader: FramesReader::open(path)?,
                path: path.clone(),
                numbering: *numbering,
                rounds_left: (*rounds > 0).then_some(*rounds),
                message: 0,
                last: HashMap::new(),
            })),
            Self::Trace {
                workload,
                config,
                style,
                rank,
            } => {
                let config = TraceConfig {
                    engine: index,
                    ..config.clone()
                };
                Feed::Trace {
                    engine: Box::new(TraceEngine::new(workload.clone(), config)),
                    style: *style,
                    rank: rank.map(|rank| rank.saturating_add(index as u32)),
                }
            }
        })
    }
}

// === impl Feed ===

impl Feed {
    pub fn next(&mut self) -> Result<Option<Next>> {
        match self {
            Self::Frames(recording) => recording.next(),
            Self::Trace {
                engine,
                style,
                rank,
            } => Ok(engine.next().map(|batch| {
                let ts = since_epoch().as_secs_f64();
                let payload = encode_batch(ts, &batch.events, *rank, *style);
                let blocks: usize = batch.events.iter().map(Event::stored_blocks).sum();
                Next {
                    payload: payload.into(),
                    place: None,
                    restarted: false,
                    events: Some(batch.events.len() as u64),
                    blocks: Some(blocks as u64),
                }
            })),
        }
    }

    /// The engine restarts. A recording with recorded numbers begins again,
    /// since its numbers cannot follow a fresh start otherwise.
    pub fn restart(&mut self) -> Result<()> {
        match self {
            Self::Frames(recording) if recording.numbering == Numbering::Recorded => {
                recording.rewind()
            }
            Self::Frames(_) => Ok(()),
            Self::Trace { engine, .. } => {
                engine.restart();
                Ok(())
            }
        }
    }

    pub fn next_request(&self) -> Option<u64> {
        match self {
            Self::Frames(_) => None,
            Self::Trace { engine, .. } => Some(engine.next_request()),
        }
    }
}

// === impl Recording ===

impl Recording {
    fn rewind(&mut self) -> Result<()> {
        self.reader = FramesReader::open(&self.path)?;
        self.message = 0;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Next>> {
        loop {
            if self.rounds_left == Some(0) {
                return Ok(None);
            }
            let Some(message) = self.reader.next().transpose()? else {
                let empty = self.message == 0;
                self.rounds_left = self.rounds_left.map(|n| n.saturating_sub(1));
                if empty {
                    return Ok(None);
                }
                self.rewind()?;
                continue;
            };
            let number = self.message;
            self.message += 1;
            let recorded = batch(&message).map_err(|why| PeerError::NotABatch {
                path: self.path.clone(),
                message: number,
                why,
            })?;
            let events = count_events(&recorded.payload);
            let mut restarted = false;
            let place = match self.numbering {
                Numbering::Fresh => None,
                Numbering::Recorded => {
                    let (topic, sequence) = (recorded.topic, recorded.sequence);
                    if let Some(last) = self.last.get_mut(&topic) {
                        restarted = sequence <= *last;
                        *last = sequence;
                    } else if self.last.len() < MAX_TOPICS {
                        self.last.insert(topic.clone(), sequence);
                    }
                    Some((topic, sequence))
                }
            };
            return Ok(Some(Next {
                payload: recorded.payload,
                place,
                restarted,
                events,
                blocks: None,
            }));
        }
    }
}

/// Events in a batch that is an array; none when it is something else.
fn count_events(payload: &[u8]) -> Option<u64> {
    use rmp::decode;
    let mut rest = payload;
    if decode::read_array_len(&mut rest).ok()? < 2 {
        return None;
    }
    let after_float = |mut from: &'_ [u8]| {
        decode::read_f64(&mut from).ok()?;
        Some(from.len())
    };
    let left = match after_float(rest) {
        Some(left) => left,
        None => {
            let mut from = rest;
            decode::read_int::<i64, _>(&mut from).ok()?;
            from.len()
        }
    };
    let mut rest = rest.get(rest.len() - left..)?;
    decode::read_array_len(&mut rest).ok().map(u64::from)
}

/// Time since 1970.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
