//! The daemon: every room built, joined and taken down again.
//!
//! ```text
//! discovery -> ingest -> decode -> route -> plugin -> sink
//!                                             └── query beside
//! ```
//! Start: router, ingest, plugins, sources, doors. End: the doors close, ingest
//! stops, the lanes run empty, the sinks drain; all within the drain limit.

mod answers;
mod chains;
mod checkpoint;
mod control;
mod feed;
mod fetch;
mod load;
mod manager;
mod merge;
mod plugins;
mod scan;
mod shards;
mod sinks;
mod sources;
mod survey;
mod watch;

use crate::config::{Config, ConfigError, Loaded};
use anyhow::{Context, Result};
use checkpoint::{Checkpoints, Keeper, Kept};
use fetch::Engines;
use manager::{Bell, Manager};
use penstock_event::{Change, Item, Outlet};
use penstock_ingest::{Ingest, IngestConfig, Sabotage, Sources};
use penstock_plugin::Cache;
use penstock_query::{Beat, Doors, DoorsConfig, Gate, Heartbeats, QueryError, ReadyLatch};
use penstock_route::{Router, RouterConfig};
use plugins::{Places, Plugins};
use sources::{Discovery, resume_points};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
pub use survey::{Survey, survey};

/// What the doors and the threads share.
pub struct Parts {
    config: Config,
    file: Option<PathBuf>,
    started: Instant,
    router: Arc<Router>,
    ingest: Arc<Ingest>,
    discovery: Discovery,
    plugins: Arc<Plugins>,
    bell: Bell,
    late: merge::Late,
    latch: ReadyLatch,
    beats: Heartbeats,
    recorder: penstock_telemetry::PrometheusHandle,
}

/// A daemon that runs.
pub struct Daemon {
    parts: Arc<Parts>,
    manager: Manager,
    keeper: Option<Keeper>,
    doors: Doors,
    runtime: tokio::runtime::Runtime,
    beat: Beat,
}

/// What the drain leaves to the sinks, at the least.
const SINKS: Duration = Duration::from_millis(500);

// === impl Daemon ===

impl Daemon {
    /// Starts everything. A config that cannot work is refused before a socket opens.
    pub fn start(
        file: Option<PathBuf>,
        loaded: Loaded,
        sabotage: Option<Sabotage>,
    ) -> Result<Self> {
        let config = loaded.config.clone();
        let recorder = penstock_telemetry::install().map_err(anyhow::Error::msg)?;
        match penstock_ingest::raise_descriptor_limit() {
            Ok((before, now)) if now > before => tracing::debug!(before, now, "descriptors"),
            Ok(_) => {}
            Err(error) => tracing::warn!("the limit of open files cannot be raised: {error}"),
        }
        let latch = ReadyLatch::default();
        let beats = Heartbeats::default();
        let engines = Arc::new(Engines::default());
        let router = Arc::new(Router::new(route(&config), engines.clone()));
        let known = Arc::new(Sources::new());
        let state = state_dir(&loaded);
        let checkpoints = state.as_deref().and_then(checkpoints);
        if let Some(checkpoints) = &checkpoints {
            resume_points(&known, checkpoints.points());
        }
        let plugins = Plugins::new(
            router.clone(),
            Places {
                plugins: loaded.path(&config.plugins_dir),
                home: loaded.home.clone(),
                state: state.clone(),
            },
            config.query.lookup.clone(),
            config.query.queue,
            cache(&loaded),
            checkpoints.clone(),
        )?;
        // Before any socket: a plugin directory that leaves open who answers is a mistake.
        for warning in survey::before_start(&loaded)? {
            tracing::warn!("{warning}");
        }
        let ingest = Ingest::start(ingest(&config, sabotage), router.clone(), known)?;
        let ingest = Arc::new(ingest);
        // Set once, here: it cannot be taken.
        let _ = engines.ingest.set(ingest.clone());
        let manager = Manager::start(
            plugins.clone(),
            Duration::from_millis(config.scan_ms),
            &beats,
        )?;
        let parts = Arc::new(Parts {
            discovery: Discovery::new(ingest.clone()),
            started: Instant::now(),
            config,
            file,
            router,
            ingest,
            plugins,
            bell: manager.bell(),
            late: merge::Late::default(),
            latch,
            beats,
            recorder,
        });
        parts.latch.open(Gate::Config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("http")
            .enable_all()
            .build()
            .context("no async runtime")?;
        let config = doors(&parts.config, &loaded)?;
        let doors = Doors::start(config, parts.clone(), parts.clone(), runtime.handle());
        let doors = doors.map_err(shut)?;
        let at = doors.addresses();
        tracing::info!(
            "doors open http={} zmq={} control={}",
            at.http.map_or("off".into(), |a| a.to_string()),
            at.zmq.as_deref().unwrap_or("off"),
            at.control
                .as_ref()
                .map_or("off".into(), |p| p.display().to_string()),
        );
        parts.discover(loaded.sources);
        for state in parts.ingest.sources().snapshot().iter() {
            // Known to the router before any plugin goes on with it; ingest says it again.
            let joined = Item::Change(Change::Joined(state.clone()));
            parts.router.deliver(state, joined);
        }
        manager.begin();
        let keeper = checkpoints.map(|c| Keeper::start(parts.plugins.clone(), c));
        let keeper = keeper.transpose()?;
        let beat = parts.beats.watch("main", Duration::from_secs(10));
        Ok(Self {
            manager,
            keeper,
            doors,
            runtime,
            beat,
            parts,
        })
    }

    /// The main loop's sign of life; and opens the last gate once plugins are warm.
    pub fn beat(&self) {
        self.beat.touch();
        if self.manager.warm() {
            self.parts.latch.open(Gate::Plugins);
        }
    }

    /// Ends within the drain limit: nothing new comes in, what is queued goes out.
    pub fn drain(self) {
        let begun = Instant::now();
        let limit = Duration::from_millis(self.parts.config.drain_ms);
        let until = begun + limit;
        tracing::info!("draining, for at most {limit:?}");
        self.manager.stop(begun + (limit / 8));
        self.parts.ingest.quiet();
        // Checkpoints have their share, however slow some plugin is.
        let share = SINKS + limit / 4;
        self.parts
            .plugins
            .drain(until.checked_sub(share).unwrap_or(begun));
        if let Some(keeper) = self.keeper {
            keeper.finish(until.checked_sub(SINKS).unwrap_or(begun));
        }
        let lost = self.parts.plugins.close(until);
        // Lookups that wait are answered by then, or told that the daemon closes.
        let doors = self.doors;
        doors.shutdown(until.saturating_duration_since(Instant::now()).min(SINKS));
        self.runtime.shutdown_background();
        match lost {
            0 => tracing::info!("drained in {:?}", begun.elapsed()),
            lost => tracing::error!(
                "drained in {:?}; {lost} message(s) not sent",
                begun.elapsed()
            ),
        }
    }
}

// === impl Parts ===

impl Parts {
    fn discover(&self, sources: Vec<penstock_event::SourceSpec>) {
        if sources.is_empty() {
            tracing::info!(
                "no sources yet: name some in the config ([[sources]]) or POST /register"
            );
        }
        self.discovery.configure(sources);
        self.latch.open(Gate::Discovery);
    }
}

/// A door that does not open, by its key and with the likely cause.
fn shut(error: QueryError) -> anyhow::Error {
    let taken = match &error {
        QueryError::Open { source, .. } => source.kind() == std::io::ErrorKind::AddrInUse,
        QueryError::InUse { .. } => true,
        QueryError::NotASocket { .. } => false,
        _ => return error.into(),
    };
    let hint = match taken {
        true => "; does another penstock run? Give this one an address of its own, or \"off\"",
        false => "",
    };
    anyhow::anyhow!("query.{error}{hint}")
}

/// Where compiled plugins are kept. One that cannot be had costs time at each start,
/// and nothing else.
fn cache(loaded: &Loaded) -> Option<Cache> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let directory = match loaded.config.cache_dir.as_str() {
        "off" => return None,
        "auto" => (variable("CACHE_DIRECTORY").map(PathBuf::from))
            .or_else(|| variable("XDG_CACHE_HOME").map(|d| PathBuf::from(d).join("penstock")))
            .or_else(|| variable("HOME").map(|d| PathBuf::from(d).join(".cache/penstock")))?,
        path => loaded.path(path),
    };
    match Cache::open(&directory) {
        Ok(cache) => Some(cache),
        Err(error) => {
            let at = directory.display();
            tracing::warn!("compiled plugins are not kept, `cache_dir` {at}: {error}");
            None
        }
    }
}

/// Checkpoints that cannot be had cost time after a crash, and nothing else.
fn checkpoints(state: &Path) -> Kept {
    match Checkpoints::open(state) {
        Ok(checkpoints) => Some(Arc::new(checkpoints)),
        Err(error) => {
            tracing::warn!("no checkpoints, `state_dir`: {error:#}");
            None
        }
    }
}

/// Where checkpoints and batches set aside lie.
fn state_dir(loaded: &Loaded) -> Option<PathBuf> {
    match loaded.config.state_dir.as_str() {
        "off" => None,
        "auto" => Some(
            std::env::var_os("STATE_DIRECTORY")
                .filter(|v| !v.is_empty())
                .map_or_else(|| loaded.path("state"), PathBuf::from),
        ),
        path => Some(loaded.path(path)),
    }
}

fn route(config: &Config) -> RouterConfig {
    RouterConfig {
        ring_bytes: config.route.ring_bytes,
        ring_total_bytes: config.route.ring_total_bytes,
        lanes_total_bytes: config.route.lanes_total_bytes,
        limits: penstock_decode::Limits::default(),
    }
}

fn ingest(config: &Config, sabotage: Option<Sabotage>) -> IngestConfig {
    let c = &config.ingest;
    let ms = Duration::from_millis;
    IngestConfig {
        threads: c.threads,
        max_message_bytes: usize::try_from(c.max_message_bytes).unwrap_or(usize::MAX),
        receive_hwm: i32::try_from(c.receive_hwm).unwrap_or(i32::MAX),
        turn: c.turn,
        replays: c.replays,
        replay_wait: ms(c.replay_wait_ms),
        replay_attempts: c.replay_attempts,
        buffer_frames: c.buffer_batches,
        buffer_bytes: c.buffer_bytes,
        tail_after: ms(c.tail_after_ms),
        stale_after: ms(c.stale_after_ms),
        leave_after: ms(c.leave_after_ms),
        seed: std::process::id().into(),
        sabotage,
        ..IngestConfig::default()
    }
}

fn doors(config: &Config, loaded: &Loaded) -> Result<DoorsConfig, ConfigError> {
    let open = |value: &str| (value != "off").then(|| value.to_string());
    let q = &config.query;
    Ok(DoorsConfig {
        http: open(&q.http).and_then(|a| a.parse().ok()),
        zmq: open(&q.zmq),
        control: open(&q.control).map(|p| loaded.path(p)),
        deadline_ms: q.deadline_ms,
        max_body_bytes: q.max_body_bytes,
        max_bodies_bytes: (8 * q.max_body_bytes).max(128 << 20),
        max_in_flight: q.queue,
        ..DoorsConfig::default()
    })
}
