//! Another number of shards: at a reload, and at a start.

use super::{compare, index, names, sources};
use crate::rig::{CALM, Traced, delivered, forward_to, lines, plugin_when};
use penstock_query::PluginStatus;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};

const ENGINES: usize = 4;

/// An index that forwards each batch, so that what comes out can be counted.
fn echo(shards: u32) -> String {
    let rules = "[swap]\nprobation_batches = 40\n";
    let sink = "[config]\necho = \"out\"\n[sink.out]\nkind = \"file\"\npath = \"echo.jsonl\"\n";
    format!("grants = [\"log\", \"metrics\", \"publish\"]\nshards = {shards}\n{rules}{CALM}{sink}")
}

fn forward(shards: u32) -> String {
    let rules = "[swap]\nprobation_batches = 40\n";
    let toml = format!("shards = {shards}\n{}", forward_to("forward.jsonl"));
    toml.replacen("[config]", &format!("{rules}[config]"), 1)
}

fn set(daemon: &Daemon, shards: u32) {
    let home = daemon.home.path();
    for (name, file, toml) in [
        ("index", "prefix-index.echo", echo(shards)),
        ("forward", "forward", forward(shards)),
    ] {
        drop_plugin(home, name, &plugin_file(file), Some(&toml));
    }
}

fn generation(daemon: &Daemon, name: &str, generation: u64) -> PluginStatus {
    let what = format!("generation {generation}");
    plugin_when(daemon, name, &what, |p| p.generation == generation)
}

/// Every batch came out once, in order, by source.
fn judge(engines: &[Traced], daemon: &Daemon, file: &str) {
    let published: u64 = engines.iter().map(Traced::published).sum();
    let path = daemon.path(file);
    wait::until("the rest to be forwarded", PATIENCE, || {
        (lines(&path).len() as u64 >= published).then_some(())
    });
    let lines = lines(&path);
    for (engine, name) in engines.iter().zip(names(engines.len())) {
        delivered(&lines, &engine.oracle(&name), &name);
    }
}

#[test]
fn state_and_effects_move_by_source_to_more_shards_and_to_fewer() {
    let engines: Vec<_> = (0..ENGINES).map(|_| Traced::start(100.0)).collect();
    let setup = Setup::new()
        .plugin("index", "prefix-index.echo", &echo(1))
        .plugin("forward", "forward", &forward(1));
    let daemon = sources(&engines, setup).start();
    for (number, shards) in (2..).zip([3, 2]) {
        engines[0].wait_more(30);
        set(&daemon, shards);
        for name in ["index", "forward"] {
            let status = generation(&daemon, name, number);
            assert_eq!(status.shards, u64::from(shards));
            assert_eq!((status.restarts, status.load_error), (0, None));
            plugin_when(&daemon, name, "the end of probation", |p| !p.probation);
        }
    }
    // And back, while the build before still stands ready.
    let toml = echo(5).replace("probation_batches = 40", "probation_batches = 1000000");
    let wasm = plugin_file("prefix-index.echo");
    drop_plugin(daemon.home.path(), "index", &wasm, Some(&toml));
    assert_eq!(generation(&daemon, "index", 4).shards, 5);
    engines[0].wait_more(30);
    daemon.control().roll_back("index").unwrap();
    assert_eq!(generation(&daemon, "index", 3).shards, 2);
    engines[0].wait_more(30);

    compare(&engines, &daemon, "index");
    judge(&engines, &daemon, "echo.jsonl");
    judge(&engines, &daemon, "forward.jsonl");
    let log = daemon.process.output();
    let moved = log.lines().filter(|l| l.contains("state taken over in"));
    let all = format!("sources={ENGINES}");
    let moved: Vec<_> = moved.filter(|line| line.contains(&all)).collect();
    assert_eq!(moved.len(), 5, "each time of every source: {moved:#?}");
    assert_eq!(daemon.metric("penstock_plugin_fed_anew_total"), 0.0);
    assert_eq!(daemon.metric("penstock_plugin_rollbacks_total"), 1.0);
}

#[test]
fn a_checkpoint_of_some_shards_is_one_for_any_number() {
    let engines: Vec<_> = (0..ENGINES).map(|_| Traced::idle()).collect();
    let text = |shards| format!("{}[checkpoint]\nevery_s = 1\n", index(shards));
    let setup = Setup::new().plugin("index", "prefix-index", &text(3));
    let mut daemon = sources(&engines, setup).start();
    for shards in [2, 1, 3] {
        engines.iter().for_each(|engine| engine.burst(150));
        compare(&engines, &daemon, "index");
        let toml = daemon.path("plugins.d/index.toml");
        daemon = daemon.again("TERM", || std::fs::write(toml, text(shards)).unwrap());
        let told = daemon.process.line("restored from a checkpoint").unwrap();
        let all = format!("sources={ENGINES}");
        assert!(told.contains(&all), "{told}");
        let status = plugin_when(&daemon, "index", "running", |p| p.state == "running");
        assert_eq!(status.shards, u64::from(shards));
        compare(&engines, &daemon, "index");
        for name in names(ENGINES) {
            let replayed = daemon.source(&name).unwrap().totals["replayed"];
            assert!(replayed < 5, "{replayed} batches of {name} replayed");
        }
    }
}
