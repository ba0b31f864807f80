use crate::{PeerError, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum LogEntry {
    /// An engine started, or started again.
    Start {
        /// Which, from 0.
        engine: usize,
        /// Its starts before this one.
        run: u32,
        /// Its stream.
        endpoint: String,
        /// Its replay.
        replay: Option<String>,
        /// Sequence of its first batch.
        first: u64,
    },
    /// A batch is about to be published. The last one before a crash may not
    /// have been.
    Batch {
        /// Whose.
        engine: usize,
        /// Its starts before this one.
        run: u32,
        /// Its number.
        sequence: u64,
        /// XXH3-64 of the payload.
        digest: u64,
        /// Events in it; none when it could not be read.
        events: Option<u64>,
        /// Blocks stored in it; none for recordings.
        blocks: Option<u64>,
        /// It went to the socket; false: dropped on purpose.
        sent: bool,
        /// Replays leave it out, on purpose.
        hidden: bool,
        /// When, µs since 1970.
        at_us: i64,
    },
    /// An engine was killed.
    Kill {
        /// Which.
        engine: usize,
        /// Its starts before this one.
        run: u32,
    },
}

/// A file of [`LogEntry`] lines. Each is with the system before the batch is
/// on its way, so that a killed process has logged all that it published.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    path: PathBuf,
    line: Vec<u8>,
}

impl Log {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(PeerError::io(path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            line: Vec::new(),
        })
    }

    pub fn write(&mut self, entry: &LogEntry) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, entry)
            .map_err(|e| PeerError::io(&self.path)(e.into()))?;
        self.line.push(b'\n');
        let written = self.file.write_all(&self.line);
        written.map_err(PeerError::io(&self.path))
    }
}
