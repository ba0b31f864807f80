//! A plugin's sinks. A successor shares those whose config stays the same, so that
//! a swap keeps socket, queue and sequence; the others open when it takes over.

use bytes::Bytes;
use penstock_event::{Position, Publish, PublishError, SourceInfo};
use penstock_sink::{Sink, SinkConfig, SinkError, SinkStatus};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long a sink that is no longer wanted may drain.
const RETIRE: Duration = Duration::from_secs(2);

/// The sinks of one instance, by name.
#[derive(Clone, Default)]
pub struct Outlets(BTreeMap<String, Arc<Outlet>>);

/// One sink, open or not.
struct Outlet {
    /// `PLUGIN.NAME`, for logs and counters.
    name: String,
    config: SinkConfig,
    sink: Mutex<Option<Sink>>,
    /// What the plugin publishes to. Not open yet: another instance publishes, and
    /// what this one says is left out.
    publisher: RwLock<Option<Arc<dyn Publish>>>,
}

// === impl Outlets ===

impl Outlets {
    /// Sinks as a plugin's file wants them: those of `before` where nothing changed,
    /// closed ones elsewhere. Files stand relative to `home`.
    pub fn plan(
        plugin: &str,
        wanted: &BTreeMap<String, SinkConfig>,
        before: &Self,
        home: &Path,
    ) -> Self {
        let outlet = |(name, config): (&String, &SinkConfig)| {
            let config = absolute(config, home);
            let same = before.0.get(name).filter(|o| o.config == config).cloned();
            let outlet = same.unwrap_or_else(|| {
                Arc::new(Outlet {
                    name: format!("{plugin}.{name}"),
                    config,
                    sink: Mutex::default(),
                    publisher: RwLock::default(),
                })
            });
            (name.clone(), outlet)
        };
        Self(wanted.iter().map(outlet).collect())
    }

    /// Opens what is closed. Where a sink of `before` holds the address, it makes
    /// room, and its plugin publishes to the new one meanwhile.
    ///
    /// # Errors
    /// The first sink that cannot open; all of `before` is open again then.
    pub fn open(&self, before: &Self, context: &zmq::Context) -> Result<(), SinkError> {
        let mut opened: Vec<(&Arc<Outlet>, Option<&Arc<Outlet>>)> = Vec::new();
        for (name, outlet) in &self.0 {
            if outlet.lock().is_some() {
                continue;
            }
            let old = before.0.get(name).filter(|old| old.holds(outlet));
            let mut result = outlet.open(context);
            if result.is_err()
                && let Some(old) = old
            {
                old.close(Instant::now() + RETIRE);
                result = outlet.open(context);
                old.set(outlet.publisher());
            }
            opened.push((outlet, old));
            if let Err(error) = result {
                for (new, old) in opened {
                    new.close(Instant::now() + RETIRE);
                    let Some(old) = old.filter(|old| old.lock().is_none()) else {
                        continue;
                    };
                    if let Err(again) = old.open(context) {
                        tracing::error!(sink = old.name, "cannot be opened again: {again}");
                    }
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Closes what none of `kept` shares.
    pub fn retire(&self, kept: &[&Self]) {
        for (name, outlet) in &self.0 {
            let same = |k: &&Self| k.0.get(name).is_some_and(|k| Arc::ptr_eq(k, outlet));
            if !kept.iter().any(same) {
                outlet.close(Instant::now() + RETIRE);
            }
        }
    }

    /// Drains all until `until`, side by side. How many messages were not sent.
    pub fn shutdown(all: Vec<Self>, until: Instant) -> u64 {
        let outlets = all.into_iter().flat_map(|o| o.0.into_values());
        std::thread::scope(|scope| {
            let ends: Vec<_> = outlets
                .map(|outlet| scope.spawn(move || outlet.close(until)))
                .collect();
            ends.into_iter().filter_map(|end| end.join().ok()).sum()
        })
    }

    pub fn publishers(&self) -> HashMap<String, Arc<dyn Publish>> {
        let publisher = |(name, outlet): (&String, &Arc<Outlet>)| {
            (name.clone(), Arc::clone(outlet) as Arc<dyn Publish>)
        };
        self.0.iter().map(publisher).collect()
    }

    pub fn status(&self) -> BTreeMap<String, SinkStatus> {
        let status = |(name, outlet): (&String, &Arc<Outlet>)| {
            Some((name.clone(), outlet.lock().as_ref()?.status()))
        };
        self.0.iter().filter_map(status).collect()
    }
}

// === impl Outlet ===

impl Outlet {
    /// True when it stands in the way of `other`: a port or a file that both want.
    fn holds(&self, other: &Self) -> bool {
        let wanted = addresses(&other.config);
        addresses(&self.config).iter().any(|a| wanted.contains(a))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sink>> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, context: &zmq::Context) -> Result<(), SinkError> {
        let sink = Sink::open(&self.name, &self.config, context)?;
        self.set(Some(sink.publisher()));
        *self.lock() = Some(sink);
        Ok(())
    }

    /// How many messages were not sent.
    fn close(&self, until: Instant) -> u64 {
        let sink = self.lock().take();
        sink.map_or(0, |sink| sink.shutdown(until).unsent_at_exit)
    }

    fn publisher(&self) -> Option<Arc<dyn Publish>> {
        let publisher = self.publisher.read();
        publisher.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, publisher: Option<Arc<dyn Publish>>) {
        let mut slot = (self.publisher.write()).unwrap_or_else(PoisonError::into_inner);
        *slot = publisher;
    }
}

impl Publish for Outlet {
    fn publish(
        &self,
        topic: Bytes,
        payload: Bytes,
        source: Option<&SourceInfo>,
        position: Position,
    ) -> Result<(), PublishError> {
        let publisher = (self.publisher.read()).unwrap_or_else(PoisonError::into_inner);
        match &*publisher {
            Some(publisher) => publisher.publish(topic, payload, source, position),
            None => Ok(()),
        }
    }

    fn skip(&self) -> Result<(), PublishError> {
        let publisher = (self.publisher.read()).unwrap_or_else(PoisonError::into_inner);
        match &*publisher {
            Some(publisher) => publisher.skip(),
            None => Ok(()),
        }
    }
}

/// What a sink has for itself: ports, whatever the host in front of them, and paths.
fn addresses(config: &SinkConfig) -> Vec<String> {
    let port = |endpoint: &String| match endpoint.rsplit_once(':') {
        Some((_, port)) if endpoint.starts_with("tcp://") => port.to_string(),
        _ => endpoint.clone(),
    };
    match config {
        SinkConfig::ZmqPub(c) => [&c.endpoint]
            .into_iter()
            .chain(&c.replay)
            .map(port)
            .collect(),
        SinkConfig::ZmqPush(c) => vec![port(&c.endpoint)],
        SinkConfig::File(c) => vec![c.path.display().to_string()],
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
