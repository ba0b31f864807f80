//! What serde cannot see: ranges, and keys that go together.

use super::place::Where;
use super::{Config, ConfigError, nearest};

/// Ranges, and the log filter.
pub fn values(config: &Config, place: &Where) -> Result<(), ConfigError> {
    let ingest = &config.ingest;
    let ranges: &[(&str, u64, u64, u64)] = &[
        ("scan_ms", config.scan_ms, 100, 60_000),
        ("drain_ms", config.drain_ms, 0, 600_000),
        ("ingest.threads", ingest.threads as u64, 1, 64),
        (
            "ingest.max_message_bytes",
            ingest.max_message_bytes,
            1_024,
            1 << 31,
        ),
        (
            "ingest.receive_hwm",
            ingest.receive_hwm.into(),
            1,
            10_000_000,
        ),
        ("ingest.turn", ingest.turn as u64, 1, 100_000),
        (
            "ingest.buffer_batches",
            ingest.buffer_batches as u64,
            1,
            10_000_000,
        ),
        (
            "ingest.buffer_bytes",
            ingest.buffer_bytes as u64,
            1 << 16,
            1 << 36,
        ),
        ("ingest.replay_wait_ms", ingest.replay_wait_ms, 10, 600_000),
        (
            "ingest.replay_attempts",
            ingest.replay_attempts.into(),
            1,
            100,
        ),
        ("ingest.replays", ingest.replays as u64, 1, 256),
        ("ingest.tail_after_ms", ingest.tail_after_ms, 10, 3_600_000),
        (
            "ingest.stale_after_ms",
            ingest.stale_after_ms,
            10,
            86_400_000,
        ),
        (
            "ingest.leave_after_ms",
            ingest.leave_after_ms,
            10,
            86_400_000 * 7,
        ),
        (
            "route.ring_bytes",
            config.route.ring_bytes as u64,
            0,
            1 << 40,
        ),
        (
            "route.ring_total_bytes",
            config.route.ring_total_bytes as u64,
            0,
            1 << 40,
        ),
        (
            "route.lanes_total_bytes",
            config.route.lanes_total_bytes as u64,
            1 << 16,
            1 << 40,
        ),
        ("query.deadline_ms", config.query.deadline_ms, 1, 600_000),
        ("query.queue", config.query.queue as u64, 1, 1 << 20),
        (
            "query.max_body_bytes",
            config.query.max_body_bytes as u64,
            1_024,
            1 << 30,
        ),
    ];
    for (key, value, least, most) in ranges {
        if value < least || value > most {
            let why = format!("must be from {least} to {most}, is {value}");
            return Err(place.at(key, why));
        }
    }
    if ingest.stale_after_ms > ingest.leave_after_ms {
        let why = format!(
            "is above `leave_after_ms` ({}): a source is stale before it has left",
            ingest.leave_after_ms
        );
        return Err(place.at("ingest.stale_after_ms", why));
    }
    log(&config.log, place)
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A bare word that is no level names a target: of a level misspelt, nothing at all
/// would be logged.
fn log(filter: &str, place: &Where) -> Result<(), ConfigError> {
    let wrong = |why: &str| {
        let why = format!("{filter:?}: {why}; say \"info\", or \"penstock_ingest=debug,info\"");
        place.at("log", why)
    };
    penstock_telemetry::check_filter(filter).map_err(|why| wrong(&why))?;
    for word in filter
        .split(',')
        .map(|word| word.trim().to_ascii_lowercase())
    {
        let letters = word.chars().all(|c| c.is_ascii_alphabetic());
        if !letters || word.is_empty() || LEVELS.contains(&word.as_str()) {
            continue;
        }
        if let Some(level) = nearest(&word, LEVELS.into_iter()) {
            let mut error = wrong(&format!("{word:?} is no level"));
            error.nearest = Some(level);
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_would_log_nothing_are_mistakes() {
        let place = Where {
            file: "p.toml".into(),
            text: "\nlog = \"x\"\n".into(),
            variables: Vec::new(),
        };
        for fine in [
            "info",
            "",
            "DEBUG",
            "3",
            "penstock_ingest=debug,info",
            "plugin,warn",
        ] {
            log(fine, &place).unwrap();
        }
        for wrong in ["inof", "debgu", "penstock=loud", "info,wran", "a=b=c"] {
            let error = log(wrong, &place).unwrap_err();
            assert!(error.to_string().starts_with("p.toml:2: log: "), "{error}");
        }
        let error = log("inof", &place).unwrap_err();
        assert_eq!(error.nearest.as_deref(), Some("info"));
    }
}
