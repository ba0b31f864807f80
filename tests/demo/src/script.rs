//! The timeline: what happens to engines and daemon while lookups go on.
//!
//! ```text
//! 0 %            30 %          55 %                       100 %
//! publish ─────── swap ──────── kill, restart ──────────── pause, drain, SIGTERM
//!      frames dropped and lookups asked all along
//! ```
//! Every wait has an end: what does not come in time is noted, and the check tells
//! what it meant. Ctrl-C and the daemon's death end the story at once.

use crate::lookups::{Answers, Lookups};
use crate::options::Options;
use crate::report::Bar;
use crate::scene::{NAMES, Scene};
use anyhow::{Result, bail};
use penstock_peer::engine::{Command, State, Summary};
use penstock_query::{PluginStatus, SourceStatus};
use penstock_testkit::daemon::drop_plugin;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The plugin that is swapped.
const SWAPPED: &str = "prefix-index";

/// All plugins.
const PLUGINS: [&str; 2] = [SWAPPED, "forward"];

/// The engine that is killed.
const VICTIM: usize = 1;

/// Lookups after the last batch.
const LAST_LOOKUPS: usize = 100;

/// How often the story looks around.
const TICK: Duration = Duration::from_millis(20);

/// What happened.
#[derive(Debug)]
pub struct Played {
    /// The engines.
    pub engines: Summary,
    /// The daemon's sources at the end.
    pub sources: Vec<SourceStatus>,
    /// Swaps of the index that the daemon tells of.
    pub swaps: u64,
    /// From dropping the file to the new build at work.
    pub swap: Option<(Instant, Duration)>,
    /// From the engine's restart to the daemon's knowing.
    pub restart: Option<Duration>,
    /// What was asked, and answered.
    pub answers: Answers,
    /// How the daemon ended; none: it had to be killed.
    pub exit: Option<ExitStatus>,
    /// How long it took to end.
    pub draining: Duration,
    /// What did not come in time.
    pub late: Vec<String>,
    /// From the first batch to the last.
    pub length: Duration,
}

/// The story while it is told.
pub struct Script<'a> {
    scene: &'a mut Scene,
    lookups: &'a Lookups,
    options: &'a Options,
    bar: &'a Bar,
    interrupted: &'a AtomicBool,
    begun: Instant,
    late: Vec<String>,
    sources: Vec<SourceStatus>,
    looked: Instant,
}

/// Everything up to the daemon's exit.
pub fn play(
    scene: &mut Scene,
    options: &Options,
    bar: &Bar,
    interrupted: &AtomicBool,
) -> Result<Played> {
    let lookups = Lookups::start(scene, options.lookups, options.seed)?;
    let now = Instant::now();
    let mut script = Script {
        scene,
        lookups: &lookups,
        options,
        bar,
        interrupted,
        begun: now,
        late: Vec::new(),
        sources: Vec::new(),
        looked: now,
    };
    script.begin()?;
    script.until(0.3)?;
    let before = script.plugin(SWAPPED)?;
    let swap = script.swap(&before)?;
    script.until(0.55)?;
    let restart = script.restart()?;
    script.until(1.0)?;
    script.pause()?;
    let length = script.begun.elapsed();
    script.drained()?;
    let late = std::mem::take(&mut script.late);
    // The last lookups are at the last positions.
    let answers = lookups.finish(scene, LAST_LOOKUPS, options.seed)?;
    let after = scene.control().plugins()?;
    let after = after.into_iter().find(|p| p.name == SWAPPED);
    let sources = scene.control().sources()?;
    let begun = Instant::now();
    scene.daemon.process.signal("TERM");
    let process = &mut scene.daemon.process;
    let exit = penstock_testkit::wait::within(Duration::from_secs(10), || process.ended());
    Ok(Played {
        engines: scene.engines.progress(),
        sources,
        swaps: swaps(&before, after.as_ref()),
        swap,
        restart,
        answers,
        exit,
        draining: begun.elapsed(),
        late,
        length,
    })
}

/// Swaps between two looks at a plugin; a swap that was taken back is none.
fn swaps(before: &PluginStatus, after: Option<&PluginStatus>) -> u64 {
    match after {
        Some(after) if after.digest != before.digest => {
            after.generation.saturating_sub(before.generation).max(1)
        }
        _ => 0,
    }
}

// === impl Script ===

impl Script<'_> {
    fn begin(&mut self) -> Result<()> {
        let running = |p: &PluginStatus| p.state == "running";
        self.watch("the plugins", |script| {
            let plugins = script.scene.control().plugins().ok()?;
            let all = PLUGINS
                .iter()
                .all(|n| plugins.iter().any(|p| p.name == *n && running(p)));
            all.then_some(())
        })?;
        for plugin in PLUGINS.map(|name| self.plugin(name)) {
            let plugin = plugin?;
            if !running(&plugin) {
                let why = plugin
                    .load_error
                    .or(plugin.last_error)
                    .unwrap_or(plugin.state);
                bail!("the plugin {} does not run: {why}", plugin.name);
            }
        }
        self.bar.say("engines wait for the daemon");
        let begun = self.watch("the first batches", |script| {
            let engines = script.scene.engines.progress().engines;
            let publishing = |s: State| s == State::Publishing;
            engines.iter().all(|e| publishing(e.state)).then_some(())
        })?;
        if begun.is_none() {
            bail!("the engines did not get their subscriber");
        }
        self.begun = Instant::now();
        self.lookups.shared().flowing.store(true, Relaxed);
        self.bar.say(&format!(
            "engines publish {} batches a second each and drop {} % of them on purpose",
            self.options.rate,
            self.options.drop * 100.0
        ));
        Ok(())
    }

    /// Lets things run until a share of the time has passed.
    fn until(&mut self, share: f64) -> Result<()> {
        let end = self.begun + self.options.length().mul_f64(share);
        while Instant::now() < end {
            self.tick()?;
        }
        Ok(())
    }

    /// Drops the other build in and waits until it works.
    fn swap(&mut self, before: &PluginStatus) -> Result<Option<(Instant, Duration)>> {
        self.bar
            .say("the other build of prefix-index is dropped in");
        let second = penstock_testkit::plugin_file("prefix-index.second");
        let begun = Instant::now();
        drop_plugin(self.scene.daemon.home.path(), SWAPPED, &second, None);
        let new = self.watch("the swapped plugin", |script| {
            let plugin = script.plugin(SWAPPED).ok()?;
            let done = plugin.digest != before.digest && plugin.state == "running";
            (done || plugin.load_error.is_some()).then_some(plugin)
        })?;
        let Some(new) = new else {
            return Ok(None);
        };
        if let Some(why) = new.load_error {
            self.late
                .push(format!("the other build was refused: {why}"));
            return Ok(None);
        }
        let took = begun.elapsed();
        let short = |digest: &str| digest.chars().take(8).collect::<String>();
        self.bar.say(&format!(
            "prefix-index swapped: {} -> {} after {} ms",
            short(&before.digest),
            short(&new.digest),
            took.as_millis()
        ));
        Ok(Some((begun, took)))
    }

    /// Kills an engine in the middle of its work and starts it again.
    fn restart(&mut self) -> Result<Option<Duration>> {
        let name = NAMES[VICTIM];
        self.scene.engines.command(VICTIM, Command::Kill)?;
        self.bar.say(&format!("{name} was killed"));
        self.watch("the end of the connection", |script| {
            let source = script.source(VICTIM)?;
            (source.link != "live").then_some(())
        })?;
        let begun = Instant::now();
        let again = Command::Restart {
            first_sequence: 0,
            wait_subscribers: 1,
        };
        self.scene.engines.command(VICTIM, again)?;
        self.bar
            .say(&format!("{name} starts again, with an empty cache"));
        let seen = self.watch("the restart", |script| {
            let source = script.source(VICTIM)?;
            (total(&source, "restarts") > 0).then_some(())
        })?;
        Ok(seen.map(|()| {
            let took = begun.elapsed();
            self.bar
                .say(&format!("the daemon saw it after {} ms", took.as_millis()));
            took
        }))
    }

    fn pause(&mut self) -> Result<()> {
        self.lookups.shared().flowing.store(false, Relaxed);
        for engine in 0..NAMES.len() {
            self.scene.engines.command(engine, Command::Pause)?;
        }
        self.watch("the engines' pause", |script| {
            let engines = script.scene.engines.progress().engines;
            engines
                .iter()
                .all(|e| e.state == State::Paused)
                .then_some(())
        })?;
        self.bar.say("engines pause; the daemon catches up");
        Ok(())
    }

    /// Waits until all that was published has gone through the plugins.
    fn drained(&mut self) -> Result<()> {
        for (engine, name) in NAMES.iter().enumerate() {
            let last = self
                .scene
                .engines
                .progress()
                .engines
                .into_iter()
                .nth(engine);
            let Some(last) = last else { continue };
            let Some(sequence) = last.last_sequence else {
                continue;
            };
            let end = (last.restarts, sequence);
            self.watch(&format!("the last batch of {name}"), |script| {
                let at = script.source(engine)?.position?;
                ((at.epoch, at.sequence) >= end).then_some(())
            })?;
        }
        self.watch("the plugins' lanes", |script| {
            let plugins = script.scene.control().plugins().ok()?;
            plugins.iter().all(|p| p.queue_items == 0).then_some(())
        })?;
        Ok(())
    }

    /// Asks again and again, within the patience. None: it did not come.
    fn watch<T>(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<Option<T>> {
        let limit = self.options.patience();
        let end = Instant::now() + limit;
        loop {
            self.tick()?;
            if let Some(found) = condition(self) {
                return Ok(Some(found));
            }
            if Instant::now() >= end {
                self.late
                    .push(format!("{what}: not within {} s", limit.as_secs()));
                return Ok(None);
            }
        }
    }

    /// One look around.
    fn tick(&mut self) -> Result<()> {
        std::thread::park_timeout(TICK);
        if self.interrupted.load(Relaxed) {
            bail!(Interrupted);
        }
        if let Some(status) = self.scene.daemon.process.ended() {
            bail!("the daemon ended with {status}");
        }
        let engines = self.scene.engines.progress();
        if self.scene.engines.ended() {
            bail!("an engine has failed");
        }
        let shared = self.lookups.shared();
        let next = engines.engines.iter().filter_map(|e| e.next_request).max();
        shared.next_request.store(next.unwrap_or(0), Relaxed);
        if self.looked.elapsed() >= Duration::from_millis(200) {
            self.looked = Instant::now();
            // A daemon that is busy for a moment shows what it told before.
            if let Ok(sources) = self.scene.control().sources() {
                self.sources = sources;
            }
        }
        let passed = match shared.flowing.load(Relaxed) {
            true => self.begun.elapsed(),
            false => Duration::ZERO,
        };
        self.bar.show(passed, &engines, &self.sources, shared);
        Ok(())
    }

    fn plugin(&self, name: &str) -> Result<PluginStatus> {
        let plugins = self.scene.control().plugins()?;
        match plugins.into_iter().find(|p| p.name == name) {
            Some(plugin) => Ok(plugin),
            None => bail!("the daemon has no plugin {name}"),
        }
    }

    fn source(&self, engine: usize) -> Option<SourceStatus> {
        let sources = self.scene.control().sources().ok()?;
        sources.into_iter().find(|s| s.name == NAMES[engine])
    }
}

/// One of a source's counters.
pub fn total(source: &SourceStatus, name: &str) -> u64 {
    source.totals.get(name).copied().unwrap_or(0)
}

/// Ctrl-C or SIGTERM.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted")
    }
}

impl std::error::Error for Interrupted {}
