//! JSON lines appended to a file; [`crate::record`] has the schema.
//!
//! Guarantees: a line is written whole or not counted as sent, and never split
//! over two files; what was accepted is handed to the system as soon as the
//! queue is empty or 64 KiB have gathered, whichever is first. When the disk
//! refuses (full, gone, read-only), the sink keeps what it has, opens the file
//! again after a pause that doubles from 0.1 to 5 s, and `publish` answers
//! "full" once the queue is. A fragment that a failed write or a crash left at
//! the end gets a line feed, so that it spoils one line only. A file renamed
//! or deleted by others is noticed within a second of the next write.
//!
//! It does not call `fsync`, and does not share its file with another writer.

use crate::config::FileConfig;
use crate::queue::{Message, Queue};
use crate::record;
use crate::status::Stats;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes gathered before they are written.
const CHUNK: usize = 64 * 1024;
/// Messages moved out of the queue at once.
const HAND: usize = 256;
/// The buffer is given back above this.
const SPARE: usize = 1024 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

pub(crate) struct Lines {
    config: FileConfig,
    queue: Arc<Queue>,
    stats: Arc<Stats>,
    hand: VecDeque<Message>,
    /// Lines not written yet.
    buffer: String,
    /// Of each such line: its length, and the bytes its message counts for.
    pending: VecDeque<(usize, usize)>,
    open: Option<Open>,
    pause: Duration,
    rotate_again: Option<Instant>,
}

/// The file as this sink knows it.
struct Open {
    file: File,
    size: u64,
    identity: (u64, u64),
    /// Rotation and the check for renames make no sense for `/dev/stdout`.
    regular: bool,
    checked: Instant,
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        if let Ok(found) = std::fs::metadata(path)
            && !found.is_file()
            && !found.file_type().is_char_device()
        {
            // Opening a FIFO would block until somebody reads it.
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither a file nor a character device",
            ));
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        let metadata = file.metadata()?;
        let mut size = metadata.len();
        if metadata.is_file() && size > 0 {
            let mut last = [0u8];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Self {
            file,
            size,
            identity: (metadata.dev(), metadata.ino()),
            regular: metadata.is_file(),
            checked: Instant::now(),
        })
    }

    /// The file, if the path still leads to it. Asked once a second at most.
    fn if_there(mut self, path: &Path) -> Option<Self> {
        if !self.regular || self.checked.elapsed() < Duration::from_secs(1) {
            return Some(self);
        }
        self.checked = Instant::now();
        let found = std::fs::metadata(path);
        let same = found.is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        same.then_some(self)
    }
}

impl Lines {
    pub(crate) fn open(
        config: &FileConfig,
        queue: &Arc<Queue>,
        stats: &Arc<Stats>,
    ) -> io::Result<Self> {
        Ok(Self {
            open: Some(Open::new(&config.path)?),
            config: config.clone(),
            queue: Arc::clone(queue),
            stats: Arc::clone(stats),
            hand: VecDeque::with_capacity(HAND),
            buffer: String::with_capacity(2 * CHUNK),
            pending: VecDeque::new(),
            pause: FIRST_PAUSE,
            rotate_again: None,
        })
    }

    /// Until the queue is closed and empty, or its deadline passed.
    pub(crate) fn run(mut self) {
        loop {
            self.gather();
            match self.flush() {
                Ok(()) => {
                    self.pause = FIRST_PAUSE;
                    if !self.hand.is_empty() {
                        if self.past_deadline() {
                            return;
                        }
                        continue;
                    }
                    if self.queue.may_sleep() {
                        self.sleep(None);
                    } else if self.queue.exhausted() || self.past_deadline() {
                        return;
                    }
                }
                Err(e) => {
                    self.failed("write", &e);
                    if self.past_deadline() {
                        return;
                    }
                    let pause = match self.queue.deadline() {
                        // A disk that comes back during shutdown is met soon.
                        Some(deadline) => deadline
                            .saturating_duration_since(Instant::now())
                            .min(FIRST_PAUSE),
                        None => self.pause,
                    };
                    self.sleep(Some(pause));
                    self.pause = (self.pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    fn past_deadline(&self) -> bool {
        self.queue.deadline().is_some_and(|d| d <= Instant::now())
    }

    fn failed(&mut self, doing: &str, error: &io::Error) {
        let path = self.config.path.display();
        self.stats.error(format!("cannot {doing} {path}: {error}"));
        tracing::warn!(sink = %self.stats.name, %path, %error, "cannot {doing} the file; the sink keeps its messages and tries again");
    }

    fn sleep(&self, most: Option<Duration>) {
        let most = most.and_then(|d| Timespec::try_from(d).ok());
        let mut fds = [PollFd::new(self.queue.wake_descriptor(), PollFlags::IN)];
        // An interrupted sleep is a short one.
        let _ = poll(&mut fds, most.as_ref());
        self.queue.awake();
    }

    /// Moves messages from the queue into lines until a chunk is full.
    fn gather(&mut self) {
        while self.buffer.len() < CHUNK {
            if self.hand.is_empty() {
                self.queue.take(&mut self.hand, HAND);
            }
            let Some(message) = self.hand.pop_front() else {
                return;
            };
            let before = self.buffer.len();
            record::append(&mut self.buffer, &message);
            self.pending
                .push_back((self.buffer.len() - before, message.bytes()));
        }
    }

    /// Writes all lines, over several files when they rotate.
    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let path = &self.config.path;
            let mut open = match self.open.take().and_then(|open| open.if_there(path)) {
                Some(open) => open,
                None => Open::new(path)?,
            };
            let fits = self.fitting(&open);
            if fits == 0 {
                drop(open);
                self.rotate();
                continue;
            }
            let bytes = self.buffer.as_bytes().get(..fits).unwrap_or_default();
            let (written, result) = write_some(&mut open.file, bytes);
            self.settle(written);
            result?;
            open.size += fits as u64;
            self.open = Some(open);
        }
        if self.buffer.capacity() > SPARE {
            self.buffer.shrink_to(2 * CHUNK);
        }
        Ok(())
    }

    /// Bytes of whole lines that may go into the file. 0: rotate first.
    fn fitting(&self, open: &Open) -> usize {
        let retry_later = self.rotate_again.is_some_and(|at| Instant::now() < at);
        if self.config.max_bytes == 0 || !open.regular || retry_later {
            return self.buffer.len();
        }
        let mut fits = 0;
        for (line, _) in &self.pending {
            let size = open.size.saturating_add((fits + line) as u64);
            // A line longer than the limit has a file of its own.
            let alone = open.size == 0 && fits == 0;
            if size > self.config.max_bytes && !alone {
                break;
            }
            fits += line;
        }
        fits
    }

    /// So many bytes are in the file: forgets the whole lines among them.
    fn settle(&mut self, written: usize) {
        let mut whole = 0;
        let mut lines = 0;
        while let Some((line, bytes)) = self.pending.front().copied() {
            if whole + line > written {
                break;
            }
            whole += line;
            lines += 1;
            self.pending.pop_front();
            self.queue.done(bytes);
        }
        self.buffer.drain(..whole);
        self.stats.sent.add(lines);
    }

    /// `PATH.n` to `PATH.n+1`, `PATH` to `PATH.1`; the last one is overwritten.
    fn rotate(&mut self) {
        let nth = |n: u32| -> PathBuf {
            let mut name = self.config.path.clone().into_os_string();
            name.push(format!(".{n}"));
            name.into()
        };
        let shift = || -> io::Result<()> {
            for n in (1..self.config.keep).rev() {
                match std::fs::rename(nth(n), nth(n + 1)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            std::fs::rename(&self.config.path, nth(1))
        };
        match shift() {
            Ok(()) => self.rotate_again = None,
            Err(e) => {
                // Better a file above its size than lines lost.
                self.rotate_again = Some(Instant::now() + Duration::from_secs(10));
                self.failed("rotate", &e);
            }
        }
    }
}

/// Writes; answers how much of it was, and the error that stopped it.
fn write_some(file: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|r| !r.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (written, Err(e)),
        }
    }
    (written, Ok(()))
}
