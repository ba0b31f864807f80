//! `[[sources]]`, one spec a rank; and what of it is hardly meant.

use super::place::Where;
use super::{Config, ConfigError};
use penstock_discovery::{Declared, bad_model, bad_name};
use penstock_event::SourceSpec;
use std::collections::{BTreeMap, BTreeSet};

/// The sources as ingest takes them, each with the number of its table.
///
/// # Errors
/// The first mistake.
pub fn expand(config: &Config, place: &Where) -> Result<Vec<(usize, SourceSpec)>, ConfigError> {
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
        let replay = declared.replay.as_ref();
        if replay.is_some_and(|replay| declared.endpoints.contains(replay)) {
            let why = "is the endpoint too; an engine answers replays at a port of its own \
                       (`replay_endpoint`)";
            return Err(place.at(&key("replay"), why));
        }
        let expanded = declared.expand();
        let expanded = expanded.map_err(|e| place.at(&key("ranks"), e.to_string()))?;
        specs.extend(expanded.into_iter().map(|spec| (i, spec)));
    }
    Ok(specs)
}

/// Sources whose endpoints meet those of a source before them: the first meeting of
/// each. It works, and counts every block twice.
pub fn overlaps(specs: &[(usize, SourceSpec)], place: &Where) -> Vec<ConfigError> {
    let mut warnings: BTreeMap<usize, ConfigError> = BTreeMap::new();
    for (at, (number, spec)) in specs.iter().enumerate() {
        let before = specs[..at].iter().filter(|(other, _)| other != number);
        let met = penstock_ingest::overlaps(spec, before.map(|(_, spec)| spec));
        if let Some(why) = met.into_iter().next() {
            let key = format!("sources.{number}.endpoint");
            warnings
                .entry(*number)
                .or_insert_with(|| place.at(&key, why));
        }
    }
    warnings.into_values().collect()
}
