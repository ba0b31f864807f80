//! `.frames` files: multipart messages one after another, as they came off a
//! socket.
//!
//! Little endian: `u32` number of frames, then for each frame a `u32` length
//! and its bytes. Both ends stream: one message is in memory at a time, and a
//! length that lies costs no more memory than the file holds. A file whose
//! writer was killed ends in half a message: all before it are read, then
//! [`PeerError::Truncated`] says where it stops.
//!
//! It does not look into messages, but for [`batch`].

use crate::{PeerError, Result};
use bytes::Bytes;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Frames a message may have.
pub const MAX_FRAMES: u32 = 1_024;
/// Bytes a frame may have: 256 MiB.
pub const MAX_FRAME_BYTES: u32 = 256 << 20;

/// One multipart message.
pub type Message = Vec<Bytes>;

/// Reads messages from a file, one at a time.
///
/// After an error it yields nothing more: where the next message begins is
/// not known.
#[derive(Debug)]
pub struct FramesReader<R> {
    inner: R,
    path: PathBuf,
    offset: u64,
    message: u64,
    done: bool,
}

/// Writes messages to a file.
#[derive(Debug)]
pub struct FramesWriter<W: Write> {
    inner: W,
    path: PathBuf,
    messages: u64,
    bytes: u64,
}

/// A message taken for a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// First frame.
    pub topic: Bytes,
    /// Second frame, big endian.
    pub sequence: u64,
    /// Third frame.
    pub payload: Bytes,
}

/// Takes a message for a batch of three frames.
///
/// # Errors
/// Why it is none.
pub fn batch(message: &[Bytes]) -> std::result::Result<Recorded, &'static str> {
    let [topic, sequence, payload] = message else {
        return Err("it has not three frames");
    };
    let sequence = <[u8; 8]>::try_from(sequence.as_ref())
        .map_err(|_| "its sequence is not eight bytes long")?;
    Ok(Recorded {
        topic: topic.clone(),
        sequence: u64::from_be_bytes(sequence),
        payload: payload.clone(),
    })
}

// === impl FramesReader ===

impl FramesReader<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// [`PeerError::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(PeerError::io(path))?;
        Ok(Self::new(BufReader::with_capacity(256 << 10, file), path))
    }
}

impl<R: Read> FramesReader<R> {
    /// Reads from `inner`; errors name `path`.
    pub fn new(inner: R, path: &Path) -> Self {
        Self {
            inner,
            path: path.to_owned(),
            offset: 0,
            message: 0,
            done: false,
        }
    }

    /// Where the next message begins, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn read_message(&mut self) -> Result<Option<Message>> {
        let start = self.offset;
        let Some(count) = self.length(start, true)? else {
            return Ok(None);
        };
        self.check(start, "frames", count, MAX_FRAMES)?;
        let mut message = Message::with_capacity(count.min(16) as usize);
        for _ in 0..count {
            let length = self.length(start, false)?.unwrap_or(0);
            self.check(start, "bytes in a frame", length, MAX_FRAME_BYTES)?;
            // `take` grows the buffer as bytes come, so that a length that
            // lies reserves nothing.
            let mut frame = Vec::with_capacity(length.min(1 << 20) as usize);
            let read = (&mut self.inner)
                .take(u64::from(length))
                .read_to_end(&mut frame)
                .map_err(PeerError::io(&self.path))?;
            if read != length as usize {
                return Err(self.truncated(start));
            }
            self.offset += u64::from(length);
            message.push(Bytes::from(frame));
        }
        self.message += 1;
        Ok(Some(message))
    }

    /// A length; none at the end of the file where a message may end.
    fn length(&mut self, start: u64, may_end: bool) -> Result<Option<u32>> {
        let mut bytes = [0; 4];
        let mut filled = 0;
        while filled < 4 {
            match self.inner.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 && may_end => return Ok(None),
                Ok(0) => return Err(self.truncated(start)),
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(PeerError::io(&self.path)(e)),
            }
        }
        self.offset += 4;
        Ok(Some(u32::from_le_bytes(bytes)))
    }

    fn truncated(&self, offset: u64) -> PeerError {
        PeerError::Truncated {
            path: self.path.clone(),
            offset,
            message: self.message,
        }
    }

    fn check(&self, offset: u64, what: &'static str, found: u32, limit: u32) -> Result<()> {
        if found <= limit {
            return Ok(());
        }
        let path = self.path.clone();
        if self.message == 0 {
            return Err(PeerError::NotFrames { path });
        }
        Err(PeerError::Limit {
            path,
            offset,
            message: self.message,
            what,
            found: u64::from(found),
            limit: u64::from(limit),
        })
    }
}

impl<R: Read> Iterator for FramesReader<R> {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.read_message();
        self.done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

// === impl FramesWriter ===

impl FramesWriter<BufWriter<File>> {
    /// Creates a file, or empties one.
    ///
    /// # Errors
    /// [`PeerError::Io`].
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(PeerError::io(path))?;
        Ok(Self::new(BufWriter::with_capacity(256 << 10, file), path))
    }
}

impl<W: Write> FramesWriter<W> {
    /// Writes to `inner`; errors name `path`.
    pub fn new(inner: W, path: &Path) -> Self {
        Self {
            inner,
            path: path.to_owned(),
            messages: 0,
            bytes: 0,
        }
    }

    /// Appends one message.
    ///
    /// # Errors
    /// [`PeerError::Io`]; [`PeerError::Limit`] when no reader would accept it.
    pub fn write<F: AsRef<[u8]>>(&mut self, frames: &[F]) -> Result<()> {
        let count = self.fits("frames", frames.len(), MAX_FRAMES)?;
        for frame in frames {
            self.fits("bytes in a frame", frame.as_ref().len(), MAX_FRAME_BYTES)?;
        }
        let write = |out: &mut W| -> std::io::Result<u64> {
            out.write_all(&count.to_le_bytes())?;
            let mut bytes = 4;
            for frame in frames {
                let frame = frame.as_ref();
                out.write_all(&(frame.len() as u32).to_le_bytes())?;
                out.write_all(frame)?;
                bytes += 4 + frame.len() as u64;
            }
            Ok(bytes)
        };
        self.bytes += write(&mut self.inner).map_err(PeerError::io(&self.path))?;
        self.messages += 1;
        Ok(())
    }

    fn fits(&self, what: &'static str, found: usize, limit: u32) -> Result<u32> {
        match u32::try_from(found) {
            Ok(found) if found <= limit => Ok(found),
            _ => Err(PeerError::Limit {
                path: self.path.clone(),
                offset: self.bytes,
                message: self.messages,
                what,
                found: found as u64,
                limit: u64::from(limit),
            }),
        }
    }

    /// Hands what is buffered to the system.
    ///
    /// # Errors
    /// [`PeerError::Io`].
    pub fn flush(&mut self) -> Result<()> {
        self.inner.flush().map_err(PeerError::io(&self.path))
    }

    /// Messages written.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes written, lengths included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(messages: &[&[&[u8]]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = FramesWriter::new(&mut out, Path::new("out"));
        for message in messages {
            writer.write(message).unwrap();
        }
        assert_eq!(writer.messages(), messages.len() as u64);
        let bytes = writer.bytes();
        drop(writer);
        assert_eq!(bytes, out.len() as u64);
        out
    }

    #[test]
    fn messages_survive_a_file() {
        let messages: &[&[&[u8]]] = &[&[b"topic", &[0; 8], b"payload"], &[], &[b""]];
        let bytes = write(messages);
        let read: Result<Vec<_>> = FramesReader::new(&bytes[..], Path::new("in")).collect();
        assert_eq!(read.unwrap(), messages);
    }

    #[test]
    fn half_a_message_is_reported_after_all_before_it() {
        let bytes = write(&[&[b"a", b"b"], &[b"cc", b"dd"]]);
        let first = write(&[&[b"a", b"b"]]).len();
        for cut in first + 1..bytes.len() {
            let mut reader = FramesReader::new(&bytes[..cut], Path::new("in"));
            assert_eq!(reader.next().unwrap().unwrap().len(), 2);
            match reader.next() {
                Some(Err(PeerError::Truncated {
                    offset, message: 1, ..
                })) => assert_eq!(offset, first as u64),
                other => panic!("{cut}: {other:?}"),
            }
            assert!(reader.next().is_none());
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut frames = (MAX_FRAMES + 1).to_le_bytes().to_vec();
        let mut bytes = 1u32.to_le_bytes().to_vec();
        frames.extend([0; 64]);
        bytes.extend(u32::MAX.to_le_bytes());
        let good = write(&[&[b"a"]]);
        for file in [frames, bytes] {
            let read = FramesReader::new(&file[..], Path::new("in")).next();
            assert!(matches!(read, Some(Err(PeerError::NotFrames { .. }))));
            let behind = [good.as_slice(), &file].concat();
            let read = FramesReader::new(&behind[..], Path::new("in")).nth(1);
            assert!(matches!(read, Some(Err(PeerError::Limit { .. }))));
        }
    }

    #[test]
    fn batches_have_three_frames_and_an_eight_byte_sequence() {
        let ok = [
            Bytes::from_static(b"t"),
            Bytes::from_static(&[0, 0, 0, 0, 0, 0, 1, 0]),
            Bytes::from_static(b"p"),
        ];
        assert_eq!(batch(&ok).unwrap().sequence, 256);
        assert!(batch(&ok[..2]).is_err());
        assert!(batch(&[ok[0].clone(), ok[0].clone(), ok[2].clone()]).is_err());
    }
}
