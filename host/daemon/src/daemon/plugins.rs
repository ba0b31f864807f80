//! The plugins that run: who they are, and how they are asked.

use super::checkpoint::{Kept, hash_key};
use super::load::Build;
use super::shards::Shards;
use super::sinks::Outlets;
use crate::config::Swap;
use penstock_ingest::Sources;
use penstock_plugin::{Cache, Features, Host, Status as RunnerStatus};
use penstock_query::PluginStatus;
use penstock_route::Router;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a build may take to catch up before it takes over anyway.
pub const WARM_UP: Duration = Duration::from_secs(30);

/// Where things lie.
pub struct Places {
    /// Plugins.
    pub plugins: PathBuf,
    /// What relative paths in plugin files start from.
    pub home: PathBuf,
    /// Checkpoints, and batches that are set aside; none: nothing is kept.
    pub state: Option<PathBuf>,
}

/// All plugins, loaded or refused.
pub struct Plugins {
    pub(super) host: Arc<Host>,
    pub(super) router: Arc<Router>,
    /// Of the sinks' sockets.
    pub(super) context: zmq::Context,
    pub(super) places: Places,
    pub(super) checkpoints: Kept,
    /// Known once ingest runs.
    pub(super) sources: Arc<Sources>,
    /// The plugin that answers when nobody is named.
    pub(super) default: Option<String>,
    pub(super) max_lookups: usize,
    /// What lies in the directory at start was not looked at yet.
    pub(super) starting: AtomicBool,
    table: Mutex<BTreeMap<String, Entry>>,
}

/// One name in the plugin directory.
#[derive(Default)]
pub struct Entry {
    /// What answers and is fed.
    pub running: Option<Running>,
    /// What will take its place once it has caught up.
    pub warming: Option<Running>,
    /// What ran before, while what runs is on probation.
    pub before: Option<Running>,
    pub probation: Option<Probation>,
    /// What ran before, by its build.
    pub previous: Option<Arc<Build>>,
    /// What warms up was brought back: there is nothing to bring back after it.
    pub rolled_back: bool,
    /// Files that were rolled back, by their digest, and why.
    pub quarantine: BTreeMap<u64, String>,
    /// The newest build that ran under this name.
    pub generations: u64,
    /// Why the newest files do not run.
    pub refused: Option<String>,
    /// Its file says `enabled = false`.
    pub disabled: bool,
    /// It is being compiled and set up.
    pub loading: bool,
}

/// A build that runs, with all that belongs to it.
pub struct Running {
    pub shards: Shards,
    pub features: Features,
    /// It only publishes: a successor needs no past.
    pub effects_only: bool,
    /// It goes on from what the build before it held.
    pub inherits: bool,
    pub generation: u64,
    pub since: Instant,
    pub build: Arc<Build>,
    pub outlets: Outlets,
}

/// The same as the reconciler works on it.
pub struct Handle {
    /// So long it may take to catch up.
    pub patience: Duration,
    pub shards: Shards,
    pub outlets: Outlets,
}

/// A new build shows what it is worth.
pub struct Probation {
    since: Instant,
    rules: Swap,
    /// Both builds as it began.
    pub old: RunnerStatus,
    pub new: RunnerStatus,
}

// === impl Plugins ===

impl Plugins {
    pub fn new(
        router: Arc<Router>,
        places: Places,
        default: Option<String>,
        max_lookups: usize,
        cache: Option<Cache>,
        checkpoints: Kept,
        sources: Arc<Sources>,
    ) -> std::io::Result<Arc<Self>> {
        let key = places.state.as_deref().map(hash_key);
        Ok(Arc::new(Self {
            host: Host::with_cache(cache, key.unwrap_or_else(rand::random))?,
            router,
            context: zmq::Context::new(),
            places,
            checkpoints,
            sources,
            default,
            max_lookups,
            starting: AtomicBool::new(true),
            table: Mutex::default(),
        }))
    }

    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another plugin than `name` that answers lookups.
    pub fn other_index(&self, name: &str) -> Option<String> {
        let table = self.lock();
        let index = |(_, e): &(&String, &Entry)| {
            let of = e.running.as_ref().or(e.warming.as_ref());
            of.is_some_and(|r| r.features.lookup)
        };
        table
            .iter()
            .filter(|(n, _)| *n != name)
            .find(index)
            .map(|(n, _)| n.clone())
    }

    /// Takes a plugin out of service: it handles what it has for at most `drain`, and
    /// a call that goes on for long after that is ended.
    pub fn retire(&self, running: Running, drain: Duration) {
        running.shards.retire(&self.router, drain);
    }

    /// Waits until every lane is empty, at most until `until`.
    pub fn drain(&self, until: Instant) {
        loop {
            let behind = self
                .lock()
                .values()
                .filter_map(|e| e.running.as_ref())
                .any(|r| r.shards.behind());
            if !behind || Instant::now() >= until {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Ends everything. How many messages did not leave.
    pub fn close(&self, until: Instant) -> u64 {
        let table = std::mem::take(&mut *self.lock());
        let instances = (table.into_values()).flat_map(|e| [e.running, e.warming, e.before]);
        let instances: Vec<_> = instances.flatten().collect();
        let outlets = instances.iter().map(|r| r.outlets.clone()).collect();
        std::thread::scope(|scope| {
            for running in instances {
                scope.spawn(move || self.retire(running, Duration::ZERO));
            }
        });
        Outlets::shutdown(outlets, until)
    }

    pub fn status(&self) -> Vec<PluginStatus> {
        let table = self.lock();
        table
            .iter()
            .map(|(name, entry)| describe(name, entry))
            .collect()
    }

    /// What is to be written to disk now: plugins whose state outlives them, and those
    /// that only publish, for their positions.
    pub fn to_keep(
        &self,
        mut due: impl FnMut(&str, Duration) -> bool,
    ) -> Vec<(String, Shards, bool)> {
        let table = self.lock();
        let running = table
            .iter()
            .filter_map(|(name, e)| Some((name, e.running.as_ref()?)));
        running
            .filter(|(name, r)| {
                let every = r.build.file.checkpoint.every_s;
                let kept = every > 0 && (r.features.state || r.effects_only);
                kept && due(name, Duration::from_secs(every))
            })
            .map(|(name, r)| (name.clone(), r.shards.clone(), r.features.state))
            .collect()
    }

    /// Whether some build has yet to show what it is worth.
    pub fn on_probation(&self) -> bool {
        self.lock().values().any(|e| e.probation.is_some())
    }

    /// Numbers that are read when somebody asks, of all instances of a plugin together.
    pub fn gauge(&self) {
        for p in self.status() {
            let gauge = |name: &'static str, value: f64| {
                metrics::gauge!(name, "plugin" => p.name.clone()).set(value);
            };
            gauge("penstock_plugin_generation", p.generation as f64);
            gauge("penstock_plugin_age_seconds", p.age_s);
            gauge("penstock_plugin_events_per_second", p.events_per_s);
            gauge("penstock_plugin_ns_per_event", p.ns_per_event);
            gauge("penstock_plugin_call_p99_seconds", p.call_p99_us / 1e6);
            gauge(
                "penstock_plugin_deadline_seconds",
                p.deadline_ms as f64 / 1e3,
            );
            gauge("penstock_plugin_memory_limit_bytes", p.memory_limit as f64);
            gauge("penstock_plugin_queue_items", p.queue_items as f64);
            gauge("penstock_plugin_restarts", p.restarts as f64);
            gauge("penstock_plugin_memory_bytes", p.memory_bytes as f64);
            gauge("penstock_plugin_queue_bytes", p.queue_bytes as f64);
            let runs = f64::from(u8::from(p.state == "running"));
            gauge("penstock_plugin_running", runs);
            gauge("penstock_plugin_up", runs);
        }
    }
}

// === impl Running ===

impl Running {
    /// So long it runs beside the other one, to be compared.
    pub fn shadow(&self) -> Duration {
        Duration::from_secs(self.build.file.swap.shadow_s)
    }

    pub fn handle(&self) -> Handle {
        Handle {
            patience: WARM_UP + self.shadow(),
            shards: self.shards.clone(),
            outlets: self.outlets.clone(),
        }
    }
}

// === impl Probation ===

impl Probation {
    pub fn begin(rules: &Swap, old: RunnerStatus, new: RunnerStatus) -> Self {
        Self {
            since: Instant::now(),
            rules: rules.clone(),
            old,
            new,
        }
    }

    /// Batches that the new build has handled on probation.
    pub fn batches(&self, now: &RunnerStatus) -> u64 {
        now.batches.saturating_sub(self.new.batches)
    }

    pub fn over(&self, now: &RunnerStatus) -> bool {
        self.since.elapsed() >= Duration::from_secs(self.rules.probation_s)
            || self.batches(now) >= self.rules.probation_batches
    }
}

fn describe(name: &str, entry: &Entry) -> PluginStatus {
    let mut status = PluginStatus {
        name: name.into(),
        state: if entry.disabled {
            "disabled"
        } else {
            "refused"
        }
        .into(),
        load_error: entry.refused.clone(),
        probation: entry.probation.is_some(),
        quarantine: (entry.quarantine.iter())
            .map(|(files, why)| format!("{files:016x}: {why}"))
            .collect(),
        ..PluginStatus::default()
    };
    if let Some(running) = entry.running.as_ref().or(entry.warming.as_ref()) {
        fill(&mut status, running);
    }
    if entry.running.is_none() && (entry.warming.is_some() || entry.loading) {
        status.state = "loading".into();
    }
    status
}

fn fill(status: &mut PluginStatus, running: &Running) {
    let r: RunnerStatus = running.shards.status();
    let queued = running.shards.queued();
    status.shards = running.shards.list.len() as u64;
    status.version = r.description.version.clone();
    status.sinks = serde_json::to_value(running.outlets.status()).unwrap_or_default();
    status.generation = running.generation;
    status.digest = r.digest.trim_start_matches("sha256:").into();
    status.state = serde_json::to_value(r.state)
        .ok()
        .and_then(|s| s.as_str().map(str::to_string))
        .unwrap_or_default();
    status.file = running.build.found.wasm.display().to_string();
    status.age_s = running.since.elapsed().as_secs_f64();
    status.events = r.events;
    status.batches = r.batches;
    status.refusals = r.refusals;
    status.lookups = running.shards.lookups();
    status.events_per_s = r.events_per_s;
    status.ns_per_event = r.ns_per_event;
    status.call_p99_us = r.call_p99_us as f64;
    status.deadline_ms = r.deadline_us / 1_000;
    status.memory_bytes = r.memory_bytes;
    status.memory_limit = r.memory_limit;
    status.queue_items = queued.items as u64;
    status.queue_bytes = queued.bytes as u64;
    status.missed = queued.missed;
    status.set_aside = r.set_aside;
    status.restarts = r.restarts;
    status.last_error = r
        .last_error
        .map(|e| format!("{}: {}: {}", e.call, e.code, e.message));
}
