//! What a daemon finds again after it was killed.

use crate::rig::{CALM, Traced, delivered, forward_to, lines};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::wait;
use rand::RngExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn index(every_s: u64) -> String {
    format!("{CALM}[checkpoint]\nevery_s = {every_s}\n")
}

fn start(engine: &Traced, every_s: u64) -> Daemon {
    let setup = Setup::new()
        .variable("PENSTOCK_QUERY__LOOKUP", "index")
        .plugin("index", "prefix-index", &index(every_s));
    engine.source(setup, "e").start()
}

/// Files of the index's checkpoints, by number, and whether one is being written.
fn files(daemon: &Daemon) -> (Vec<(u64, PathBuf)>, bool) {
    files_in(&daemon.path("state/checkpoints/index"))
}

fn files_in(directory: &Path) -> (Vec<(u64, PathBuf)>, bool) {
    let mut found = Vec::new();
    let mut writing = false;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        writing |= entry.file_name().to_string_lossy().starts_with(".new-");
        let ours = path.extension().is_some_and(|e| e == "checkpoint");
        let number = path.file_stem().and_then(|s| s.to_str()?.parse().ok());
        if let Some(number) = number.filter(|_| ours) {
            found.push((number, path));
        }
    }
    found.sort();
    (found, writing)
}

/// Waits for a checkpoint that was begun after this call.
fn kept(daemon: &Daemon) -> PathBuf {
    let newest = || files(daemon).0.last().cloned();
    let before = newest().map_or(0, |(number, _)| number);
    wait::until("two checkpoints", PATIENCE, || {
        newest().filter(|(number, _)| *number >= before + 2)
    })
    .1
}

fn compare(engine: &Traced, daemon: &Daemon) {
    let mut oracle = engine.settle(daemon, "e");
    engine.compare(daemon, "index", "e", &mut oracle);
}

fn restored(daemon: &Daemon) -> bool {
    daemon.process.line("restored from a checkpoint").is_some()
}

fn replayed(daemon: &Daemon) -> u64 {
    daemon.source("e").unwrap().totals["replayed"]
}

#[test]
fn a_daemon_that_was_killed_goes_on_and_asks_only_for_what_is_missing() {
    let engine = Traced::idle();
    let daemon = start(&engine, 1);
    engine.burst(400);
    compare(&engine, &daemon);
    kept(&daemon);
    assert!(files(&daemon).0.len() <= 2, "older ones are removed");
    let daemon = daemon.again("KILL", || engine.burst(30));
    assert!(restored(&daemon));
    compare(&engine, &daemon);
    let replayed = replayed(&daemon);
    assert!((30..100).contains(&replayed), "{replayed} batches replayed");
    // A planned end keeps all there is, whatever the interval.
    let daemon = daemon.again("TERM", || ());
    assert!(restored(&daemon));
    compare(&engine, &daemon);
    let replayed = self::replayed(&daemon);
    assert!(replayed < 5, "{replayed} batches replayed");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let engine = Traced::idle();
    let mut daemon = start(&engine, 1);
    engine.burst(300);
    compare(&engine, &daemon);
    for (damaged, still) in [(1, true), (2, false)] {
        kept(&daemon);
        daemon.process.signal("STOP");
        let files = files(&daemon).0;
        assert_eq!(files.len(), 2);
        for (_, path) in files.iter().rev().take(damaged) {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            std::fs::write(path, bytes).unwrap();
        }
        daemon = daemon.again("KILL", || ());
        assert!(daemon.process.line("this checkpoint is damaged").is_some());
        assert_eq!(restored(&daemon), still);
        compare(&engine, &daemon);
    }
}

#[test]
fn what_is_forwarded_comes_once_across_a_planned_restart() {
    let engine = Traced::start(200.0);
    let setup = Setup::new().plugin("forward", "forward", &forward_to("out.jsonl"));
    let mut daemon = engine.source(setup, "e").start();
    for _ in 0..3 {
        engine.wait_more(60);
        daemon = daemon.again("TERM", || engine.wait_more(20));
    }
    let oracle = engine.settle(&daemon, "e");
    let file = daemon.path("out.jsonl");
    wait::until("the rest to be forwarded", PATIENCE, || {
        (lines(&file).len() as u64 >= engine.published()).then_some(())
    });
    delivered(&lines(&file), &oracle, "e");
}

#[test]
fn a_plugin_that_is_removed_leaves_nothing() {
    let engine = Traced::idle();
    let daemon = start(&engine, 1);
    engine.burst(10);
    kept(&daemon);
    std::fs::remove_file(daemon.path("plugins.d/index.wasm")).unwrap();
    std::fs::remove_file(daemon.path("plugins.d/index.toml")).unwrap();
    let directory = daemon.path("state/checkpoints/index");
    wait::until("the end of its checkpoints", PATIENCE, || {
        (!directory.exists()).then_some(())
    });
}

/// `KILLS=50` for the long form.
#[test]
fn killed_at_any_moment_the_index_is_right_again() {
    let kills = std::env::var("KILLS").ok().and_then(|n| n.parse().ok());
    let kills: u32 = kills.unwrap_or(6);
    // The trace is to last for the long form.
    let engine = Traced::start(if kills > 10 { 80.0 } else { 300.0 });
    let mut daemon = start(&engine, 1);
    let (mut restores, mut torn, mut restarts) = (0, 0, 0);
    let mut random = rand::rng();
    for kill in 0..kills {
        engine.wait_more(random.random_range(20..100));
        let end = Instant::now() + Duration::from_millis(random.random_range(0..1_500));
        let mut at = 0;
        match kill % 3 {
            // At a random moment.
            0 => while Instant::now() < end && !wait_a_little() {},
            // While a checkpoint is written.
            1 => {
                let end = Instant::now() + Duration::from_secs(5);
                while Instant::now() < end && !files(&daemon).1 {
                    std::hint::spin_loop();
                }
            }
            // With an engine that is past what was kept when the daemon comes back.
            _ => {
                kept(&daemon);
                at = daemon.source("e").unwrap().position.unwrap().sequence;
            }
        }
        let directory = daemon.path("state/checkpoints/index");
        daemon = daemon.again("KILL", || {
            torn += u32::from(files_in(&directory).1);
            if kill % 3 == 2 {
                engine.restart();
                engine.burst(at + 1);
                engine.wait_past(at);
                restarts += 1;
            }
        });
        restores += u32::from(restored(&daemon));
        eprintln!(
            "{} kills, {} batches published",
            kill + 1,
            engine.published()
        );
        compare(&engine, &daemon);
        engine.resume();
    }
    eprintln!("{kills} kills: {restores} restores, {torn} while writing, {restarts} restarts");
    assert!(restores > 0 && restarts > 0);
}

/// A moment between two looks; false, so that it can stand in a condition.
fn wait_a_little() -> bool {
    std::thread::park_timeout(Duration::from_millis(5));
    false
}
