//! The plugins that run: who they are, and how they are asked.

use super::chains::Afters;
use super::checkpoint::{Kept, hash_key};
use super::load::Build;
use super::shards::Shards;
use super::sinks::Outlets;
use crate::config::{PluginFile, Swap};
use penstock_plugin::{Cache, Features, Host, Status as RunnerStatus};
use penstock_query::PluginStatus;
use penstock_route::{Derived, Filter, Router, Scope};
use std::collections::{BTreeMap, HashSet};
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
    /// The plugin that answers when nobody is named.
    pub(super) default: Option<String>,
    pub(super) max_lookups: usize,
    /// What lies in the directory at start was not looked at yet.
    pub(super) starting: AtomicBool,
    table: Mutex<BTreeMap<String, Entry>>,
    /// What operators emit, by their names: they outlive builds.
    streams: Mutex<BTreeMap<String, Arc<Derived>>>,
}

/// Where a plugin reads.
pub type Upstream = Vec<(Arc<Router>, Scope)>;

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
    /// Which streams they read ([`Plugins::streams_of`]).
    pub streams: String,
    pub features: Features,
    /// It only publishes or emits: a successor needs no past.
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
    pub emits: bool,
    pub outlets: Outlets,
}

/// A plugin that runs, for whoever writes checkpoints.
pub struct Keep {
    pub name: String,
    /// How often; none: nothing of it is kept.
    pub every: Option<Duration>,
    /// There is state, not positions alone.
    pub state: bool,
    pub shards: Shards,
    pub after: Vec<String>,
    pub streams: String,
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
    ) -> std::io::Result<Arc<Self>> {
        let key = places.state.as_deref().map(hash_key);
        Ok(Arc::new(Self {
            host: Host::with_cache(cache, key.unwrap_or_else(rand::random))?,
            router,
            context: zmq::Context::new(),
            places,
            checkpoints,
            default,
            max_lookups,
            starting: AtomicBool::new(true),
            table: Mutex::default(),
            streams: Mutex::default(),
        }))
    }

    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an operator emits, whether it runs or not.
    pub fn stream(&self, operator: &str) -> Arc<Derived> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Derived::new(operator, &self.router));
        streams.entry(operator.into()).or_insert_with(new).clone()
    }

    /// An operator is gone, if it was one: those after it have nothing of it any more.
    pub fn silence(&self, name: &str) {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.get(name).cloned();
        drop(streams);
        if let Some(stream) = stream {
            stream.only(&HashSet::new());
        }
    }

    /// Where a plugin of this file reads.
    pub fn upstream(&self, file: &PluginFile) -> Upstream {
        let own = Scope::of(&Filter::new(&file.sources));
        if file.after.is_empty() {
            return vec![(self.router.clone(), own)];
        }
        let mut before = Vec::new();
        let mut upstream = Vec::new();
        for operator in &file.after {
            let mut scopes = vec![own.clone(), Scope::none_of(before.clone())];
            if file.after.len() > 1 {
                // Should it read more one day, another one of them has that until this
                // plugin is begun again.
                let reads = self.reads(operator).0;
                before.push(reads.clone());
                scopes.push(reads);
            }
            upstream.push((self.stream(operator).router().clone(), Scope::all(scopes)));
        }
        upstream
    }

    /// The streams that a plugin of this file reads: state made of others is of no use.
    pub fn streams_of(&self, file: &PluginFile) -> String {
        match file.after.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            // Which of them a source comes from depends on what each of them reads.
            several => {
                let several = several.iter().map(|name| self.reads(name).1);
                several.collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// Which sources a running operator reads, and the same in words.
    fn reads(&self, operator: &str) -> (Scope, String) {
        let table = self.lock();
        let runs = |name: &str| {
            let entry = table.get(name)?;
            Some(
                &entry
                    .running
                    .as_ref()
                    .or(entry.warming.as_ref())?
                    .build
                    .file,
            )
        };
        reads(operator, &runs, &[])
    }

    /// Each running plugin's `after`.
    pub fn afters(&self) -> Afters {
        let table = self.lock();
        let running = table.iter().filter_map(|(name, e)| {
            let runs = e.running.as_ref().or(e.warming.as_ref())?;
            Some((name.clone(), runs.build.file.after.clone()))
        });
        running.collect()
    }

    /// Why a plugin after these gets nothing now.
    pub fn lacks(&self, after: &[String]) -> Option<String> {
        lacks(after, &self.lock())
    }

    /// Why a plugin that comes after others gets nothing.
    pub fn waits(&self, name: &str) -> Option<String> {
        let table = self.lock();
        let running = table.get(name)?.running.as_ref()?;
        let why = lacks(&running.build.file.after, &table)?;
        Some(format!("{name} is waiting: {why}"))
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
        running.shards.retire(drain);
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
            .map(|(name, entry)| describe(name, entry, &table))
            .collect()
    }

    /// What runs, as its checkpoints need it.
    pub fn to_keep(&self) -> Vec<Keep> {
        let table = self.lock();
        let running = (table.iter()).filter_map(|(name, e)| Some((name, e.running.as_ref()?)));
        let keep = |(name, r): (&String, &Running)| {
            let every = Duration::from_secs(r.build.file.checkpoint.every_s);
            // State that outlives the plugin, or its positions where it only publishes.
            let kept = !every.is_zero() && (r.features.state || r.effects_only);
            Keep {
                name: name.clone(),
                every: kept.then_some(every),
                state: r.features.state,
                shards: r.shards.clone(),
                after: r.build.file.after.clone(),
                streams: r.streams.clone(),
            }
        };
        running.map(keep).collect()
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
    /// It is an operator.
    pub fn emits(&self) -> bool {
        self.build.emits()
    }

    /// So long it runs beside the other one, to be compared.
    pub fn shadow(&self) -> Duration {
        Duration::from_secs(self.build.file.swap.shadow_s)
    }

    pub fn handle(&self) -> Handle {
        Handle {
            patience: WARM_UP + self.shadow(),
            shards: self.shards.clone(),
            emits: self.emits(),
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

/// What an operator reads: what its filter matches, of what those before it read.
fn reads<'a>(
    name: &str,
    runs: &impl Fn(&str) -> Option<&'a PluginFile>,
    way: &[&str],
) -> (Scope, String) {
    // A build that was brought back may have closed a cycle: nothing comes from there.
    let file = runs(name).filter(|_| !way.contains(&name));
    let Some(file) = file else {
        return (Scope::any(Vec::new()), format!("{name}(-)"));
    };
    let own = Scope::of(&Filter::new(&file.sources));
    let words = file.sources.join(",");
    if file.after.is_empty() {
        return (own, format!("{name}({words})"));
    }
    let way = [way, &[name]].concat();
    let before = file.after.iter().map(|n| reads(n, runs, &way));
    let (scopes, after): (Vec<_>, Vec<_>) = before.unzip();
    let scope = Scope::all(vec![own, Scope::any(scopes)]);
    (scope, format!("{name}({words} after {})", after.join(" ")))
}

fn lacks(after: &[String], table: &BTreeMap<String, Entry>) -> Option<String> {
    after.iter().find_map(|operator| {
        let entry = table.get(operator);
        let runs = entry.and_then(|e| e.running.as_ref().or(e.warming.as_ref()));
        match runs {
            None => Some(format!("after: {operator:?} does not run")),
            Some(r) if !r.emits() => Some(format!(
                "after: {operator:?} emits nothing: it does not import `emit`"
            )),
            Some(r) if r.shards.failed() => Some(format!("after: {operator:?} has failed")),
            Some(_) => None,
        }
    })
}

fn describe(name: &str, entry: &Entry, table: &BTreeMap<String, Entry>) -> PluginStatus {
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
    if let Some(running) = &entry.running
        && status.state == "running"
        && let Some(why) = lacks(&running.build.file.after, table)
    {
        status.state = "waiting".into();
        status.load_error.get_or_insert(why);
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
    status.after.clone_from(&running.build.file.after);
    status.emitted = r.emitted;
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
