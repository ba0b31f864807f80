//! `log`, and the plugin's lines from stdout and stderr.
//!
//! A flood is limited per plugin, over all of its instances: a bucket of two
//! seconds' lines. What is dropped is counted, and said once it is over.

use crate::bindings::base::penstock::plugin::log::Host;
use crate::ctx::Ctx;
use crate::limits::Limits;
use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A line's level.
pub(crate) use tracing::Level;

/// What lets a plugin's lines through.
pub(crate) struct LogGate {
    name: Arc<str>,
    line_bytes: usize,
    bucket: Mutex<Bucket>,
    dropped: metrics::Counter,
}

/// Lines that may still be written, refilled by time.
struct Bucket {
    rate: f64,
    lines: f64,
    filled: Instant,
    dropped: u64,
}

impl Host for Ctx {
    fn write(&mut self, level: u8, message: String) {
        let level = match level {
            0 => Level::ERROR,
            1 => Level::WARN,
            2 => Level::INFO,
            3 => Level::DEBUG,
            _ => Level::TRACE,
        };
        self.say(level, &message);
    }
}

// === impl LogGate ===

impl LogGate {
    pub(crate) fn new(name: &str, limits: &Limits) -> Self {
        let rate = f64::from(limits.log_lines_per_s);
        Self {
            name: name.into(),
            line_bytes: limits.log_line_bytes,
            bucket: Mutex::new(Bucket::new(rate, Instant::now())),
            dropped: metrics::counter!(
                "penstock_plugin_log_dropped_total", "plugin" => name.to_owned()
            ),
        }
    }

    /// Writes one line, cut, or counts it as dropped.
    pub(crate) fn write(&self, level: Level, text: &str) {
        let verdict = self
            .bucket
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .take(Instant::now());
        let Some(dropped) = verdict else {
            self.dropped.increment(1);
            return;
        };
        if dropped > 0 {
            tracing::warn!(target: "plugin", plugin = %self.name, dropped, "log lines dropped");
        }
        let text = &one_line(cut(text, self.line_bytes));
        let plugin = &self.name;
        match level {
            Level::ERROR => tracing::error!(target: "plugin", %plugin, "{text}"),
            Level::WARN => tracing::warn!(target: "plugin", %plugin, "{text}"),
            Level::INFO => tracing::info!(target: "plugin", %plugin, "{text}"),
            Level::DEBUG => tracing::debug!(target: "plugin", %plugin, "{text}"),
            _ => tracing::trace!(target: "plugin", %plugin, "{text}"),
        }
    }
}

// === impl Bucket ===

impl Bucket {
    fn new(rate: f64, now: Instant) -> Self {
        Self {
            rate,
            lines: 2.0 * rate,
            filled: now,
            dropped: 0,
        }
    }

    /// None: dropped. Otherwise how many were dropped since the last line.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.lines = (self.lines + passed * self.rate).min(2.0 * self.rate);
        self.filled = now;
        if self.lines < 1.0 {
            self.dropped += 1;
            return None;
        }
        self.lines -= 1.0;
        Some(std::mem::take(&mut self.dropped))
    }
}

/// The same without control characters: a plugin must not write lines that look like
/// the daemon's own.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '\t' => line.push(' '),
            _ if letter.is_control() => line.extend(letter.escape_default()),
            _ => line.push(letter),
        }
    }
    line.into()
}

/// The longest start of `text` within `bytes`, whole characters only.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flood_is_dropped_and_the_next_line_tells() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, start);
        let through = (0..100).filter(|_| bucket.take(start).is_some()).count();
        assert_eq!(through, 20);
        let later = start + Duration::from_millis(150);
        assert_eq!(bucket.take(later), Some(80));
        assert_eq!(bucket.take(later), None);
    }

    #[test]
    fn a_message_stays_on_one_line() {
        assert_eq!(one_line("plain é"), "plain é");
        let forged = "a\n2026 ERROR penstock:\t\x1b[2Jgone\r";
        assert_eq!(
            one_line(forged),
            "a\\n2026 ERROR penstock: \\u{1b}[2Jgone\\r"
        );
    }

    #[test]
    fn cuts_fall_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aé", 9), "aé");
    }
}
