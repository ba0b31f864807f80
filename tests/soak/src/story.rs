//! The timeline.
//!
//! ```text
//! fill ── full speed: the maximum ── half of it: calm ── swap, swap, … ── rest, verdict
//!                                        lookups all along
//! ```

use crate::asker::{Asked, Asker};
use crate::engines::Pace;
use crate::judge::Verdict;
use crate::log::Entry;
use crate::options::Options;
use crate::others::Cpu;
use crate::scene::Scene;
use crate::waits::{Phase, now};
use anyhow::{Result, bail};
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long one swap may take.
const SWAP: Duration = Duration::from_secs(90);
/// How long all that was published may take to come out.
const DRAIN: Duration = Duration::from_secs(120);
/// Swaps that fail before nothing more is tried.
const FAILURES: u64 = 3;
/// Swaps between two words about them.
const WORD: u64 = 25;
/// After a change of load.
const SETTLE: Duration = Duration::from_secs(2);

/// What happened.
#[derive(Default)]
pub struct Played {
    /// Batches a second at full speed.
    pub max_rate: f64,
    /// Batches a second while swaps went on.
    pub rate: f64,
    /// When each swap's files were dropped in, in ns, and when all was over.
    pub windows: Vec<u64>,
    /// CPU time at each of these.
    pub cpu: Vec<Cpu>,
    /// When the time without swaps began.
    pub calm: u64,
    /// From dropping the file to the new build at work, in ms.
    pub took_ms: Vec<f64>,
    /// Swaps that failed, and why.
    pub failed: Vec<String>,
    pub generations: HashSet<u64>,
    /// Sources whose state was not taken over.
    pub fed_anew: u64,
    /// Batches that the plugin was not given.
    pub missed: u64,
    pub blocks: u64,
    pub memory: (u64, u64),
    pub asked: Asked,
    pub verdict: Verdict,
}

/// Plays it all.
pub fn play(scene: &mut Scene, options: &Options) -> Result<Played> {
    let asker = Asker::start(&scene.daemon.zmq, scene.load.clone())?;
    let max_rate = measure(scene, options)?;
    let rate = max_rate * options.load.clamp(0.01, 1.0);
    eprintln!("soak: maximum {max_rate:.0} batches/s; {rate:.0} from now on");
    scene.engines.pace(Pace::Rate(rate));
    std::thread::sleep(SETTLE);

    phase(scene, &asker, Phase::Calm)?;
    let calm = now();
    std::thread::sleep(options.measure());
    let start = scene.daemon.process.memory();

    phase(scene, &asker, Phase::Swaps)?;
    let (begun, before) = (Instant::now(), scene.judge.delivered.load(Relaxed));
    let mut played = swaps(scene, options)?;
    let delivered = scene.judge.delivered.load(Relaxed) - before;
    (played.max_rate, played.calm) = (max_rate, calm);
    played.rate = delivered as f64 / begun.elapsed().as_secs_f64();
    // What the last one left behind counts as well.
    std::thread::sleep(SETTLE);
    played.windows.push(now());
    played.cpu.push(scene.cpu());
    played.memory = (start, scene.daemon.process.memory());

    phase(scene, &asker, Phase::Busy)?;
    scene.engines.pace(Pace::Rest);
    std::thread::sleep(Duration::from_millis(200));
    if let Err(late) = out(scene, DRAIN) {
        eprintln!("soak: {late}");
    }
    let held = scene.load.blocks() as f64;
    // The plugin tells its size once a second.
    let told = scene.until(
        "the number of blocks held",
        Duration::from_secs(10),
        |scene| {
            let told = scene.daemon.metric("penstock_plugin_custom_blocks");
            Ok((told == held).then_some(()))
        },
    );
    if let Err(error) = told {
        eprintln!("soak: {error}");
    }
    played.blocks = scene.daemon.metric("penstock_plugin_custom_blocks") as u64;
    played.fed_anew = scene.daemon.metric("penstock_plugin_fed_anew_total") as u64;
    played.missed = scene.plugin()?.missed;
    played.asked = asker.finish()?;
    played.verdict = scene.judge.verdict()?;
    scene.engines.stop()?;
    Ok(played)
}

/// Fills the index, and says how many batches a second are drained.
fn measure(scene: &mut Scene, options: &Options) -> Result<f64> {
    let fill = scene.load.fill() * u64::from(options.engines);
    eprintln!(
        "soak: filling the index with {} blocks",
        scene.load.blocks()
    );
    scene.engines.pace(Pace::Full(fill));
    scene.until("the index to fill", Duration::from_secs(600), |scene| {
        Ok((scene.engines.sent() >= fill).then_some(()))
    })?;
    out(scene, DRAIN)?;
    eprintln!("soak: measuring the maximum load");
    scene.engines.pace(Pace::Full(u64::MAX));
    std::thread::sleep(Duration::from_millis(500));
    let (begun, before) = (Instant::now(), scene.judge.delivered.load(Relaxed));
    std::thread::sleep(options.measure());
    let drained = scene.judge.delivered.load(Relaxed) - before;
    let rate = drained as f64 / begun.elapsed().as_secs_f64();
    scene.engines.pace(Pace::Rest);
    std::thread::sleep(Duration::from_millis(50));
    out(scene, DRAIN)?;
    if rate < 1.0 {
        bail!(
            "the daemon drains nothing: no batch came out in {:?}",
            options.measure()
        );
    }
    Ok(rate)
}

fn swaps(scene: &mut Scene, options: &Options) -> Result<Played> {
    let first = scene.plugin()?;
    let mut generation = first.generation;
    let mut played = Played::default();
    played.generations.insert(generation);
    let begun = Instant::now();
    for number in 1..=options.swaps {
        if begun.elapsed() >= options.longest() {
            eprintln!("soak: the time is over after {} swaps", number - 1);
            break;
        }
        played.windows.push(now());
        played.cpu.push(scene.cpu());
        let dropped = Instant::now();
        let before = scene.plugin()?.load_error;
        // The other one than runs.
        scene.drop_build(played.took_ms.len() as u64 + 1);
        let swapped = scene.until("a swap", SWAP, |scene| {
            let plugin = scene.plugin()?;
            if plugin.generation > generation {
                return Ok(Some(plugin.generation));
            }
            match plugin.load_error {
                Some(why) if before.as_ref() != Some(&why) => bail!("refused: {why}"),
                _ => Ok(None),
            }
        });
        match swapped {
            Ok(new) => {
                generation = new;
                played.generations.insert(new);
                played
                    .took_ms
                    .push(dropped.elapsed().as_secs_f64() * 1_000.0);
            }
            Err(why) => {
                eprintln!("soak: swap {number}: {why:#}");
                played.failed.push(format!("swap {number}: {why:#}"));
                if played.failed.len() as u64 >= FAILURES {
                    break;
                }
            }
        }
        if number.is_multiple_of(WORD) || number == options.swaps {
            let memory = scene.daemon.process.memory() >> 20;
            let each = begun.elapsed().as_millis() / u128::from(number);
            eprintln!("soak: {number} swaps, {each} ms each, daemon {memory} MiB");
        }
    }
    Ok(played)
}

/// Waits until everything published has come out.
fn out(scene: &mut Scene, limit: Duration) -> Result<()> {
    scene.until("the batches to come out", limit, |scene| {
        let (sent, out) = (scene.engines.sent(), scene.judge.delivered.load(Relaxed));
        Ok((out >= sent).then_some(()))
    })
}

fn phase(scene: &Scene, asker: &Asker, phase: Phase) -> Result<()> {
    asker.phase(phase);
    scene.judge.log().write(&[Entry::Phase(phase as u64)])
}
