use super::in_effect;
use crate::rig::{CALM, Traced, delivered, forward_as, forward_to, lines};
use penstock_testkit::daemon::{PATIENCE, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};
use std::time::Instant;

#[test]
fn under_load_nothing_is_lost_doubled_or_wrong() {
    let engine = Traced::start(150.0);
    let daemon = Setup::new().plugin("index", "prefix-index", CALM).plugin(
        "forward",
        "forward",
        &forward_as("out.jsonl", "before"),
    );
    let daemon = engine.source(daemon, "e").start();
    let home = daemon.home.path();
    engine.wait_more(150);

    let digest = daemon.plugin("index").unwrap().digest;
    let since = Instant::now();
    drop_plugin(home, "index", &plugin_file("prefix-index.second"), None);
    let swapped = in_effect(&daemon, "index", 2, since);
    assert_ne!(swapped.digest, digest, "another build");
    engine.wait_more(100);

    let since = Instant::now();
    let toml = forward_as("out.jsonl", "after");
    drop_plugin(home, "forward", &plugin_file("forward"), Some(&toml));
    in_effect(&daemon, "forward", 2, since);
    engine.wait_more(100);

    let mut oracle = engine.settle(&daemon, "e");
    let file = daemon.path("out.jsonl");
    let published = engine.published() as usize;
    wait::until("all to be forwarded", PATIENCE, || {
        (lines(&file).len() >= published).then_some(())
    });
    let out = lines(&file);
    assert_eq!(delivered(&out, &oracle, "e"), published);
    let turn = out.iter().position(|l| l.topic == "after").unwrap();
    let (before, after) = out.split_at(turn);
    assert!(!before.is_empty() && before.iter().all(|l| l.topic == "before"));
    assert!(
        after.iter().all(|l| l.topic == "after"),
        "one turn, no more"
    );
    engine.compare(&daemon, "index", "e", &mut oracle);
    assert_eq!(daemon.plugin("index").unwrap().restarts, 0);
}

#[test]
fn dropped_in_late_it_has_all_and_removed_it_is_gone() {
    let engine = Traced::start(100.0);
    let daemon = engine.source(Setup::new(), "e").start();
    let home = daemon.home.path();
    assert_eq!(daemon.plugin("index"), None);
    engine.wait_more(100);

    let since = Instant::now();
    drop_plugin(home, "index", &plugin_file("prefix-index"), Some(CALM));
    in_effect(&daemon, "index", 1, since);
    let since = Instant::now();
    let toml = forward_to("late.jsonl");
    drop_plugin(home, "late", &plugin_file("forward"), Some(&toml));
    in_effect(&daemon, "late", 1, since);
    let mut oracle = engine.settle(&daemon, "e");
    engine.compare(&daemon, "index", "e", &mut oracle);
    let published = engine.published() as usize;
    let file = daemon.path("late.jsonl");
    wait::until("what came before it did", PATIENCE, || {
        (lines(&file).len() >= published).then_some(())
    });
    assert_eq!(delivered(&lines(&file), &oracle, "e"), published);

    engine.resume();
    engine.wait_more(20);
    let since = Instant::now();
    std::fs::remove_file(home.join("plugins.d/late.wasm")).unwrap();
    std::fs::remove_file(home.join("plugins.d/late.toml")).unwrap();
    wait::until("its end", super::IN_EFFECT, || {
        daemon.plugin("late").is_none().then_some(())
    });
    eprintln!("removed after {:?}", since.elapsed());
    let left = lines(&file);
    engine.wait_more(20);
    let mut oracle = engine.settle(&daemon, "e");
    assert_eq!(lines(&file), left, "it goes on though it is gone");
    engine.compare(&daemon, "index", "e", &mut oracle);
}
