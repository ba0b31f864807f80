//! A plugin's own file, `plugins.d/NAME.toml`.

use super::ConfigError;
use super::load::parse;
use penstock_plugin::{Features, Grant, Grants};
use penstock_route::WhenFull;
use penstock_sink::SinkConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// `NAME.toml`. Every key has a default; the file may be absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginFile {
    /// False: the plugin is not run.
    pub enabled: bool,
    /// Name patterns of the sources it gets (`*`, `?`). Empty: all.
    pub sources: Vec<String>,
    /// Plugins whose events it gets, instead of the engines'. A source that several of
    /// them read comes from the first one.
    pub after: Vec<String>,
    /// What it may import.
    pub grants: Grants,
    /// Instances that share its sources, each with a thread and limits of its own.
    pub shards: u32,
    /// What happens when it is slow: `catch-up` or `drop`.
    pub when_full: WhenFull,
    /// Bytes its lane may queue.
    pub lane_bytes: usize,
    /// Only bytes with this SHA-256 (hex) are loaded.
    pub sha256: Option<String>,
    /// What a trap or a missed deadline means: `restart`, `disable` or `hold`.
    pub on_failure: penstock_plugin::OnFailure,
    /// When it starts again, and how often.
    pub restarts: penstock_plugin::Restarts,
    /// How a new build takes over.
    pub swap: Swap,
    /// How often what it holds is written to disk.
    pub checkpoint: Checkpoint,
    /// Limits.
    pub limits: penstock_plugin::Limits,
    /// Handed to the plugin's `init` as JSON.
    pub config: toml::Table,
    /// Sinks by name.
    pub sink: BTreeMap<String, SinkConfig>,
}

/// `[swap]`: how a new build takes over from the one that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Swap {
    /// So long it runs beside the other one first, its effects compared and thrown away.
    pub shadow_s: u64,
    /// So long, or so many batches, the other one stays ready to take over again. 0 in
    /// either: not at all.
    pub probation_s: u64,
    pub probation_batches: u64,
}

/// `[checkpoint]`: for plugins with state, and those that only publish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoint {
    /// Seconds between two; 0: none.
    pub every_s: u64,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every_s: 30 }
    }
}

impl Default for Swap {
    fn default() -> Self {
        Self {
            shadow_s: 0,
            probation_s: 30,
            probation_batches: 1_000,
        }
    }
}

impl Default for PluginFile {
    fn default() -> Self {
        Self {
            enabled: true,
            sources: Vec::new(),
            after: Vec::new(),
            grants: [Grant::Log, Grant::Metrics, Grant::Clock]
                .into_iter()
                .collect(),
            shards: 1,
            when_full: WhenFull::CatchUp,
            lane_bytes: 64 << 20,
            sha256: None,
            on_failure: penstock_plugin::OnFailure::default(),
            restarts: penstock_plugin::Restarts::default(),
            swap: Swap::default(),
            checkpoint: Checkpoint::default(),
            limits: penstock_plugin::Limits::default(),
            config: toml::Table::new(),
            sink: BTreeMap::new(),
        }
    }
}

/// More instances than that would have nothing to do.
const MAX_SHARDS: u32 = 64;

impl PluginFile {
    /// Whether a component that exports these interfaces can run as its file says.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn suits(&self, features: Features) -> Result<(), String> {
        match self.shards {
            shards if shards > 1 && features.request => Err(format!(
                "shards = {shards}: it exports `request`, whose answers have a form of its own \
                 and cannot be merged; leave `shards` out, or use a build without `request`"
            )),
            _ => Ok(()),
        }
    }
}

/// Reads the text of a plugin's file. `file` is its name in messages.
pub fn load_plugin(file: &Path, text: &str) -> Result<PluginFile, ConfigError> {
    let (plugin, _) = parse::<PluginFile>(file, text, std::iter::empty(), "")?;
    let place = super::place::Where {
        file: file.to_path_buf(),
        text: text.to_string(),
        variables: Vec::new(),
    };
    for (name, sink) in &plugin.sink {
        if let Err(why) = sink.check() {
            return Err(place.at(&format!("sink.{name}"), why));
        }
    }
    if !(1..=MAX_SHARDS).contains(&plugin.shards) {
        let why = format!("must be between 1 and {MAX_SHARDS}, not {}", plugin.shards);
        return Err(place.at("shards", why));
    }
    if let Some(key) = plugin.limits.zero() {
        return Err(place.at(&format!("limits.{key}"), "must not be 0"));
    }
    for (key, zero) in [
        ("first_ms", plugin.restarts.first_ms == 0),
        ("longest_ms", plugin.restarts.longest_ms == 0),
    ] {
        if zero {
            return Err(place.at(&format!("restarts.{key}"), "must not be 0"));
        }
    }
    Ok(plugin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_bounded_and_have_no_requests() {
        let load = |text: &str| load_plugin(Path::new("index.toml"), text);
        assert_eq!(load("").unwrap().shards, 1);
        assert_eq!(load("shards = 64").unwrap().shards, 64);
        for many in [0, 65] {
            let text = format!("enabled = true\nshards = {many}");
            let told = load(&text).unwrap_err().to_string();
            let range = format!("must be between 1 and 64, not {many}");
            assert!(
                told.contains("index.toml:2") && told.contains(&range),
                "{told}"
            );
        }
        let requests = Features {
            request: true,
            ..Features::default()
        };
        let two = load("shards = 2").unwrap();
        assert!(two.suits(Features::default()).is_ok());
        assert!(load("").unwrap().suits(requests).is_ok());
        let told = two.suits(requests).unwrap_err();
        assert!(
            told.starts_with("shards = 2: it exports `request`"),
            "{told}"
        );
    }
}
