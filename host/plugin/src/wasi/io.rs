//! `wasi:io`: streams that lead to the log or nowhere, and waits with an end.

use crate::bindings::wasi::wasi::io::streams::{HostInputStream, HostOutputStream, StreamError};
use crate::bindings::wasi::wasi::io::{error, poll, streams};
use crate::ctx::{Ctx, Ended, Stream};
use crate::host::log::Level;
use std::time::{Duration, Instant};
use wasmtime::Result;
use wasmtime::component::Resource;

/// Longest sleep at once: the plugin may have to end meanwhile.
const NAP: Duration = Duration::from_millis(50);

/// An error of a stream; there is never one.
pub struct IoError;

/// Something to wait for.
pub enum Pollable {
    /// It is there already.
    Ready,
    /// A time; none: one past the end of the clock.
    At(Option<Instant>),
}

/// stdin: at its end.
pub struct InputStream;

/// stdout or stderr.
pub struct OutputStream(pub(crate) Stream);

/// Bytes of a standard stream, until they are lines.
pub struct Lines {
    level: Level,
    limit: usize,
    pending: Vec<u8>,
}

/// Bytes that a stream takes at once, and pollables in one call.
const WRITE_BYTES: usize = 65_536;
const MAX_POLL: usize = 1_024;

// === impl Lines ===

impl Default for Lines {
    fn default() -> Self {
        Self::new(Level::INFO, 0)
    }
}

impl Lines {
    pub(crate) fn new(level: Level, limit: usize) -> Self {
        Self {
            level,
            limit,
            pending: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes bytes and says each whole line, cut to the limit.
    pub(crate) fn take(&mut self, bytes: &[u8], mut say: impl FnMut(Level, &str)) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = self.limit.saturating_sub(self.pending.len());
            self.pending.extend(text.iter().take(room));
            if ends {
                self.finish(&mut say);
            }
        }
    }

    /// Says what is left without an end of line.
    pub(crate) fn finish(&mut self, mut say: impl FnMut(Level, &str)) {
        let text = String::from_utf8_lossy(&self.pending);
        let text = text.trim_end();
        if !text.is_empty() {
            say(self.level, text);
        }
        self.pending.clear();
    }
}

// === impl Ctx ===

impl Ctx {
    /// Waits until `when`, or ends the call when that lies past its deadline.
    fn wait(&self, when: Option<Instant>) -> Result<()> {
        match when {
            Some(when) if when <= self.deadline => loop {
                let left = when.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                if self.setup.is_cut() {
                    return Err(Ended::Deadline.into());
                }
                std::thread::sleep(left.min(NAP));
            },
            _ => Err(Ended::Deadline.into()),
        }
    }

    fn when(&self, pollable: &Resource<Pollable>) -> Result<When> {
        Ok(match self.table.get(pollable)? {
            Pollable::Ready => When::Now,
            Pollable::At(Some(at)) if *at <= Instant::now() => When::Now,
            Pollable::At(at) => When::Later(*at),
        })
    }

    fn ready(&mut self) -> Result<Resource<Pollable>> {
        Ok(self.table.push(Pollable::Ready)?)
    }
}

enum When {
    Now,
    Later(Option<Instant>),
}

impl error::Host for Ctx {}

impl error::HostError for Ctx {
    fn to_debug_string(&mut self, _: Resource<IoError>) -> Result<String> {
        Ok(String::new())
    }

    fn drop(&mut self, error: Resource<IoError>) -> Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

impl poll::Host for Ctx {
    fn poll(&mut self, pollables: Vec<Resource<Pollable>>) -> Result<Vec<u32>> {
        // An empty list is a trap by WASI's own words; a huge one is an attack.
        if pollables.is_empty() || pollables.len() > MAX_POLL {
            return Err(Ended::Inert(format!("poll of {} things", pollables.len())).into());
        }
        loop {
            let mut ready = Vec::new();
            let mut first: Option<Instant> = None;
            for (at, pollable) in (0u32..).zip(&pollables) {
                match self.when(pollable)? {
                    When::Now => ready.push(at),
                    When::Later(Some(when)) => first = Some(first.map_or(when, |f| f.min(when))),
                    When::Later(None) => {}
                }
            }
            if !ready.is_empty() {
                return Ok(ready);
            }
            self.wait(first)?;
        }
    }
}

impl poll::HostPollable for Ctx {
    fn ready(&mut self, pollable: Resource<Pollable>) -> Result<bool> {
        Ok(matches!(self.when(&pollable)?, When::Now))
    }

    fn block(&mut self, pollable: Resource<Pollable>) -> Result<()> {
        match self.when(&pollable)? {
            When::Now => Ok(()),
            When::Later(when) => self.wait(when),
        }
    }

    fn drop(&mut self, pollable: Resource<Pollable>) -> Result<()> {
        self.table.delete(pollable)?;
        Ok(())
    }
}

type Closed<T> = Result<std::result::Result<T, StreamError>>;

impl streams::Host for Ctx {}

impl HostInputStream for Ctx {
    fn read(&mut self, _: Resource<InputStream>, _: u64) -> Closed<Vec<u8>> {
        Ok(Err(StreamError::Closed))
    }

    fn blocking_read(&mut self, _: Resource<InputStream>, _: u64) -> Closed<Vec<u8>> {
        Ok(Err(StreamError::Closed))
    }

    fn skip(&mut self, _: Resource<InputStream>, _: u64) -> Closed<u64> {
        Ok(Err(StreamError::Closed))
    }

    fn blocking_skip(&mut self, _: Resource<InputStream>, _: u64) -> Closed<u64> {
        Ok(Err(StreamError::Closed))
    }

    fn subscribe(&mut self, _: Resource<InputStream>) -> Result<Resource<Pollable>> {
        self.ready()
    }

    fn drop(&mut self, stream: Resource<InputStream>) -> Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

impl HostOutputStream for Ctx {
    fn check_write(&mut self, _: Resource<OutputStream>) -> Closed<u64> {
        Ok(Ok(WRITE_BYTES as u64))
    }

    fn write(&mut self, stream: Resource<OutputStream>, bytes: Vec<u8>) -> Closed<()> {
        let stream = self.table.get(&stream)?.0;
        self.print(stream, &bytes);
        Ok(Ok(()))
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<OutputStream>,
        bytes: Vec<u8>,
    ) -> Closed<()> {
        self.write(stream, bytes)
    }

    fn flush(&mut self, _: Resource<OutputStream>) -> Closed<()> {
        Ok(Ok(()))
    }

    fn blocking_flush(&mut self, _: Resource<OutputStream>) -> Closed<()> {
        Ok(Ok(()))
    }

    fn subscribe(&mut self, _: Resource<OutputStream>) -> Result<Resource<Pollable>> {
        self.ready()
    }

    // Zeroes are no text: they are taken and go nowhere.
    fn write_zeroes(&mut self, _: Resource<OutputStream>, _: u64) -> Closed<()> {
        Ok(Ok(()))
    }

    fn blocking_write_zeroes_and_flush(&mut self, _: Resource<OutputStream>, _: u64) -> Closed<()> {
        Ok(Ok(()))
    }

    fn splice(
        &mut self,
        _: Resource<OutputStream>,
        _: Resource<InputStream>,
        _: u64,
    ) -> Closed<u64> {
        Ok(Err(StreamError::Closed))
    }

    fn blocking_splice(
        &mut self,
        stream: Resource<OutputStream>,
        input: Resource<InputStream>,
        len: u64,
    ) -> Closed<u64> {
        self.splice(stream, input, len)
    }

    fn drop(&mut self, stream: Resource<OutputStream>) -> Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_cut_and_without_blank_ones() {
        let mut lines = Lines::new(Level::INFO, 4);
        let mut said = Vec::new();
        lines.take(b"on", |_, line| said.push(line.to_owned()));
        lines.take(b"e\n\ntwo and more\nrest", |_, line| {
            said.push(line.to_owned())
        });
        lines.finish(|_, line| said.push(line.to_owned()));
        assert_eq!(said, ["one", "two", "rest"]);
        assert!(lines.is_empty());
    }
}
