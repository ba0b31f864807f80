//! What commands say, on either stream, in one way: whoever reads may have seen
//! enough and closed its end, which is no mistake and no reason to panic.

use anyhow::{Context, Result};
use std::fmt::Display;
use std::io::{BufWriter, ErrorKind, StdoutLock, Write};

/// Standard output.
pub struct Out<W: Write = StdoutLock<'static>> {
    inner: BufWriter<W>,
    closed: bool,
}

// === impl Out ===

impl Out {
    pub fn new() -> Self {
        Self::to(std::io::stdout().lock())
    }
}

impl<W: Write> Out<W> {
    fn to(inner: W) -> Self {
        Self {
            inner: BufWriter::new(inner),
            closed: false,
        }
    }

    /// Prints one line, or nothing once the reader has gone.
    ///
    /// # Errors
    /// The disk behind it is full, say.
    pub fn line(&mut self, line: impl Display) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let done = writeln!(self.inner, "{line}");
        self.settle(done)
    }

    /// True when nobody reads any more: what goes on for long may end.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Hands over what is still held.
    ///
    /// # Errors
    /// As for [`Out::line`].
    pub fn end(mut self) -> Result<()> {
        self.flush()
    }

    /// The same, for what goes on.
    ///
    /// # Errors
    /// As for [`Out::line`].
    pub fn flush(&mut self) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let done = self.inner.flush();
        self.settle(done)
    }

    fn settle(&mut self, done: std::io::Result<()>) -> Result<()> {
        match done {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            done => done.context("cannot write to standard output"),
        }
    }
}

/// Prints a single line.
///
/// # Errors
/// As for [`Out::line`].
pub fn line(line: impl Display) -> Result<()> {
    let mut out = Out::new();
    out.line(line)?;
    out.end()
}

/// Says something on standard error, whether or not somebody listens.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// An error and its causes, left out where an error's own text ends with its cause.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Takes so many bytes; then nobody reads, or the disk is full.
    struct Ends(usize, ErrorKind);

    impl Write for Ends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.checked_sub(bytes.len()) {
                Some(left) => self.0 = left,
                None => return Err(self.1.into()),
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        let mut out = Out::to(Ends(10_000, ErrorKind::BrokenPipe));
        for _ in 0..10_000 {
            out.line("twenty bytes or some").unwrap();
        }
        assert!(out.closed());
        out.end().unwrap();
        let mut out = Out::to(Ends(0, ErrorKind::StorageFull));
        out.line("x").unwrap();
        let error = out.end().unwrap_err();
        assert!(causes(&error).starts_with("cannot write"), "{error}");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Failed {
        said: &'static str,
        source: io::Error,
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || io::Error::new(ErrorKind::NotFound, "no such file");
        let failed = |said| {
            anyhow::Error::new(Failed {
                said,
                source: cause(),
            })
        };
        assert_eq!(
            causes(&failed("a.txt: no such file")),
            "a.txt: no such file"
        );
        assert_eq!(causes(&failed("a.txt")), "a.txt: no such file");
        let error = failed("a.txt").context("cannot start");
        assert_eq!(causes(&error), "cannot start: a.txt: no such file");
    }
}
