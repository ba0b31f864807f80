//! What engines published, read back from their own log: the truth.

use crate::oracle::Oracle;
use anyhow::{Context, Result};
use penstock_peer::engine::LogEntry;
use penstock_peer::frames::{FramesReader, batch};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// One batch in the publisher's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// The engine, from 0.
    pub engine: usize,
    /// Its starts before this one.
    pub run: u32,
    /// The batch's number.
    pub sequence: u64,
    /// XXH3-64 of the payload.
    pub digest: u64,
    /// It went to the socket.
    pub sent: bool,
    /// Replays leave it out.
    pub hidden: bool,
}

/// The file that engine `index` of several records to.
#[must_use]
pub fn record_file(record: &Path, index: usize, engines: usize) -> PathBuf {
    if engines == 1 {
        return record.to_path_buf();
    }
    let stem = record.file_stem().unwrap_or_default().to_string_lossy();
    record.with_file_name(format!("{stem}-{index}.frames"))
}

/// The batches of a log, in order.
///
/// # Errors
/// The file cannot be read, or is no log.
pub fn read_log(path: &Path) -> Result<Vec<LogBatch>> {
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut batches = Vec::new();
    for line in BufReader::new(file).lines() {
        if let LogEntry::Batch {
            engine,
            run,
            sequence,
            digest,
            sent,
            hidden,
            ..
        } = serde_json::from_str(&line?)?
        {
            batches.push(LogBatch {
                engine,
                run,
                sequence,
                digest,
                sent,
                hidden,
            });
        }
    }
    Ok(batches)
}

/// Gives an oracle everything that the engines published. `names` are the sources'
/// names, by engine.
///
/// # Errors
/// A file cannot be read, or log and recording do not agree.
pub fn teach(oracle: &mut Oracle, log: &[LogBatch], record: &Path, names: &[String]) -> Result<()> {
    for (engine, name) in names.iter().enumerate() {
        let file = record_file(record, engine, names.len());
        teach_one(oracle, log, &file, engine, name)?;
    }
    Ok(())
}

/// The same for one engine, whose recording is `file`.
///
/// # Errors
/// As for [`teach`].
pub fn teach_one(
    oracle: &mut Oracle,
    log: &[LogBatch],
    file: &Path,
    engine: usize,
    name: &str,
) -> Result<()> {
    let mut messages = FramesReader::open(file)?;
    for entry in log.iter().filter(|b| b.engine == engine) {
        let message = messages
            .next()
            .context("the recording is shorter than the log")??;
        let recorded = batch(&message).map_err(anyhow::Error::msg)?;
        anyhow::ensure!(
            recorded.sequence == entry.sequence,
            "the recording does not follow the log"
        );
        let payload = recorded.payload.to_vec();
        oracle.publish(name, entry.run as usize, entry.sequence, payload);
    }
    Ok(())
}
