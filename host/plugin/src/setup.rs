use crate::host::log::LogGate;
use crate::host::metrics::Series;
use crate::{Grants, Limits};
use penstock_event::Publish;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What stays when an instance goes: a plugin's name, rights, config and sinks,
/// and what is counted over all of its instances.
pub struct Setup {
    /// The plugin's name: the file's without `.wasm`.
    pub name: Arc<str>,
    /// How much it may use.
    pub limits: Limits,
    /// What it may import.
    pub grants: Grants,
    /// Its `[config]` table, as a JSON object.
    pub config: String,
    /// Its sinks, by the name that `publish` calls them.
    pub sinks: HashMap<String, Arc<dyn Publish>>,
    pub(crate) log: LogGate,
    pub(crate) series: Series,
    /// The plugin is to end: the call that runs is not waited for any more.
    pub(crate) cut: Arc<AtomicBool>,
}

// === impl Setup ===

impl Setup {
    /// A plugin's set-up. `config` is any serialisable table; none means `{}`.
    #[must_use]
    pub fn new(
        name: &str,
        limits: Limits,
        grants: Grants,
        config: Option<&serde_json::Map<String, serde_json::Value>>,
        sinks: HashMap<String, Arc<dyn Publish>>,
    ) -> Arc<Self> {
        Self::of_shard(None, name, limits, grants, config, sinks)
    }

    /// The same for one of the instances that share a plugin's sources, by its number
    /// from 1: its own gauges are labelled with it.
    #[must_use]
    pub fn of_shard(
        shard: Option<usize>,
        name: &str,
        limits: Limits,
        grants: Grants,
        config: Option<&serde_json::Map<String, serde_json::Value>>,
        sinks: HashMap<String, Arc<dyn Publish>>,
    ) -> Arc<Self> {
        let config = config.map_or_else(
            || "{}".to_owned(),
            |table| serde_json::Value::Object(table.clone()).to_string(),
        );
        Arc::new(Self {
            cut: Arc::default(),
            log: LogGate::new(name, &limits),
            series: Series::new(name, shard, limits.metric_series),
            name: name.into(),
            limits,
            grants,
            config,
            sinks,
        })
    }
}

impl Setup {
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .field("grants", &self.grants)
            .field("sinks", &self.sinks.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
