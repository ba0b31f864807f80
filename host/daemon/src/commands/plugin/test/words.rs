//! The words of a transcript: each says one thing the same way every time.

use penstock_decode::{Limits, json::Renderer};
use penstock_event::{By, Change, Columns, Kind, Query, Row, flags};
use std::fmt::Write;

/// Bytes of a payload that are written out where it is neither text nor events.
const SHOWN: usize = 64;

/// `penstock_plugin_custom_blocks{plugin="p"} 3` is `blocks 3`; the host's own counters
/// matter only where something was dropped.
pub fn metric(line: &str) -> Option<String> {
    let (series, value) = line.rsplit_once(' ')?;
    let name = series.split('{').next()?;
    if let Some(own) = name.strip_prefix("penstock_plugin_custom_") {
        return Some(format!("{own} {value}"));
    }
    let dropped = [
        "penstock_plugin_metrics_dropped_total",
        "penstock_plugin_lies_total",
    ];
    (dropped.contains(&name) && value != "0").then(|| format!("{name} {value}"))
}

/// An event of the plugin's own.
pub fn made(columns: &Columns, i: usize) -> String {
    let row = columns.event(i);
    let kind = match row.kind {
        Kind::Stored => "stored",
        Kind::Removed => "removed",
        Kind::Cleared => return "cleared".into(),
    };
    let list = |numbers: Vec<String>| numbers.join(" ");
    let hashes = columns.hashes.get(columns.blocks(i)).unwrap_or(&[]);
    let mut text = format!(
        "{kind} {}",
        list(hashes.iter().map(u64::to_string).collect())
    );
    if row.flags & flags::PARENT != 0 {
        let parent = columns.parents.get(i).copied().unwrap_or(0);
        // Writing to a String cannot fail.
        let _ = write!(text, ", parent {parent}");
    }
    if let Some(medium) = row.medium.name() {
        let _ = write!(text, ", {medium}");
    }
    if row.group != 0 {
        let _ = write!(text, ", group {}", row.group);
    }
    let tokens = columns.tokens_of(i);
    if !tokens.is_empty() {
        let _ = write!(text, ", {}", count(tokens.len(), "token"));
    }
    text
}

pub fn told(change: &Change) -> String {
    match change {
        Change::Joined(state) => {
            let info = &state.info;
            format!("joined: {}, model {:?}", info.name, info.spec.model)
        }
        Change::Left(_) => "left".into(),
        Change::Reset { epoch, reason, .. } => {
            format!("reset to epoch {}: {}", epoch.0, reason.name())
        }
        Change::Gap {
            epoch,
            first,
            last,
            reason,
            ..
        } => format!("gap {}/{first}-{last}: {}", epoch.0, reason.name()),
    }
}

pub fn lookup(query: &Query) -> String {
    let by = match &query.by {
        By::Tokens(tokens) => count(tokens.len(), "token"),
        By::TokenHashes(hashes) => count(hashes.len(), "token hash"),
        By::EngineHashes(hashes) => count(hashes.len(), "engine hash"),
    };
    let mut text = format!("lookup by {by}");
    for (what, name) in [("adapter", &query.adapter), ("salt", &query.salt)] {
        if !name.is_empty() {
            let _ = write!(text, ", {what} {name:?}");
        }
    }
    text
}

/// As the host would answer: without rows of another model.
pub fn holders(rows: &[Row], name: &str, of_model: bool) -> String {
    let row = |row: &Row| {
        let media = [
            ("gpu", row.gpu),
            ("cpu", row.cpu),
            ("disk", row.disk),
            ("other", row.other),
        ];
        let media: Vec<_> = media
            .iter()
            .filter(|(_, tokens)| *tokens > 0)
            .map(|(medium, tokens)| format!("{medium} {tokens}"))
            .collect();
        let blocks = count(row.blocks as usize, "block");
        let tokens = count(row.tokens as usize, "token");
        let rank = if row.rank > 0 {
            format!(" rank {}", row.rank)
        } else {
            String::new()
        };
        format!(
            "{name}{rank} holds {blocks}, {tokens} ({})",
            media.join(", ")
        )
    };
    let mut rows: Vec<_> = rows.iter().filter(|_| of_model).map(row).collect();
    rows.sort();
    match rows.is_empty() {
        true => "nobody".into(),
        false => rows.join("; "),
    }
}

/// Bytes as text where they are text, as events where they are a batch of an engine, and
/// by their digest otherwise.
pub fn payload(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(|c| c.is_control() && c != '\n')
    {
        return format!("{text:?}");
    }
    let lines = Renderer::new(Limits::default()).lines(0, bytes);
    if lines.iter().all(|line| line["kind"] != "error") && !lines.is_empty() {
        let lines: Vec<_> = lines.iter().map(|line| format!("\n    {line}")).collect();
        return format!(
            "a batch of {}{}",
            count(lines.len(), "event"),
            lines.concat()
        );
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    match bytes.len() {
        n if n <= SHOWN => format!("{n} bytes, {}", hex(bytes)),
        n => format!("{n} bytes, sha256 {}", penstock_plugin::sha256(bytes)),
    }
}

pub fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n if what.ends_with("sh") => format!("{n} {what}es"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::plugin::sample;

    #[test]
    fn payloads_are_told_as_what_they_are() {
        assert_eq!(payload(b"{\"a\":1}"), "\"{\\\"a\\\":1}\"");
        assert_eq!(payload(&[0, 255]), "2 bytes, 00ff");
        assert!(payload(&[0; 65]).starts_with("65 bytes, sha256 98ce42deef51d40269d542f5314bef2c"));
        let (_, batch) = sample::small().swap_remove(2);
        let text = payload(&batch);
        assert!(text.starts_with("a batch of 2 events\n"), "{text}");
        assert!(text.contains("\"kind\":\"removed\""), "{text}");
    }

    #[test]
    fn only_the_plugins_own_numbers_are_told() {
        let own = metric("penstock_plugin_custom_hits{plugin=\"p\"} 3");
        assert_eq!(own.as_deref(), Some("hits 3"));
        assert_eq!(metric("penstock_plugin_lies_total{plugin=\"p\"} 0"), None);
        assert!(metric("penstock_plugin_lies_total{plugin=\"p\"} 1").is_some());
        assert_eq!(metric("# TYPE penstock_plugin_custom_hits counter"), None);
    }
}
