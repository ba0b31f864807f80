//! From a build to an instance: checked, tried out, given what the one before it
//! holds, and started. Start, reload and rollback share this path.

use super::Worker;
use crate::daemon::checkpoint::Wanted;
use crate::daemon::load::{Build, Load, refusal, setup};
use crate::daemon::plugins::{Plugins, Running, Upstream};
use crate::daemon::scan::Found;
use crate::daemon::shards::{Shard, Shards};
use crate::daemon::sinks::Outlets;
use penstock_event::SourceInfo;
use penstock_plugin::{
    Candidate, Features, HandoverError, Heirs, Past, Pen, Role, Runner, RunnerConfig, Trail,
    hand_over_all, in_background,
};
use penstock_route::{Filter, LaneConfig, Reading, Scope};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batches of each source that a new build is tried out on.
const RECENT: usize = 64;
/// How long state may take to move.
const HAND_OVER: Duration = Duration::from_secs(60);

/// What a new build meets.
struct Predecessor {
    shards: Shards,
    features: Features,
    effects_only: bool,
    emits: bool,
    streams: String,
    outlets: Outlets,
}

/// A shard in the making.
struct Seat {
    candidate: Candidate,
    filter: Filter,
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
        build.file.suits(features)?;
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
        let mut seats = seats(&plugins, name, &build, &outlets)?;
        if before.is_some() {
            // It may take over without seeing what came before: so it is seen here
            // whether it can handle that.
            let wants = seats.first().map(|seat| seat.candidate.wants());
            let recent = Reading::recent(&upstream, wants.unwrap_or_default(), RECENT);
            let trial = seat(&plugins, name, &build, &outlets, 0)?.candidate;
            let tried = in_background(|| trial.try_out(&recent));
            tried.map_err(|e| format!("failed on recent batches: {e}"))?;
        }
        let inherits = features.state
            && (before.as_ref()).is_some_and(|before| {
                before.streams == streams && before.hands_over(features, effects_only)
            });
        let pasts = match &before {
            Some(before) if before.streams != streams => {
                tracing::warn!(
                    plugin = name,
                    "reads other streams now, by `after`: fed anew"
                );
                Vec::new()
            }
            Some(before) if before.hands_over(features, effects_only) => {
                inherit(name, &before.shards, &mut seats)?
            }
            Some(_) => Vec::new(),
            None => self.restored(name, &build, &outlets, &upstream, &mut seats)?,
        };
        self.drop_warming(name);
        if before.is_none() {
            let opened = outlets.open(&theirs, &plugins.context);
            opened.map_err(|e| e.to_string())?;
        }
        if build.emits() && before.is_none() {
            // Those after it may be there before its first batch.
            let stream = plugins.stream(name);
            for source in Reading::sources_of(&upstream) {
                let id = source.info.id;
                let at = pasts
                    .iter()
                    .find_map(|past| past.positions.get(&id).copied());
                stream.join(&source, at);
            }
        }
        let role = match &before {
            Some(before) => Role::Follow(before.shards.trail.clone(), build.file.swap.shadow_s > 0),
            None => Role::Lead(None),
        };
        let mut shards = Shards {
            list: Vec::new(),
            trail: Trail::new(seats.len()),
        };
        let pasts = pasts
            .into_iter()
            .chain(std::iter::repeat_with(Past::default));
        for (number, (seat, past)) in seats.into_iter().zip(pasts).enumerate() {
            let pen = shards.trail.pen(number);
            match begin(&plugins, name, &build, seat, &past, role.clone(), pen) {
                Ok(shard) => shards.list.push(shard),
                Err(why) => {
                    shards.retire(Duration::ZERO);
                    return Err(why);
                }
            }
        }
        if let Some(checkpoints) = &plugins.checkpoints {
            checkpoints.taken(name);
        }
        let mut table = plugins.lock();
        let entry = table.entry(name.into()).or_default();
        let new = Running {
            shards,
            streams,
            features,
            effects_only,
            inherits,
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
        outlets: &Outlets,
        upstream: &Upstream,
        seats: &mut Vec<Seat>,
    ) -> Result<Vec<Past>, String> {
        let plugins = &self.plugins;
        let Some(checkpoints) = &plugins.checkpoints else {
            return Ok(Vec::new());
        };
        let state = build.compiled.summary.features.state;
        if !state && !effects_only(build) {
            return Ok(Vec::new());
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
        let restored = with_heirs(seats, |heirs| checkpoints.restore(&wanted, heirs));
        match restored {
            Ok(pasts) => Ok(pasts.unwrap_or_default()),
            Err(error) => {
                tracing::error!(plugin = name, "checkpoint not used, fed anew: {error}");
                *seats = self::seats(plugins, name, build, outlets)?;
                Ok(Vec::new())
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
        shards: running.shards.clone(),
        features: running.features,
        effects_only: running.effects_only,
        emits: running.emits(),
        streams: running.streams.clone(),
        outlets: running.outlets.clone(),
    })
}

/// An instance for each shard.
fn seats(
    plugins: &Plugins,
    name: &str,
    build: &Build,
    outlets: &Outlets,
) -> Result<Vec<Seat>, String> {
    let shards = 0..build.file.shards;
    shards
        .map(|number| seat(plugins, name, build, outlets, number))
        .collect()
}

fn seat(
    plugins: &Plugins,
    name: &str,
    build: &Build,
    outlets: &Outlets,
    number: u32,
) -> Result<Seat, String> {
    let setup = setup(&build.file, name, number as usize, outlets.publishers())?;
    let candidate = Candidate::prepare(&plugins.host, &build.compiled, &setup);
    Ok(Seat {
        candidate: candidate.map_err(|e| refusal(&e, &build.found))?,
        filter: Filter::new(&build.file.sources).shard(number, build.file.shards),
    })
}

/// Opens a shard's lane, and starts its thread.
fn begin(
    plugins: &Plugins,
    name: &str,
    build: &Build,
    seat: Seat,
    past: &Past,
    role: Role,
    pen: Pen,
) -> Result<Shard, String> {
    let upstream = plugins.upstream(&build.file).into_iter();
    let own = Scope::of(&seat.filter);
    let upstream = upstream.map(|(router, scope)| (router, Scope::all(vec![scope, own.clone()])));
    let config = LaneConfig {
        name: name.into(),
        filter: seat.filter.clone(),
        columns: seat.candidate.wants(),
        bytes: build.file.lane_bytes,
        when_full: build.file.when_full,
    };
    let reading = Reading::open(upstream.collect(), config, &past.positions);
    let reading = Arc::new(reading.ok_or("it reads nowhere")?);
    let feed = crate::daemon::feed::LaneFeed {
        reading: reading.clone(),
        effects_only: effects_only(build),
    };
    let config = RunnerConfig {
        max_lookups: plugins.max_lookups,
        on_failure: build.file.on_failure,
        restarts: build.file.restarts.clone(),
        set_aside: (plugins.places.state.as_ref()).map(|state| state.join("set-aside")),
        emits: build.emits().then(|| plugins.stream(name) as _),
    };
    match Runner::start(seat.candidate, Box::new(feed), config, role, pen) {
        Ok(runner) => Ok(Shard {
            runner: Arc::new(runner),
            reading,
        }),
        Err(e) => {
            reading.close();
            Err(format!("no thread to be had: {e}"))
        }
    }
}

/// Another instance in the place of a shard that is disabled. What that one published is
/// not published again.
pub(super) fn replace(
    plugins: &Plugins,
    name: &str,
    build: &Build,
    outlets: &Outlets,
    (shards, number): (&Shards, usize),
) -> Result<Shard, String> {
    let seat = seat(plugins, name, build, outlets, number as u32)?;
    let role = Role::Lead(Some(shards.trail.clone()));
    let pen = shards.trail.pen(number);
    begin(plugins, name, build, seat, &Past::default(), role, pen)
}

/// Takes over what the running build holds, each shard of its sources. What cannot be
/// taken over is fed anew.
fn inherit(name: &str, from: &Shards, seats: &mut [Seat]) -> Result<Vec<Past>, String> {
    let begun = Instant::now();
    let pasts = in_background(|| match &from.list[..] {
        // No source changes its shard.
        from if from.len() == seats.len() => side_by_side(from, seats),
        _ => with_heirs(seats, |heirs| {
            let from: Vec<_> = from.runners().collect();
            hand_over_all(&from, heirs, HAND_OVER)
        }),
    });
    let pasts = pasts.map_err(|e| e.to_string())?;
    let sources: usize = pasts.iter().map(|past| past.positions.len()).sum();
    let took = begun.elapsed();
    tracing::info!(plugin = name, sources, "state taken over in {took:?}");
    let anew: Vec<_> = pasts.iter().flat_map(|past| &past.anew).collect();
    metrics::counter!("penstock_plugin_fed_anew_total", "plugin" => name.to_string())
        .increment(anew.len() as u64);
    for (source, why) in anew {
        tracing::warn!(plugin = name, %source, "state not taken over, fed anew: {why}");
    }
    Ok(pasts)
}

/// Each shard to the one in its place.
fn side_by_side(from: &[Shard], seats: &mut [Seat]) -> Result<Vec<Past>, HandoverError> {
    std::thread::scope(|scope| {
        let move_one =
            |(from, to): (&Shard, &mut Seat)| from.runner.hand_over(&mut to.candidate, HAND_OVER);
        let pairs = from.iter().zip(seats);
        let moves: Vec<_> = pairs
            .map(|pair| scope.spawn(move || move_one(pair)))
            .collect();
        let join = |moved: std::thread::ScopedJoinHandle<'_, _>| match moved.join() {
            Ok(past) => past,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        moves.into_iter().map(join).collect()
    })
}

/// Each source is the heir's whose filter has it.
fn with_heirs<T>(
    seats: &mut [Seat],
    work: impl FnOnce(Heirs<'_, &dyn Fn(&SourceInfo) -> Option<usize>>) -> T,
) -> T {
    let filters: Vec<_> = seats.iter().map(|seat| seat.filter.clone()).collect();
    let owner = |source: &SourceInfo| filters.iter().position(|f| f.matches(source));
    let candidates = seats.iter_mut().map(|seat| &mut seat.candidate);
    work(Heirs::new(candidates, &owner))
}
