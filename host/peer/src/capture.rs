//! Records any stream to a `.frames` file.
//!
//! Messages are written as they come, whatever is in them; gaps, restarts and
//! malformed messages are counted, per topic. What was buffered is handed to
//! the system whenever the stream pauses, so that a killed capture loses at
//! most half a message of what came before the pause.

use crate::Result;
use crate::endpoint::Side;
use crate::frames::{FramesWriter, batch};
use crate::monitor::Link;
use crate::subscriber::Subscriber;
use bytes::Bytes;
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Topics whose sequences are followed; messages of more are only written.
const MAX_TOPICS: usize = 65_536;

/// What to record, and until when.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// ZeroMQ endpoint of the publisher, or to bind.
    pub endpoint: String,
    /// Which end to take. `Auto` connects.
    pub side: Side,
    /// Topic prefixes; none: everything.
    pub topics: Vec<String>,
    /// The file. It is created, or emptied.
    pub path: PathBuf,
    /// Messages that may wait to be written.
    pub hwm: i32,
    /// Ends after so many messages.
    pub max_messages: Option<u64>,
    /// Ends once the file has so many bytes.
    pub max_bytes: Option<u64>,
    /// Ends after so long without a message.
    pub idle: Option<Duration>,
    /// Ends after so long, in any case.
    pub duration: Option<Duration>,
}

/// Why a capture ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// It has as many messages as wanted.
    Messages,
    /// The file has as many bytes as wanted.
    Bytes,
    /// No message came for long enough.
    Idle,
    /// Its time is over.
    Duration,
}

/// What was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CaptureSummary {
    /// Messages written.
    pub messages: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Topics seen.
    pub topics: u64,
    /// Times a sequence jumped forward.
    pub gaps: u64,
    /// Sequences jumped over.
    pub missing: u64,
    /// Times a sequence went back or came again: a restart, or two publishers.
    pub restarts: u64,
    /// Messages without three frames, or with a sequence that is not 8 bytes.
    pub malformed: u64,
    /// Why it ended.
    pub ended: Ended,
    /// Who was at the other end.
    pub link: Link,
}

/// Records until a limit is reached or `stop` is set, which is looked at at
/// least every 50 ms. `progress` is called at most ten times a second.
///
/// # Errors
/// [`PeerError::Endpoint`](crate::PeerError::Endpoint), or
/// [`PeerError::Io`](crate::PeerError::Io) when the file cannot be written.
pub fn capture(
    context: &zmq::Context,
    config: &CaptureConfig,
    stop: &AtomicBool,
    mut progress: impl FnMut(&CaptureSummary),
) -> Result<CaptureSummary> {
    let mut subscriber = Subscriber::open(
        context,
        &config.endpoint,
        &config.topics,
        config.side,
        config.hwm,
    )?;
    let mut writer = FramesWriter::create(&config.path)?;
    let mut positions: HashMap<Bytes, u64> = HashMap::new();
    let mut summary = CaptureSummary {
        messages: 0,
        bytes: 0,
        topics: 0,
        gaps: 0,
        missing: 0,
        restarts: 0,
        malformed: 0,
        ended: Ended::Stopped,
        link: Link::default(),
    };
    let begun = Instant::now();
    let mut last_message = begun;
    let mut last_progress = begun;
    summary.ended = loop {
        if stop.load(Relaxed) {
            break Ended::Stopped;
        }
        if config.max_messages.is_some_and(|n| writer.messages() >= n) {
            break Ended::Messages;
        }
        if config.max_bytes.is_some_and(|n| writer.bytes() >= n) {
            break Ended::Bytes;
        }
        let now = Instant::now();
        if config.duration.is_some_and(|d| now - begun >= d) {
            break Ended::Duration;
        }
        let mut wait = Duration::from_millis(50);
        if let Some(d) = config.duration {
            wait = wait.min(d.saturating_sub(now - begun));
        }
        if let Some(idle) = config.idle {
            let silent = now.duration_since(last_message);
            if silent >= idle {
                break Ended::Idle;
            }
            wait = wait.min(idle - silent);
        }
        match subscriber.receive(Duration::ZERO)? {
            Some(message) => {
                writer.write(&message)?;
                last_message = now;
                follow(&message, &mut positions, &mut summary);
            }
            None => {
                writer.flush()?;
                if let Some(message) = subscriber.receive(wait)? {
                    writer.write(&message)?;
                    last_message = Instant::now();
                    follow(&message, &mut positions, &mut summary);
                }
            }
        }
        summary.messages = writer.messages();
        summary.bytes = writer.bytes();
        if now - last_progress >= Duration::from_millis(100) {
            last_progress = now;
            summary.link = subscriber.link()?;
            progress(&summary);
        }
    };
    writer.flush()?;
    summary.link = subscriber.link()?;
    progress(&summary);
    Ok(summary)
}

fn follow(message: &[Bytes], positions: &mut HashMap<Bytes, u64>, summary: &mut CaptureSummary) {
    let Ok(batch) = batch(message) else {
        summary.malformed += 1;
        return;
    };
    let Some(last) = positions.get_mut(&batch.topic) else {
        if positions.len() < MAX_TOPICS {
            summary.topics += 1;
            positions.insert(batch.topic, batch.sequence);
        }
        return;
    };
    match batch.sequence.checked_sub(*last) {
        Some(0) | None => summary.restarts += 1,
        Some(1) => {}
        Some(step) => {
            summary.gaps += 1;
            summary.missing += step - 1;
        }
    }
    *last = batch.sequence;
}

#[cfg(test)]
mod tests;
