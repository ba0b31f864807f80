//! A checkpoint's file: written whole or not at all, and checked before it is used.
//!
//! ```text
//! "penstock checkpoint 1\n" | records, each: length u32 (little endian), MessagePack
//!                           | SHA-256 of all before it
//! records: head, then for each source: begin, pieces of its state, done; then end
//! ```

use anyhow::{Context, Result, bail, ensure};
use penstock_ingest::Resume;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// One step of a checkpoint.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// Whose it is, and whether there is state or positions alone.
    Head {
        plugin: String,
        state: bool,
        /// Which streams it read; empty: the engines'.
        #[serde(default)]
        streams: String,
    },
    /// A source begins, by name.
    Begin(String),
    /// A piece of its state, and the schema it is written under.
    Piece(u32, #[serde(with = "serde_bytes")] Vec<u8>),
    /// Where the source stood; none: there is nothing to go on from.
    Done(Option<Resume>),
    /// That was all.
    End,
}

/// First bytes of the file.
const MAGIC: &[u8] = b"penstock checkpoint 1\n";
/// Bytes of the digest at its end.
const SUM: u64 = 32;
/// Longest record: a piece of at most 1 MiB, or a dictionary.
const LONGEST: u32 = 64 << 20;

/// A file that is being written.
pub struct Writer {
    file: BufWriter<tempfile::NamedTempFile>,
    sum: Sha256,
    bytes: u64,
}

/// A file whose digest is right.
pub struct Reader {
    file: BufReader<File>,
    left: u64,
}

// === impl Writer ===

impl Writer {
    pub fn new(directory: &Path) -> Result<Self> {
        let file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(directory)
            .with_context(|| format!("{}", directory.display()))?;
        let mut writer = Self {
            file: BufWriter::new(file),
            sum: Sha256::new(),
            bytes: 0,
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    pub fn record(&mut self, record: &Record) -> Result<()> {
        let bytes = rmp_serde::to_vec(record)?;
        let len = u32::try_from(bytes.len())
            .ok()
            .filter(|len| *len <= LONGEST);
        let len = len.context("a record is too long")?;
        self.put(&len.to_le_bytes())?;
        self.put(&bytes)
    }

    /// Puts it in its place, once it is on the disk. How many bytes it has.
    pub fn finish(mut self, path: &Path) -> Result<u64> {
        self.record(&Record::End)?;
        let sum = std::mem::take(&mut self.sum).finalize();
        self.file.write_all(&sum)?;
        let file = self.file.into_inner().map_err(|e| e.into_error())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        // The name as well.
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(self.bytes + SUM)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)?;
        Ok(())
    }
}

// === impl Reader ===

impl Reader {
    /// Opens a file and checks all of it.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
        let len = file.get_ref().metadata()?.len();
        let body = len.checked_sub(SUM).context("it is cut short")?;
        let mut sum = Sha256::new();
        let mut chunk = vec![0; 1 << 20];
        let mut left = body;
        while left > 0 {
            let most = left.min(chunk.len() as u64) as usize;
            file.read_exact(&mut chunk[..most])?;
            sum.update(&chunk[..most]);
            left -= most as u64;
        }
        let mut written = [0; SUM as usize];
        file.read_exact(&mut written)?;
        ensure!(*sum.finalize() == written, "its digest is wrong");
        let mut file = file.into_inner();
        std::io::Seek::rewind(&mut file)?;
        let mut reader = Self {
            file: BufReader::with_capacity(1 << 20, file),
            left: body,
        };
        let mut magic = [0; MAGIC.len()];
        reader.get(&mut magic)?;
        ensure!(
            magic == *MAGIC,
            "it is no checkpoint that this version reads"
        );
        Ok(reader)
    }

    /// The next record; none after the last.
    pub fn record(&mut self) -> Result<Option<Record>> {
        let mut len = [0; 4];
        self.get(&mut len)?;
        let len = u32::from_le_bytes(len);
        ensure!(len <= LONGEST, "a record is too long");
        let mut bytes = vec![0; len as usize];
        self.get(&mut bytes)?;
        match rmp_serde::from_slice(&bytes)? {
            Record::End => Ok(None),
            record => Ok(Some(record)),
        }
    }

    fn get(&mut self, bytes: &mut [u8]) -> Result<()> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            bail!("it ends within a record");
        };
        self.left = left;
        self.file.read_exact(bytes)?;
        Ok(())
    }
}

/// The files of a directory by number, the newest first.
pub fn numbered(directory: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let ours = path.extension().is_some_and(|e| e == "checkpoint");
            let number = path.file_stem()?.to_str()?.parse().ok()?;
            ours.then_some((number, path))
        })
        .collect();
    files.sort_unstable_by(|a, b| b.cmp(a));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, number: u64) -> PathBuf {
        let mut writer = Writer::new(directory).unwrap();
        let head = Record::Head {
            plugin: "index".into(),
            state: true,
            streams: String::new(),
        };
        writer.record(&head).unwrap();
        writer.record(&Record::Begin("e".into())).unwrap();
        writer.record(&Record::Piece(2, vec![7; 100_000])).unwrap();
        writer.record(&Record::Done(None)).unwrap();
        let path = directory.join(format!("{number}.checkpoint"));
        writer.finish(&path).unwrap();
        path
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_lies_there() {
        let home = tempfile::tempdir().unwrap();
        let path = write(home.path(), 3);
        let mut reader = Reader::open(&path).unwrap();
        let mut records = 0;
        while let Some(record) = reader.record().unwrap() {
            records += 1;
            assert_eq!(matches!(record, Record::Piece(2, _)), records == 3);
        }
        assert_eq!(records, 4);
        write(home.path(), 12);
        let found: Vec<_> = numbered(home.path()).into_iter().map(|f| f.0).collect();
        assert_eq!(found, [12, 3], "the newest first");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2);
        drop(Writer::new(home.path()).unwrap());
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_head_from_before_there_were_chains_is_read() {
        #[derive(Serialize)]
        enum Older {
            Head { plugin: String, state: bool },
        }
        let plugin = "index".to_owned();
        let older = rmp_serde::to_vec(&Older::Head {
            plugin: plugin.clone(),
            state: true,
        });
        let streams = String::new();
        let state = true;
        let head = Record::Head {
            plugin,
            state,
            streams,
        };
        assert_eq!(
            rmp_serde::from_slice::<Record>(&older.unwrap()).unwrap(),
            head
        );
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let home = tempfile::tempdir().unwrap();
        let path = write(home.path(), 1);
        let whole = std::fs::read(&path).unwrap();
        for at in [0, 30, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(Reader::open(&path).is_err(), "byte {at}");
        }
        for len in [0, 10, whole.len() - 1, whole.len() - 40] {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(Reader::open(&path).is_err(), "{len} bytes");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(Reader::open(&path).is_ok());
    }
}
