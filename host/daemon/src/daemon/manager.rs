//! The reconciler: makes what runs be what lies in the plugin directory.
//!
//! ```text
//! hint or timer ─> scan ─> settled files ─> load ─┬─ refused: said in status
//!                                                 ├─ nobody runs: start
//!                                                 ├─ it only publishes: take over at a batch
//!                                                 └─ it has state: warm up beside, then swap
//! ```
//! Start, reload and removal are this one path. Files are read once; those bytes
//! are hashed, checked and compiled. What fails leaves what ran before.

use super::load::{Load, read, refusal};
use super::plugins::{Entry, Plugins, Running, stop};
use super::scan::{Directory, Found, Scan};
use super::sinks::Outlets;
use super::watch::Watch;
use anyhow::Result;
use penstock_plugin::{Candidate, Features, Past, Runner, RunnerConfig};
use penstock_query::{Beat, Heartbeats, Reloaded};
use penstock_route::{Filter, LaneConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The reconciler's thread.
pub struct Manager {
    orders: SyncSender<()>,
    reloads: Sender<Reload>,
    warm: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Somebody waits for the next complete scan.
type Reload = Sender<Reloaded>;

/// Files move, or a plugin warms up: look again this soon.
const SOON: Duration = Duration::from_millis(50);
/// How long a plugin may take to catch up before it takes over anyway.
const WARM_UP: Duration = Duration::from_secs(30);
/// Items that a caught-up lane may have queued, events flowing.
const FEW: usize = 64;
/// What a replaced instance may still handle.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Batches of each source that a new build is tried out on.
const RECENT: usize = 64;
/// How long state may take to move.
const HAND_OVER: Duration = Duration::from_secs(60);
/// A compilation may take this long before the loop counts as stuck.
const STUCK: Duration = Duration::from_secs(120);

struct Worker {
    plugins: Arc<Plugins>,
    directory: Directory,
    watch: Watch,
    /// Files that were taken or refused: they are not tried again.
    tried: BTreeMap<String, Found>,
    digests: BTreeMap<String, u64>,
    warming_since: BTreeMap<String, Instant>,
    scan_every: Duration,
    beat: Beat,
}

// === impl Manager ===

impl Manager {
    /// Loads what lies there, then watches.
    pub fn start(plugins: Arc<Plugins>, scan_every: Duration, beats: &Heartbeats) -> Result<Self> {
        let (orders, inbox) = sync_channel(1);
        let (reloads, waiting) = channel();
        let warm = Arc::new(AtomicBool::new(false));
        let stop = Arc::new(AtomicBool::new(false));
        let mut worker = Worker {
            directory: Directory::new(plugins.directory.clone()),
            watch: Watch::new(orders.clone()),
            plugins,
            tried: BTreeMap::new(),
            digests: BTreeMap::new(),
            warming_since: BTreeMap::new(),
            scan_every,
            beat: beats.watch("plugin directory", STUCK),
        };
        let thread = std::thread::Builder::new()
            .name("reconcile".into())
            .spawn({
                let (warm, stop) = (warm.clone(), stop.clone());
                move || worker.run(&inbox, &waiting, &warm, &stop)
            })?;
        Ok(Self {
            orders,
            reloads,
            warm,
            stop,
            thread: Some(thread),
        })
    }

    /// True once the plugins found at start run, or were refused.
    pub fn warm(&self) -> bool {
        self.warm.load(Relaxed)
    }

    /// A handle for those who want a scan now.
    pub fn bell(&self) -> Bell {
        Bell {
            orders: self.orders.clone(),
            reloads: self.reloads.clone(),
        }
    }

    /// Ends it; one that is still compiling by `until` is left behind.
    pub fn stop(mut self, until: Instant) {
        self.stop.store(true, Relaxed);
        // Full means that it is about to wake anyway.
        let _ = self.orders.try_send(());
        let Some(thread) = self.thread.take() else {
            return;
        };
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !thread.is_finished() {
            tracing::warn!("a plugin is still being compiled; it is not waited for");
        } else if thread.join().is_err() {
            tracing::error!("the reconciler panicked");
        }
    }
}

/// Asks the reconciler for a scan.
#[derive(Clone)]
pub struct Bell {
    orders: SyncSender<()>,
    reloads: Sender<Reload>,
}

impl Bell {
    /// Scans now, and waits until everything found runs or was refused.
    pub fn reload(&self, limit: Duration) -> Option<Reloaded> {
        let (done, wait) = channel();
        self.reloads.send(done).ok()?;
        let _ = self.orders.try_send(());
        wait.recv_timeout(limit).ok()
    }
}

// === impl Worker ===

impl Worker {
    fn run(
        &mut self,
        hints: &Receiver<()>,
        waiting: &Receiver<Reload>,
        warm: &AtomicBool,
        stop: &AtomicBool,
    ) {
        let mut reloads: Vec<Reload> = Vec::new();
        let mut changed: Vec<String> = Vec::new();
        while !stop.load(Relaxed) {
            self.beat.touch();
            self.watch.follow(self.directory.path());
            let first = !warm.load(Relaxed);
            reloads.extend(waiting.try_iter());
            let moving = match self.directory.scan(Instant::now(), first) {
                Ok(scan) => {
                    let moving = scan.moving;
                    changed.extend(self.reconcile(scan));
                    moving
                }
                Err(error) => {
                    let at = self.directory.path().display();
                    tracing::error!("the plugin directory {at} cannot be read: {error}");
                    false
                }
            };
            self.promote();
            let busy = moving || !self.warming_since.is_empty();
            if !busy || first {
                warm.store(true, Relaxed);
                self.plugins.starting.store(false, Relaxed);
            }
            if !busy {
                let reloaded = self.reloaded(&mut changed);
                for reload in reloads.drain(..) {
                    // Whoever asked may have gone.
                    let _ = reload.send(reloaded.clone());
                }
            }
            let wait = if busy { SOON } else { self.scan_every };
            match hints.recv_timeout(wait) {
                Ok(()) => drop(hints.try_iter().count()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn reloaded(&self, changed: &mut Vec<String>) -> Reloaded {
        let table = self.plugins.lock();
        let refused = |(name, e): (&String, &Entry)| Some((name.clone(), e.refused.clone()?));
        Reloaded {
            changed: std::mem::take(changed),
            refused: table.iter().filter_map(refused).collect(),
            ..Reloaded::default()
        }
    }

    /// One scan's differences. Names of what changed.
    fn reconcile(&mut self, scan: Scan) -> Vec<String> {
        let mut changed = Vec::new();
        for (name, found) in &scan.settled {
            if self.tried.get(name) == Some(found) {
                continue;
            }
            self.tried.insert(name.clone(), found.clone());
            if self.consider(name, found) {
                changed.push(name.clone());
            }
        }
        for (name, why) in &scan.odd {
            // What it was loaded from has gone: that is a removal, of half of it.
            if self.tried.contains_key(name) {
                self.remove(name);
                changed.push(name.clone());
            }
            self.refuse(name, why.clone());
        }
        for (name, why) in &scan.doubtful {
            self.tried.remove(name);
            self.refuse(name, why.clone());
        }
        let known: Vec<String> = self.plugins.lock().keys().cloned().collect();
        for name in known {
            if !scan.names.contains(&name) && !scan.odd.contains_key(&name) {
                self.remove(&name);
                changed.push(name);
            }
        }
        changed
    }

    /// Takes files that lie still: true if something changed.
    fn consider(&mut self, name: &str, found: &Found) -> bool {
        let begun = Instant::now();
        let load = match read(found) {
            Ok(load) => load,
            Err(why) => return self.refuse(name, why),
        };
        if self.digests.get(name) == Some(&load.digest) {
            // Touched, or put back as it was: an earlier refusal is void.
            if let Some(entry) = self.plugins.lock().get_mut(name) {
                entry.refused = None;
            }
            return false;
        }
        if !load.file.enabled {
            self.remove(name);
            // Known, so that it is neither read again nor missing in the status.
            self.tried.insert(name.into(), found.clone());
            let entry = Entry {
                disabled: true,
                ..Entry::default()
            };
            self.plugins.lock().insert(name.into(), entry);
            return true;
        }
        let digest = load.digest;
        (self.plugins.lock().entry(name.into()).or_default()).loading = true;
        begin_counters(name);
        let loaded = self.load(name, found, load);
        if let Some(entry) = self.plugins.lock().get_mut(name) {
            entry.loading = false;
        }
        match loaded {
            Ok(()) => {
                self.digests.insert(name.into(), digest);
                tracing::info!(plugin = name, "loaded in {:?}", begun.elapsed());
                true
            }
            Err(why) => self.refuse(name, why),
        }
    }

    fn load(&mut self, name: &str, found: &Found, load: Load) -> Result<(), String> {
        let plugins = self.plugins.clone();
        let limits = &load.file.limits;
        let compiled = (plugins.host.compile(&load.wasm, &load.file.grants, limits))
            .map_err(|e| refusal(&e, found))?;
        let summary = &compiled.summary;
        let features = summary.features;
        if features.lookup
            && plugins.default.is_none()
            && let Some(other) = plugins.other_index(name)
        {
            return Err(format!(
                "{other} answers lookups already; say which is the default: `lookup` under [query]"
            ));
        }
        let publishes = summary.imports.contains(&penstock_plugin::Grant::Publish);
        let effects_only = publishes && !features.lookup && !features.request && !features.state;
        let before = plugins.outlets(name);
        let outlets = Outlets::plan(name, &load.file.sink, &before, &plugins.home);
        let setup = load.setup(name, outlets.publishers())?;
        let candidate = Candidate::prepare(&plugins.host, &compiled, &setup);
        let mut candidate = candidate.map_err(|e| refusal(&e, found))?;
        let filter = Filter::new(&load.file.sources);
        if features.state
            && plugins
                .lock()
                .get(name)
                .is_some_and(|e| e.running.is_some())
        {
            // It takes the state over and will not see what came before: so it is seen
            // here whether it can handle that.
            let recent = plugins.router.recent(&filter, candidate.wants(), RECENT);
            let trial = Candidate::prepare(&plugins.host, &compiled, &setup);
            let trial = trial.map_err(|e| refusal(&e, found))?;
            let tried = trial.try_out(&recent);
            tried.map_err(|e| format!("failed on recent batches: {e}"))?;
        }
        let past = self.inherit(name, features, &mut candidate)?;
        let lane = LaneConfig {
            name: name.into(),
            filter,
            columns: candidate.wants(),
            bytes: load.file.lane_bytes,
            when_full: load.file.when_full,
        };
        let (running, overtaken) = match plugins.lock().get_mut(name) {
            Some(entry) => (
                entry
                    .running
                    .as_ref()
                    .map(|r| (r.generation, r.effects_only)),
                entry.warming.take(),
            ),
            None => (None, None),
        };
        if let Some(old) = overtaken {
            self.warming_since.remove(name);
            plugins.retire(old, Duration::ZERO);
        }
        let generation = running.map_or(1, |(generation, _)| generation + 1);
        let takes_over = effects_only && running.is_some_and(|(_, effects_only)| effects_only);
        if takes_over || running.is_none() {
            outlets
                .open(&before, &plugins.context)
                .map_err(|e| e.to_string())?;
        }
        let lane = if takes_over {
            let old = plugins.lock().get_mut(name).and_then(|e| e.running.take());
            match old {
                // Its thread ends between two batches; what it had not done goes on here.
                Some(old) => {
                    stop(old.runner, Duration::ZERO);
                    plugins.router.succeed(&old.lane, lane)
                }
                None => plugins.router.open(lane),
            }
        } else {
            plugins.router.open_from(lane, &past.positions)
        };
        let feed = super::feed::LaneFeed {
            router: plugins.router.clone(),
            lane: Arc::clone(&lane),
            effects_only,
        };
        let config = RunnerConfig {
            max_lookups: plugins.max_lookups,
            ..RunnerConfig::default()
        };
        let runner = match Runner::start(candidate, Box::new(feed), config) {
            Ok(runner) => Arc::new(runner),
            Err(e) => {
                plugins.router.close(&lane);
                return Err(format!("no thread to be had: {e}"));
            }
        };
        let new = Running {
            runner,
            lane,
            features,
            effects_only,
            generation,
            since: Instant::now(),
            wasm: found.wasm.clone(),
            files: load.digest,
            outlets: outlets.clone(),
        };
        let mut table = plugins.lock();
        let entry = table.entry(name.into()).or_default();
        entry.refused = None;
        entry.disabled = false;
        if entry.running.is_some() {
            self.warming_since.insert(name.into(), Instant::now());
            entry.warming = Some(new);
        } else {
            entry.running = Some(new);
            drop(table);
            before.retire(&outlets);
        }
        Ok(())
    }

    /// Takes over the state of what runs, where both have any. What cannot be taken
    /// over is fed anew.
    fn inherit(
        &self,
        name: &str,
        features: Features,
        candidate: &mut Candidate,
    ) -> Result<Past, String> {
        let running = {
            let table = self.plugins.lock();
            let running = table.get(name).and_then(|e| e.running.as_ref());
            running
                .filter(|r| r.features.state)
                .map(|r| r.runner.clone())
        };
        let Some(running) = running.filter(|_| features.state) else {
            return Ok(Past::default());
        };
        let begun = Instant::now();
        let past = (running.hand_over(candidate, HAND_OVER)).map_err(|e| e.to_string())?;
        let (took, sources) = (begun.elapsed(), past.positions.len());
        tracing::info!(plugin = name, sources, "state taken over in {took:?}");
        for (source, why) in &past.anew {
            tracing::warn!(plugin = name, %source, "state not taken over, fed anew: {why}");
        }
        Ok(past)
    }

    /// Those that have caught up take over; those that fail are refused.
    fn promote(&mut self) {
        let names: Vec<String> = self.warming_since.keys().cloned().collect();
        for name in names {
            let Some(since) = self.warming_since.get(&name).copied() else {
                continue;
            };
            let mut table = self.plugins.lock();
            let Some(entry) = table.get_mut(&name) else {
                self.warming_since.remove(&name);
                continue;
            };
            let Some(new) = &entry.warming else {
                self.warming_since.remove(&name);
                continue;
            };
            let status = new.runner.status();
            let lane = new.lane.status();
            let failed = status.restarts > 0 || status.last_error.is_some();
            let current = entry.running.as_ref().map_or(0, |r| r.lane.status().items);
            // A short past is handled to its end, or a plugin that dies of it would
            // take over before it does.
            let lately = lane.items == 0 || status.batches >= 2 * FEW as u64;
            let caught_up = lane.detached == 0 && lane.items <= current + FEW && lately;
            let why = if failed {
                let error = status.last_error;
                let error = error.map(|e| format!("{}: {}", e.call, e.message));
                Some(format!(
                    "failed while catching up: {}",
                    error.unwrap_or_default()
                ))
            } else if caught_up || since.elapsed() > WARM_UP {
                let before = entry.running.as_ref().map(|r| r.outlets.clone());
                let opened = new
                    .outlets
                    .open(&before.unwrap_or_default(), &self.plugins.context);
                opened.err().map(|e| e.to_string())
            } else {
                continue;
            };
            self.warming_since.remove(&name);
            if let Some(why) = why {
                let new = entry.warming.take();
                // Its files put back as they were are no change.
                let running = entry.running.as_ref().map(|r| r.files);
                drop(table);
                match running {
                    Some(files) => {
                        self.digests.insert(name.clone(), files);
                    }
                    None => {
                        self.digests.remove(&name);
                    }
                }
                self.refuse(&name, why);
                if let Some(new) = new {
                    self.plugins.retire(new, Duration::ZERO);
                }
                continue;
            }
            if !caught_up {
                tracing::warn!(plugin = name, "takes over before it has caught up");
            }
            let old = std::mem::replace(&mut entry.running, entry.warming.take());
            let kept = entry.running.as_ref().map(|r| r.outlets.clone());
            drop(table);
            tracing::info!(plugin = name, "swapped after {:?}", since.elapsed());
            if let Some(old) = old {
                let outlets = old.outlets.clone();
                self.plugins.retire(old, LAST_WORDS);
                outlets.retire(&kept.unwrap_or_default());
            }
        }
    }

    fn refuse(&mut self, name: &str, why: String) -> bool {
        let mut table = self.plugins.lock();
        let entry = table.entry(name.into()).or_default();
        if entry.refused.as_ref() == Some(&why) {
            return false;
        }
        let stays = if entry.running.is_some() {
            "; what ran before goes on"
        } else {
            ""
        };
        tracing::error!(plugin = name, "not loaded: {why}{stays}");
        metrics::counter!("penstock_plugin_refused_total", "plugin" => name.to_string())
            .increment(1);
        entry.refused = Some(why);
        true
    }

    fn remove(&mut self, name: &str) {
        self.tried.remove(name);
        self.digests.remove(name);
        self.warming_since.remove(name);
        let entry = self.plugins.lock().remove(name);
        for running in entry
            .into_iter()
            .flat_map(|e| [e.running, e.warming])
            .flatten()
        {
            tracing::info!(plugin = name, "removed");
            let outlets = running.outlets.clone();
            self.plugins.retire(running, LAST_WORDS);
            outlets.retire(&Outlets::default());
        }
    }
}

/// What alerts look at begins at 0, or the first of a kind would go unnoticed.
fn begin_counters(plugin: &str) {
    for name in [
        "penstock_plugin_refused_total",
        "penstock_lane_missed_batches_total",
        "penstock_lane_dropped_batches_total",
    ] {
        metrics::counter!(name, "plugin" => plugin.to_string()).increment(0);
    }
}
