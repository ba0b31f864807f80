//! From a build to an instance: checked, tried out, given what the one before it
//! holds, and started. Start, reload and rollback share this path.

use super::Worker;
use crate::daemon::checkpoint::Wanted;
use crate::daemon::load::{Build, Load, refusal, setup};
use crate::daemon::plugins::{Plugins, Running, Upstream};
use crate::daemon::scan::Found;
use crate::daemon::sinks::Outlets;
use penstock_plugin::{Candidate, Features, Past, Role, Runner, RunnerConfig, Setup, Trail};
use penstock_route::{Filter, LaneConfig, Reading};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batches of each source that a new build is tried out on.
const RECENT: usize = 64;
/// How much the work on a new build gives way, as for `nice`.
const YIELDS: i32 = 10;
/// How long state may take to move.
const HAND_OVER: Duration = Duration::from_secs(60);

/// What a new build meets.
struct Predecessor {
    runner: Arc<Runner>,
    features: Features,
    effects_only: bool,
    emits: bool,
    streams: String,
    outlets: Outlets,
}

impl Worker {
    /// Compiles and starts what lies in the files.
    pub(super) fn load(&mut self, name: &str, found: &Found, load: Load) -> Result<(), String> {
        let plugins = &self.plugins;
        let compile = || {
            let (grants, limits) = (&load.file.grants, &load.file.limits);
            plugins.host.compile(&load.wasm, grants, limits)
        };
        let compiled = in_background(compile).map_err(|e| refusal(&e, found))?;
        let build = Build {
            compiled,
            file: load.file,
            digest: load.digest,
            found: found.clone(),
        };
        self.start(name, Arc::new(build))
    }

    /// Starts a build: at once where nothing runs, else beside what does.
    pub(super) fn start(&mut self, name: &str, build: Arc<Build>) -> Result<(), String> {
        self.start_after(name, build, None)
    }

    /// The same. What an instance before published up to the end of its trail is not
    /// published again.
    pub(super) fn start_after(
        &mut self,
        name: &str,
        build: Arc<Build>,
        gone: Option<Arc<Trail>>,
    ) -> Result<(), String> {
        let plugins = self.plugins.clone();
        let summary = &build.compiled.summary;
        let features = summary.features;
        if features.lookup
            && plugins.default.is_none()
            && let Some(other) = plugins.other_index(name)
        {
            return Err(format!(
                "{other} answers lookups already; say which is the default: `lookup` under [query]"
            ));
        }
        let effects_only = effects_only(&build);
        let before = predecessor(&plugins, name);
        let after_it = self.readers(name);
        if before.as_ref().is_some_and(|b| b.emits) && !build.emits() && !after_it.is_empty() {
            let readers = after_it.join(", ");
            return Err(format!(
                "it does not import `emit` any more, and {readers} read it"
            ));
        }
        let upstream = plugins.upstream(&build.file);
        let streams = plugins.streams_of(&build.file);
        let theirs = before.as_ref().map(|b| b.outlets.clone());
        let theirs = theirs.unwrap_or_default();
        let outlets = Outlets::plan(name, &build.file.sink, &theirs, &plugins.places.home);
        let setup = setup(&build.file, name, outlets.publishers())?;
        let mut candidate = prepare(&plugins, &build, &setup)?;
        if before.is_some() {
            // It may take over without seeing what came before: so it is seen here
            // whether it can handle that.
            let recent = Reading::recent(&upstream, candidate.wants(), RECENT);
            let trial = prepare(&plugins, &build, &setup)?;
            let tried = in_background(|| trial.try_out(&recent));
            tried.map_err(|e| format!("failed on recent batches: {e}"))?;
        }
        let past = match &before {
            Some(before) if before.streams != streams => {
                tracing::warn!(
                    plugin = name,
                    "reads other streams now, by `after`: fed anew"
                );
                Past::default()
            }
            Some(before) if before.hands_over(features, effects_only) => {
                inherit(name, &before.runner, &mut candidate)?
            }
            Some(_) => Past::default(),
            None => self.restored(name, &build, &setup, &upstream, &mut candidate)?,
        };
        self.drop_warming(name);
        if before.is_none() {
            let opened = outlets.open(&theirs, &plugins.context);
            opened.map_err(|e| e.to_string())?;
        }
        let stream = build.emits().then(|| plugins.stream(name));
        if let (Some(stream), None) = (&stream, &before) {
            // Those after it may be there before its first batch.
            for source in Reading::sources_of(&upstream) {
                stream.join(&source, past.positions.get(&source.info.id).copied());
            }
        }
        let config = LaneConfig {
            name: name.into(),
            filter: Filter::new(&build.file.sources),
            columns: candidate.wants(),
            bytes: build.file.lane_bytes,
            when_full: build.file.when_full,
        };
        let reading = Reading::open(upstream, config, &past.positions);
        let reading = Arc::new(reading.ok_or("it reads nowhere")?);
        let feed = crate::daemon::feed::LaneFeed {
            reading: reading.clone(),
            effects_only,
        };
        let config = RunnerConfig {
            max_lookups: plugins.max_lookups,
            on_failure: build.file.on_failure,
            restarts: build.file.restarts.clone(),
            set_aside: plugins.places.set_aside.clone(),
            emits: stream.map(|stream| stream as _),
        };
        let role = match &before {
            Some(before) => {
                Role::Follow(before.runner.trail().clone(), build.file.swap.shadow_s > 0)
            }
            None => Role::Lead(gone),
        };
        let runner = match Runner::start(candidate, Box::new(feed), config, role) {
            Ok(runner) => Arc::new(runner),
            Err(e) => {
                reading.close();
                return Err(format!("no thread to be had: {e}"));
            }
        };
        if let Some(checkpoints) = &plugins.checkpoints {
            checkpoints.taken(name);
        }
        let mut table = plugins.lock();
        let entry = table.entry(name.into()).or_default();
        let new = Running {
            runner,
            lane: reading.lane().clone(),
            reading,
            streams,
            features,
            effects_only,
            generation: entry.generations + 1,
            since: Instant::now(),
            build,
            outlets,
        };
        entry.refused = None;
        entry.disabled = false;
        match before {
            Some(_) => {
                self.warming_since.insert(name.into(), Instant::now());
                entry.warming = Some(new);
            }
            None => {
                entry.generations = new.generation;
                entry.running = Some(new);
            }
        }
        Ok(())
    }

    /// Goes on from a checkpoint, if there is one. A plugin that fails on its own state is
    /// fed anew.
    fn restored(
        &self,
        name: &str,
        build: &Build,
        setup: &Arc<Setup>,
        upstream: &Upstream,
        candidate: &mut Candidate,
    ) -> Result<Past, String> {
        let plugins = &self.plugins;
        let Some(checkpoints) = &plugins.checkpoints else {
            return Ok(Past::default());
        };
        let state = build.compiled.summary.features.state;
        if !state && !effects_only(build) {
            return Ok(Past::default());
        }
        let readers: Vec<_> = match build.emits() {
            true => self.readers_to_be(name),
            false => Vec::new(),
        };
        let wanted = Wanted {
            plugin: name,
            state,
            streams: plugins.streams_of(&build.file),
            sources: Reading::sources_of(upstream),
            readers: &readers,
        };
        match checkpoints.restore(&wanted, candidate) {
            Ok(past) => Ok(past.unwrap_or_default()),
            Err(error) => {
                tracing::error!(plugin = name, "checkpoint not used, fed anew: {error}");
                *candidate = prepare(plugins, build, setup)?;
                Ok(Past::default())
            }
        }
    }

    /// A newer build comes before this one had its turn.
    pub(super) fn drop_warming(&mut self, name: &str) {
        self.warming_since.remove(name);
        let warming = (self.plugins.lock().get_mut(name)).and_then(|e| e.warming.take());
        if let Some(old) = warming {
            self.plugins.retire(old, Duration::ZERO);
        }
    }
}

impl Predecessor {
    /// Whether a successor goes on from where it stands.
    fn hands_over(&self, features: Features, effects_only: bool) -> bool {
        (self.features.state && features.state) || (self.effects_only && effects_only)
    }
}

/// Works on a thread of less priority: on a busy machine the events go first. One of
/// its own, since threads begin with the priority of those that start them, and plugins
/// are to have their full one.
fn in_background<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        // Without it everything works, later.
        let _ = rustix::process::nice(YIELDS);
        work()
    };
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// It only publishes or emits: where it goes on is all that it has of the past.
fn effects_only(build: &Build) -> bool {
    let summary = &build.compiled.summary;
    let features = summary.features;
    let publishes = summary.imports.contains(&penstock_plugin::Grant::Publish);
    (publishes || build.emits()) && !features.lookup && !features.request && !features.state
}

fn predecessor(plugins: &Plugins, name: &str) -> Option<Predecessor> {
    let table = plugins.lock();
    let running = table.get(name)?.running.as_ref()?;
    Some(Predecessor {
        runner: running.runner.clone(),
        features: running.features,
        effects_only: running.effects_only,
        emits: running.emits(),
        streams: running.streams.clone(),
        outlets: running.outlets.clone(),
    })
}

fn prepare(plugins: &Plugins, build: &Build, setup: &Arc<Setup>) -> Result<Candidate, String> {
    let candidate = Candidate::prepare(&plugins.host, &build.compiled, setup);
    candidate.map_err(|e| refusal(&e, &build.found))
}

/// Takes over what the running build holds. What cannot be taken over is fed anew.
fn inherit(name: &str, from: &Runner, candidate: &mut Candidate) -> Result<Past, String> {
    let begun = Instant::now();
    let past = in_background(|| from.hand_over(candidate, HAND_OVER));
    let past = past.map_err(|e| e.to_string())?;
    let (took, sources) = (begun.elapsed(), past.positions.len());
    tracing::info!(plugin = name, sources, "state taken over in {took:?}");
    metrics::counter!("penstock_plugin_fed_anew_total", "plugin" => name.to_string())
        .increment(past.anew.len() as u64);
    for (source, why) in &past.anew {
        tracing::warn!(plugin = name, %source, "state not taken over, fed anew: {why}");
    }
    Ok(past)
}
