//! What serde cannot see: endpoints, ranges, names used twice.

use super::{Config, ConfigError};
use penstock_discovery::{Declared, bad_model, bad_name};
use penstock_event::SourceSpec;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Where a config's keys stand, for messages.
pub struct Where<'a> {
    pub file: &'a Path,
    pub text: &'a str,
    pub variables: &'a [(String, Vec<String>)],
}

impl Where<'_> {
    /// The mistake at a key such as `sources.0.endpoint`.
    pub fn at(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let path: Vec<&str> = key.split('.').collect();
        let variable =
            self.variables.iter().rev().find(|(_, set)| {
                set.len() <= path.len() && set.iter().zip(&path).all(|(a, b)| a == b)
            });
        let mut error = ConfigError::file(self.file, message);
        error.key = Some(key.to_string());
        match variable {
            Some((name, _)) => error.place = format!("environment variable {name}"),
            None => error.line = line_of(self.text, &path),
        }
        error
    }
}

/// The line of a key, or of the nearest table around it.
fn line_of(text: &str, path: &[&str]) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut span = None;
    let mut at: Option<&DeValue<'_>> = None;
    for (depth, name) in path.iter().enumerate() {
        let found = match (depth, at) {
            (0, _) => table.get_ref().get_key_value(*name),
            (_, Some(DeValue::Table(table))) => table.get_key_value(*name),
            (_, Some(DeValue::Array(items))) => {
                let Some(item) = name.parse().ok().and_then(|i: usize| items.get(i)) else {
                    break;
                };
                span = Some(item.span().start);
                at = Some(item.get_ref());
                continue;
            }
            _ => None,
        };
        let Some((key, value)) = found else { break };
        span = Some(key.span().start);
        at = Some(value.get_ref());
    }
    let before = text.as_bytes().get(..span?)?;
    Some(before.iter().filter(|b| **b == b'\n').count() + 1)
}

/// The sources as ingest takes them.
pub fn sources(config: &Config, place: &Where<'_>) -> Result<Vec<SourceSpec>, ConfigError> {
    let mut specs = Vec::new();
    let mut names = BTreeSet::new();
    for (i, source) in config.sources.iter().enumerate() {
        let key = |field: &str| format!("sources.{i}.{field}");
        if let Some(why) = bad_name(&source.name) {
            return Err(place.at(&key("name"), why));
        }
        if let Some(why) = bad_model(&source.model) {
            return Err(place.at(&key("model"), why));
        }
        if !names.insert(source.name.clone()) {
            let why = format!("two sources are named {:?}", source.name);
            return Err(place.at(&key("name"), why));
        }
        let mut endpoints = source.endpoints.clone();
        endpoints.extend(source.endpoint.clone());
        if endpoints.is_empty() {
            let why = "needs `endpoint`, such as \"tcp://10.0.0.7:5557\"";
            return Err(place.at(&format!("sources.{i}"), why));
        }
        for endpoint in &mut endpoints {
            *endpoint = penstock_ingest::check_endpoint(endpoint, source.mode)
                .map_err(|e| place.at(&key("endpoint"), e.to_string()))?;
        }
        let replay = source.replay.as_deref().map(|replay| {
            penstock_ingest::check_endpoint(replay, penstock_event::Mode::Connect)
                .map_err(|e| place.at(&key("replay"), e.to_string()))
        });
        let declared = Declared {
            name: source.name.clone(),
            endpoints,
            replay: replay.transpose()?,
            topics: source.topics.clone(),
            mode: source.mode,
            model: source.model.clone(),
            first_sequence: source.first_sequence,
            block_size: source.block_size,
            ranks: source.ranks,
            labels: source.labels.clone(),
        };
        if source.ranks == 0 || source.ranks > 1_024 {
            return Err(place.at(&key("ranks"), "must be from 1 to 1024"));
        }
        let expanded = declared.expand();
        specs.extend(expanded.map_err(|e| place.at(&key("ranks"), e.to_string()))?);
    }
    Ok(specs)
}

/// Ranges and addresses.
pub fn values(config: &Config, place: &Where<'_>) -> Result<(), ConfigError> {
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
    let http = &config.query.http;
    if http != "off" && http.parse::<SocketAddr>().is_err() {
        let why = format!("{http:?} is no address; say \"127.0.0.1:7780\" or \"off\"");
        return Err(place.at("query.http", why));
    }
    if config.query.zmq != "off" {
        // `*` as port: any free one, which the log then names.
        let any = config.query.zmq.strip_suffix(":*");
        let endpoint = any.map_or(config.query.zmq.clone(), |host| format!("{host}:1"));
        penstock_ingest::check_endpoint(&endpoint, penstock_event::Mode::Bind)
            .map_err(|e| place.at("query.zmq", e.to_string()))?;
    }
    Ok(())
}
