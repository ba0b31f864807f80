//! A shard that fails is all that is missing.

use super::names;
use crate::rig::{CALM, Hand, batch, ctl, plugin_when, query, series, stored};
use penstock_event::By;
use penstock_query::AnswerBody;
use penstock_query::client::HttpClient;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup};
use penstock_testkit::wait;

/// Room for little more than the instance itself.
const TIGHT: &str = "memory_bytes = 6291456\n";

/// Sources are numbered in their order, from 1, and these are of one shard.
const WITH_IT: [&str; 2] = ["e1", "e3"];

fn start(on_failure: &str) -> (Vec<Hand>, Daemon) {
    let engines: Vec<Hand> = (0..4).map(|_| Hand::start()).collect();
    let often = "[checkpoint]\nevery_s = 1\n";
    let toml = format!("shards = 2\non_failure = \"{on_failure}\"\n{CALM}{TIGHT}{often}");
    let setup = Setup::new().plugin("index", "prefix-index", &toml);
    let named = engines.iter().zip(names(4));
    let daemon = named
        .fold(setup, |setup, (hand, name)| hand.source(setup, &name))
        .start();
    for engine in &engines {
        engine.wait_subscribers(1);
        engine.store(&[1, 2, 3, 4], &[1]);
    }
    answered(&daemon, "all four", |a| a.scores.len() == 4);
    (engines, daemon)
}

/// A batch that needs more memory than there is.
fn huge() -> Vec<u8> {
    let hashes: Vec<u64> = (100..240_100).collect();
    let tokens: Vec<u32> = (0..960_000).collect();
    batch(&[stored(&tokens, &hashes)])
}

/// Waits for an answer.
fn answered(daemon: &Daemon, what: &str, wanted: impl Fn(&AnswerBody) -> bool) -> AnswerBody {
    let question = query(By::Tokens([1, 2, 3, 4, 5, 6, 7, 8].into()));
    let client = HttpClient::new(&daemon.http);
    wait::until(what, PATIENCE, || {
        let answer = client.query(None, &question).ok()?;
        wanted(&answer).then_some(answer)
    })
}

fn holds(answer: &AnswerBody) -> Vec<&str> {
    answer.scores.keys().map(|name| &**name).collect()
}

/// It fails, its sources are unavailable, and the other one goes on.
fn fails(engines: &[Hand], daemon: &Daemon, state: &str) {
    engines[1].publish(huge());
    let status = plugin_when(daemon, "index", state, |p| p.state == state);
    assert!(status.last_error.unwrap().starts_with("on-batch: "));
    engines[0].store(&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2]);
    engines[3].store(&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2]);
    let answer = answered(daemon, "what the other one was told", |a| {
        a.scores["e0"].values().sum::<u32>() == 8
    });
    assert_eq!(holds(&answer), ["e0", "e2"]);
    assert_eq!(answer.unavailable, WITH_IT.map(Into::into));
    assert_eq!(answer.positions.len(), 2, "{answer:?}");
    let metric = |name: &str| series(daemon, name, &["plugin=\"index\""]);
    assert_eq!(metric("penstock_plugin_running"), 0.0);
    assert_eq!(metric("penstock_plugin_failures_total"), 1.0);
}

#[test]
fn a_shard_that_is_held_goes_on_where_it_stood() {
    let (engines, daemon) = start("hold");
    fails(&engines, &daemon, "held");
    // It dies of the same batch again, which is set aside then.
    for aside in 0..2 {
        let told = ctl(&daemon, &["restart", "index"]);
        assert_eq!(told, "index: generation 1 starts again\n");
        if aside == 0 {
            plugin_when(&daemon, "index", "its second death", |p| {
                p.state == "held" && p.restarts == 1 && p.set_aside == 1
            });
        }
    }
    let answer = answered(&daemon, "all of it", |a| {
        a.unavailable.is_empty() && a.scores.len() == 4 && a.positions["e3"].sequence == Some(1)
    });
    assert_eq!(holds(&answer), ["e0", "e1", "e2", "e3"]);
    assert!(!answer.positions["e1"].complete, "its batch is missing");
    assert!(answer.positions["e3"].complete);
    let status = plugin_when(&daemon, "index", "running", |p| p.state == "running");
    assert_eq!(status.restarts, 2, "the other one ran all the time");
    let told = daemon.control().restart("index").unwrap_err().to_string();
    assert!(told.contains(" runs: "), "{told}");
}

#[test]
fn a_shard_that_is_disabled_is_made_again_by_hand() {
    let (engines, daemon) = start("disable");
    fails(&engines, &daemon, "failed");
    let done = daemon.control().restart("index").unwrap();
    assert_eq!(done.generation, 2);
    // The batch is still there, and so is the end of it.
    plugin_when(&daemon, "index", "failed again", |p| {
        p.state == "failed" && p.generation == 2
    });
    wait::until("two failures", PATIENCE, || {
        let failures = daemon.metric("penstock_plugin_failures_total");
        (failures == 2.0).then_some(())
    });
    let answer = answered(&daemon, "the others", |a| !a.scores.is_empty());
    assert_eq!(holds(&answer), ["e0", "e2"]);
}

/// The newest checkpoint's number.
fn kept(daemon: &Daemon) -> u64 {
    let files = std::fs::read_dir(daemon.path("state/checkpoints/index"));
    let names = files.into_iter().flatten().flatten().map(|f| f.path());
    let number = |path: std::path::PathBuf| path.file_stem()?.to_str()?.parse().ok();
    names.filter_map(number).max().unwrap_or(0)
}

#[test]
fn checkpoints_go_on_without_a_shard_that_is_down() {
    let (engines, daemon) = start("hold");
    // With what all four hold, and then with what two of them hold more.
    let next = |daemon: &Daemon| {
        let now = kept(daemon);
        wait::until("two checkpoints", PATIENCE, || {
            (kept(daemon) >= now + 2).then_some(())
        });
    };
    next(&daemon);
    fails(&engines, &daemon, "held");
    next(&daemon);
    // At most the one that was being written as the shard went down.
    assert!(daemon.metric("penstock_checkpoints_failed_total") <= 1.0);
    let daemon = daemon.again("KILL", || ());
    let told = daemon.process.line("restored from a checkpoint").unwrap();
    assert!(told.contains("sources=4"), "{told}");
    let answer = answered(&daemon, "what was known last", |a| {
        a.scores
            .get("e0")
            .is_some_and(|of| of.values().sum::<u32>() == 8)
    });
    assert!(answer.positions["e0"].complete);
    let replayed = |name: &str| daemon.source(name).unwrap().totals["replayed"];
    wait::until("the rest of the others", PATIENCE, || {
        // What the daemon delivered is ahead of what the shard had.
        let held = daemon.plugin("index")?;
        (held.state == "held").then_some(())
    });
    assert_eq!(replayed("e0"), 0);
}
