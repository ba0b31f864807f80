//! The envelope: an array `[time, events, rank, ...]`, or AIBrix's map with the
//! key `events`, and the loop over the events.

use crate::event::{Scratch, Sink};
use crate::names::Names;
use crate::reader::{MAX_DEPTH, Reader, Value};
use crate::{DecodeError, fields, time};
use penstock_event::{ColumnSet, Columns, Dictionary, Skipped};

/// How much one batch may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events a batch. More: the batch is refused. 65,536 by default.
    pub max_events: u32,
    /// Blocks a batch, stored and removed. More: refused. 1,000,000 by default.
    pub max_blocks: u32,
    /// Tokens a batch. More: refused. 33,554,432 by default, which bounds what
    /// tokens of one byte each can grow into.
    pub max_tokens: u32,
    /// Levels of nesting within one field, 64 at most. Deeper: the event is
    /// skipped. 32 by default.
    pub max_depth: u32,
}

/// What the envelope says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The engine's time, µs since 1970. Where the envelope has none that can be
    /// read (AIBrix): that of the first event with one, else 0.
    pub published_us: i64,
    /// Data-parallel rank, when the engine sends one.
    pub rank: Option<u32>,
}

/// The decoder. One serves any number of sources, one batch after the other.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    scratch: Scratch,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_events: 65_536,
            max_blocks: 1_000_000,
            max_tokens: 32 << 20,
            max_depth: 32,
        }
    }
}

// === impl Decoder ===

impl Default for Decoder {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Decoder {
    /// A decoder that refuses what is beyond `limits`.
    #[must_use]
    pub fn new(mut limits: Limits) -> Self {
        limits.max_depth = limits.max_depth.min(MAX_DEPTH as u32);
        Self {
            limits,
            scratch: Scratch::default(),
        }
    }

    /// Decodes one payload into `out`, filling the columns in `want`.
    ///
    /// What is accepted and skipped does not depend on `want`. A bad event is
    /// left out and named in `skipped`. Where the msgpack breaks off in the
    /// middle of the events, those before stay, and one entry of `skipped`
    /// stands for the rest and says how many.
    ///
    /// # Errors
    /// No events can be read at all, or the batch is beyond the limits
    /// ([`DecodeError::too_large`]); `out` and `skipped` are empty then.
    pub fn decode(
        &mut self,
        payload: &[u8],
        want: ColumnSet,
        dict: &Dictionary,
        out: &mut Columns,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Head, DecodeError> {
        out.clear();
        skipped.clear();
        let mut sink = Sink {
            out: &mut *out,
            scratch: &mut self.scratch,
            names: Names::new(dict),
            want,
            limits: self.limits,
            tokens: 0,
            first_time: None,
        };
        let head = Batch {
            reader: Reader::new(payload),
            head: Head::default(),
            events: None,
            skipped: &mut *skipped,
            depth: self.limits.max_depth as usize,
        }
        .read(&mut sink);
        let time = sink.first_time;
        self.scratch.trim();
        match head {
            Ok(mut head) => {
                out.filled = ColumnSet(want.0 & ColumnSet::ALL.0);
                if head.published_us == 0 {
                    head.published_us = time.unwrap_or(0);
                }
                Ok(head)
            }
            Err(e) => {
                out.clear();
                skipped.clear();
                Err(e)
            }
        }
    }
}

/// A batch being read.
struct Batch<'p, 's> {
    reader: Reader<'p>,
    head: Head,
    /// Events in the list; none before it was met.
    events: Option<u32>,
    skipped: &'s mut Vec<Skipped>,
    depth: usize,
}

/// How far the events could be read.
#[derive(PartialEq)]
enum Events {
    /// To the end of the list.
    Whole,
    /// Until the msgpack broke off.
    Broken,
}

// === impl Batch ===

impl<'p> Batch<'p, '_> {
    fn read(mut self, sink: &mut Sink<'_, 'p, '_>) -> Result<Head, DecodeError> {
        let tail = match self.reader.value()? {
            Value::Array(count) if count >= 2 => {
                self.read_time()?;
                match self.read_events(sink)? {
                    Events::Whole => self.read_rank(count - 2),
                    Events::Broken => return Ok(self.head),
                }
            }
            Value::Map(count) => match self.read_map(sink, count) {
                // Before the events, there is nothing to keep.
                Err(e) if self.events.is_none() || e.too_large() => return Err(e),
                Ok(Events::Broken) => return Ok(self.head),
                Ok(Events::Whole) => Ok(()),
                Err(e) => Err(e),
            },
            _ => return Err(DecodeError::NotABatch { at: 0 }),
        };
        // The events are good whatever follows them; that it is not as it should
        // be is reported beside them.
        let event = self.events.ok_or(DecodeError::NoEvents { at: 0 })?;
        if let Err(e) = tail {
            self.beside(event, e.code());
        } else if self.reader.remaining() > 0 {
            self.beside(event, "trailing_bytes");
        }
        Ok(self.head)
    }

    /// Something is wrong behind the events.
    fn beside(&mut self, event: u32, code: &'static str) {
        let lost = 0;
        self.skipped.push(Skipped { event, lost, code });
    }

    fn read_map(
        &mut self,
        sink: &mut Sink<'_, 'p, '_>,
        count: usize,
    ) -> Result<Events, DecodeError> {
        for _ in 0..count {
            let key = self.reader.key(self.depth)?.unwrap_or_default();
            match key {
                b"events" if self.events.is_none() => {
                    if self.read_events(sink)? == Events::Broken {
                        return Ok(Events::Broken);
                    }
                }
                b"ts" | b"timestamp" => self.read_time()?,
                b"data_parallel_rank" | b"attn_dp_rank" | b"dp_rank" | b"rank" => {
                    self.read_rank(1)?;
                }
                _ => self.reader.skip(self.depth)?,
            }
        }
        Ok(Events::Whole)
    }

    /// A time that cannot be read is no reason to lose the events.
    fn read_time(&mut self) -> Result<(), DecodeError> {
        let at = self.reader.at();
        let value = self.reader.value()?;
        self.head.published_us = time::micros(value).unwrap_or(0);
        self.reader.seek(at);
        self.reader.skip(self.depth)
    }

    /// The rank, and elements that a later release may have added.
    fn read_rank(&mut self, count: usize) -> Result<(), DecodeError> {
        for i in 0..count {
            let at = self.reader.at();
            if i == 0
                && let Value::Int(rank) = self.reader.value()?
            {
                self.head.rank = rank.to_u32();
            }
            self.reader.seek(at);
            self.reader.skip(self.depth)?;
        }
        Ok(())
    }

    fn read_events(&mut self, sink: &mut Sink<'_, 'p, '_>) -> Result<Events, DecodeError> {
        let at = self.reader.at();
        let Value::Array(count) = self.reader.value()? else {
            return Err(DecodeError::NoEvents { at });
        };
        if count > sink.limits.max_events as usize {
            return Err(DecodeError::TooManyEvents { at, count });
        }
        self.events = Some(count as u32);
        for event in 0..count as u32 {
            let start = self.reader;
            let Err(e) = sink.event(&mut self.reader) else {
                continue;
            };
            if e.too_large() {
                return Err(e);
            }
            self.reader = start;
            let end = self.reader.skip_any();
            let (error, lost) = match end {
                Ok(()) => {
                    let error = blame(start, e);
                    (error, u32::from(!error.foreign()))
                }
                Err(broken) => (broken, count as u32 - event),
            };
            let code = error.code();
            self.skipped.push(Skipped { event, lost, code });
            if end.is_err() {
                return Ok(Events::Broken);
            }
        }
        Ok(Events::Whole)
    }
}

/// An event of an unknown kind may hold anything: its tag is what is wrong with
/// it, even where another field was stumbled upon first.
fn blame(event: Reader<'_>, e: DecodeError) -> DecodeError {
    fields::kind_of(event).err().unwrap_or(e)
}
