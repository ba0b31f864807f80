//! Plugins whose sources are shared by several instances.

mod answers;
mod failure;
mod moves;

use crate::rig::{CALM, Traced};
use penstock_testkit::daemon::Setup;

/// An index of so many instances.
fn index(shards: u32) -> String {
    format!("shards = {shards}\n{CALM}")
}

/// Sources of one daemon, named `e0`, `e1`, ….
fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("e{i}")).collect()
}

/// Engines as its sources.
fn sources(engines: &[Traced], setup: Setup) -> Setup {
    let named = engines.iter().zip(names(engines.len()));
    named.fold(setup, |setup, (engine, name)| engine.source(setup, &name))
}

/// The index is right about each of them.
fn compare(engines: &[Traced], daemon: &penstock_testkit::daemon::Daemon, plugin: &str) {
    for (engine, name) in engines.iter().zip(names(engines.len())) {
        let mut oracle = engine.settle(daemon, &name);
        engine.compare(daemon, plugin, &name, &mut oracle);
    }
}
