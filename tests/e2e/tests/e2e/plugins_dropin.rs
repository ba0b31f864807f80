//! Plugins dropped, replaced and removed under a daemon that works.

mod refusals;
mod shapes;
mod sinks;
mod state;
mod swaps;

use crate::rig::plugin_when;
use penstock_query::PluginStatus;
use penstock_testkit::daemon::{Daemon, PATIENCE};
use penstock_testkit::wait;
use std::time::{Duration, Instant};

/// What a change of files may take beside compiling, at most: the promise is 2 s on a
/// machine of its own, and the suites run side by side.
const IN_EFFECT: Duration = Duration::from_secs(4);

/// Waits until a plugin runs in this generation, no longer than a change may take.
fn in_effect(daemon: &Daemon, name: &str, generation: u64, since: Instant) -> PluginStatus {
    let what = format!("generation {generation}");
    let status = plugin_when(daemon, name, &what, |p| {
        p.generation == generation && p.state == "running"
    });
    let took = since.elapsed();
    let compiling = compiling(daemon, name, generation);
    eprintln!("{name}: generation {generation} after {took:?}, {compiling:?} of it compiling");
    assert!(
        took < compiling + IN_EFFECT,
        "{name}: {took:?}, {compiling:?} of it compiling"
    );
    status
}

/// How long the daemon says that it took to compile and set up a generation.
fn compiling(daemon: &Daemon, name: &str, generation: u64) -> Duration {
    let of_name = format!("plugin=\"{name}\"");
    let line = wait::until("what the log says", PATIENCE, || {
        let output = daemon.process.output();
        let mut loads = output
            .lines()
            .filter(|l| l.contains("loaded in ") && l.contains(&of_name));
        loads.nth(generation as usize - 1).map(str::to_string)
    });
    let time = line.split("loaded in ").nth(1).unwrap_or_default();
    let time = time.split_whitespace().next().unwrap_or_default();
    let (number, unit): (String, String) =
        time.chars().partition(|c| c.is_ascii_digit() || *c == '.');
    let seconds = match unit.as_str() {
        "s" => 1.0,
        "ms" => 1e-3,
        _ => panic!("when did {name} load? {line:?}"),
    };
    Duration::from_secs_f64(number.parse::<f64>().unwrap() * seconds)
}
