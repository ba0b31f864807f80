//! Sinks by plugin and name. One outlives the plugin that publishes to it: as long
//! as its config stays the same, a swap keeps socket, queue and sequence.

use penstock_event::Publish;
use penstock_sink::{Sink, SinkConfig, SinkError, SinkStatus};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a sink whose config went may drain.
const RETIRE: Duration = Duration::from_secs(2);

/// All sinks of the daemon.
pub struct Sinks {
    context: zmq::Context,
    open: Mutex<BTreeMap<(String, String), (SinkConfig, Sink)>>,
}

// === impl Sinks ===

impl Sinks {
    pub fn new() -> Self {
        Self {
            context: zmq::Context::new(),
            open: Mutex::default(),
        }
    }

    /// A plugin's sinks as its file wants them. What is open and unchanged stays;
    /// a new or changed one is opened, and an error leaves all as it was before.
    pub fn open(
        &self,
        plugin: &str,
        wanted: &BTreeMap<String, SinkConfig>,
        home: &Path,
    ) -> Result<HashMap<String, Arc<dyn Publish>>, SinkError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut publishers = HashMap::new();
        for (name, config) in wanted {
            let config = absolute(config, home);
            let key = (plugin.to_string(), name.clone());
            let same = open.get(&key).is_some_and(|(old, _)| *old == config);
            if !same {
                // The old one holds the endpoint that the new one may want.
                let old = open.remove(&key);
                if let Some((_, old)) = old {
                    old.shutdown(Instant::now() + RETIRE);
                }
                let sink = Sink::open(&format!("{plugin}.{name}"), &config, &self.context)?;
                open.insert(key.clone(), (config, sink));
            }
            if let Some((_, sink)) = open.get(&key) {
                publishers.insert(name.clone(), sink.publisher());
            }
        }
        Ok(publishers)
    }

    /// Closes the sinks of a plugin that are not among `kept`.
    pub fn retire(&self, plugin: &str, kept: &BTreeMap<String, SinkConfig>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = (open.keys())
            .filter(|(owner, name)| owner == plugin && !kept.contains_key(name))
            .cloned()
            .collect();
        let gone: Vec<_> = gone.iter().filter_map(|key| open.remove(key)).collect();
        drop(open);
        for (_, sink) in gone {
            sink.shutdown(Instant::now() + RETIRE);
        }
    }

    pub fn status(&self, plugin: &str) -> BTreeMap<String, SinkStatus> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_plugin = open.iter().filter(|((owner, _), _)| owner == plugin);
        of_plugin
            .map(|((_, name), (_, sink))| (name.clone(), sink.status()))
            .collect()
    }

    /// Drains all until `until`. How many messages were not sent.
    pub fn shutdown(&self, until: Instant) -> u64 {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *open);
        drop(open);
        std::thread::scope(|scope| {
            let ends: Vec<_> = all
                .into_values()
                .map(|(_, sink)| scope.spawn(move || sink.shutdown(until).unsent_at_exit))
                .collect();
            ends.into_iter().filter_map(|end| end.join().ok()).sum()
        })
    }
}

/// Files of a sink stand relative to the config's directory.
fn absolute(config: &SinkConfig, home: &Path) -> SinkConfig {
    let mut config = config.clone();
    if let SinkConfig::File(file) = &mut config {
        file.path = home.join(&file.path);
    }
    config
}
