//! Plugins after plugins: source -> operator -> sink.

use crate::rig::{
    CALM, GRANTS, Hand, Traced, batch, delivered, forward_to, lines, plugin_when, query, refused,
    request, run, stored,
};
use penstock_event::By;
use penstock_peer::event::{Event, Removed};
use penstock_query::client::HttpClient;
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup, drop_plugin};
use penstock_testkit::oracle::events;
use penstock_testkit::{plugin_file, wait};
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;

const DEDUPE: &str = "grants = [\"log\", \"metrics\", \"emit\"]\n";

/// A plugin's file, its events coming from an operator.
fn after(operator: &str, rest: &str) -> String {
    format!("after = [{operator:?}]\n{rest}")
}

fn kept(every_s: u64) -> String {
    format!("{CALM}[checkpoint]\nevery_s = {every_s}\n")
}

/// `faulty` as an operator. `mark` makes one file differ from another.
fn operator(pass: &str, mark: u64, fault: &str) -> String {
    format!(
        "{GRANTS}{CALM}[restarts]\nfirst_ms = 20\nlongest_ms = 50\n[swap]\nprobation_batches = 40\n\
         [config]\npass = {pass:?}\nafter = {mark}\nfault = {fault:?}\n"
    )
}

fn removed(hashes: &[u64]) -> Event {
    Event::Removed(Removed {
        hashes: hashes.to_vec(),
        medium: Some("GPU".into()),
        ..Removed::default()
    })
}

/// engine -> dedupe -> index
fn deduped(engine: &Traced, every_s: u64) -> Daemon {
    let setup = Setup::new()
        .variable("PENSTOCK_QUERY__LOOKUP", "index")
        .plugin("dedupe", "dedupe", &format!("{DEDUPE}{}", kept(every_s)))
        .plugin("index", "prefix-index", &after("dedupe", &kept(every_s)));
    engine.source(setup, "e").start()
}

fn compare(engine: &Traced, daemon: &Daemon) {
    let mut oracle = engine.settle(daemon, "e");
    engine.compare(daemon, "index", "e", &mut oracle);
}

/// What was forwarded, once it is so many batches.
fn forwarded(daemon: &Daemon, batches: usize) -> Vec<(u64, Vec<u64>)> {
    let file = daemon.path("out.jsonl");
    let lines = wait::until("what is forwarded", PATIENCE, || {
        let lines = lines(&file);
        (lines.len() >= batches).then_some(lines)
    });
    let hashes = |payload: &[u8]| {
        let of = |event| match event {
            penstock_testkit::oracle::Event::Stored(stored) => stored.hashes,
            penstock_testkit::oracle::Event::Removed { hashes, .. } => hashes,
            _ => vec![0],
        };
        events(payload).into_iter().flat_map(of).collect()
    };
    lines
        .iter()
        .map(|l| (l.sequence, hashes(&l.payload)))
        .collect()
}

#[test]
fn an_index_behind_dedupe_answers_as_without_it_past_a_restart_of_the_engine() {
    let engine = Traced::start(600.0);
    let daemon = deduped(&engine, 0);
    engine.wait_more(900);
    compare(&engine, &daemon);
    engine.restart();
    engine.burst(300);
    compare(&engine, &daemon);
    let emitted = daemon.plugin("dedupe").unwrap().emitted;
    let index = daemon.plugin("index").unwrap();
    assert!(
        emitted > 0 && index.events <= emitted,
        "{emitted}, {index:?}"
    );
    assert_eq!(index.after, ["dedupe"]);
    assert_eq!(
        daemon.metric("penstock_plugin_emitted_events_total") as u64,
        emitted
    );
    let source = daemon.source("e").unwrap();
    assert_eq!(index.batches, source.totals["batches"], "a batch for each");
}

#[test]
fn an_operators_events_are_forwarded_in_one_batch_for_each() {
    let hand = Hand::start();
    let out = after("some", &forward_to("out.jsonl"));
    let setup = Setup::new()
        .plugin("some", "faulty", &operator("odd", 0, "none"))
        .plugin("out", "forward", &out);
    let daemon = hand.source(setup, "e").start();
    let three = |first: u64| {
        let one = |i: u64| stored(&[i as u32; 4], &[first + i]);
        hand.publish(batch(&[one(0), one(1), one(2)]))
    };
    three(10);
    three(20);
    hand.publish(batch(&[]));
    assert_eq!(
        forwarded(&daemon, 3),
        [(0, vec![11]), (1, vec![21]), (2, vec![])]
    );
    // Events of its own, all of them.
    request(&daemon, "some", "{\"pass\": \"anew\"}").unwrap();
    three(30);
    hand.publish(batch(&[removed(&[30]), Event::Cleared]));
    let all = forwarded(&daemon, 5);
    assert_eq!(all[3..], [(3, vec![30, 31, 32]), (4, vec![30, 0])]);
    let last = &lines(&daemon.path("out.jsonl"))[3];
    let made = events(&last.payload);
    let Some(penstock_testkit::oracle::Event::Stored(made)) = made.last() else {
        panic!("{made:?}");
    };
    assert_eq!(made.tokens, [2; 4]);
}

#[test]
fn an_operator_is_swapped_under_load_and_nothing_is_lost_or_doubled() {
    let engine = Traced::start(400.0);
    let setup = Setup::new()
        .plugin("all", "faulty", &operator("all", 0, "none"))
        .plugin("out", "forward", &after("all", &forward_to("out.jsonl")));
    let daemon = engine.source(setup, "e").start();
    for mark in 1..=5 {
        engine.wait_more(30 * (mark % 3));
        let toml = operator("all", mark, "none");
        drop_plugin(
            daemon.home.path(),
            "all",
            &plugin_file("faulty"),
            Some(&toml),
        );
        let what = format!("generation {}", mark + 1);
        plugin_when(&daemon, "all", &what, |p| p.generation == mark + 1);
    }
    let reader = daemon.plugin("out").unwrap();
    assert_eq!((reader.generation, reader.restarts), (1, 0), "it runs on");
    let oracle = engine.settle(&daemon, "e");
    forwarded(&daemon, engine.published() as usize);
    delivered(&lines(&daemon.path("out.jsonl")), &oracle, "e");
}

#[test]
fn a_batch_that_kills_its_operator_twice_is_a_gap_and_the_next_is_there() {
    let engine = Traced::idle();
    let setup = Setup::new()
        .variable("PENSTOCK_QUERY__LOOKUP", "index")
        .plugin("all", "faulty", &operator("all", 5, "trap"))
        .plugin("out", "forward", &after("all", &forward_to("out.jsonl")))
        .plugin("index", "prefix-index", &after("all", CALM));
    let daemon = engine.source(setup, "e").start();
    engine.burst(6);
    plugin_when(&daemon, "all", "a batch set aside", |p| p.set_aside == 1);
    wait::until("another instance", PATIENCE, || {
        request(&daemon, "all", "{\"fault\": \"none\"}").ok()
    });
    engine.burst(2);
    let sequences: Vec<u64> = forwarded(&daemon, 7).iter().map(|l| l.0).collect();
    assert_eq!(sequences, [0, 1, 2, 3, 4, 6, 7], "once each, and a gap");
    let client = HttpClient::new(&daemon.http);
    wait::until("the index to know of the gap", PATIENCE, || {
        let answer = client
            .query(Some("index"), &query(By::Tokens(Arc::new([]))))
            .ok()?;
        let at = answer.positions.get("e")?;
        (at.sequence == Some(7) && !at.complete).then_some(())
    });
}

#[test]
fn chains_that_cannot_be_are_refused_and_others_run() {
    let hand = Hand::start();
    let index = |operator: &str| after(operator, CALM);
    let setup = Setup::new()
        .variable("PENSTOCK_QUERY__LOOKUP", "index")
        .plugin("index", "prefix-index", &index("dedupe"))
        .plugin("self", "dedupe", &after("self", DEDUPE))
        .plugin("a", "dedupe", &after("b", DEDUPE))
        .plugin("b", "dedupe", &after("a", DEDUPE))
        .plugin("out", "hot-prefixes", CALM)
        .plugin("late", "hot-prefixes", &after("out", CALM));
    let daemon = hand.source(setup, "e").start();
    for (name, why) in [
        ("index", "after: no plugin is called \"dedupe\""),
        ("self", "after: it names itself"),
        ("a", "after: a cycle: a -> b -> a"),
        ("b", "after: a cycle: b -> a -> b"),
        ("late", "after: \"out\" emits nothing"),
    ] {
        assert_eq!(refused(&daemon, name, why).state, "refused", "{name}");
    }
    plugin_when(&daemon, "out", "running", |p| p.state == "running");
    let check = run(daemon.home.path(), &["check"]);
    let text = String::from_utf8_lossy(&check.stdout).into_owned()
        + &String::from_utf8_lossy(&check.stderr);
    assert!(text.contains("after: a cycle: a -> b -> a"), "{text}");
    assert!(text.contains("no plugin is called \"dedupe\""), "{text}");

    // It is there later, goes, and comes back.
    hand.store(&[1, 2, 3, 4], &[1]);
    let home = daemon.home.path();
    let drop_it = || drop_plugin(home, "dedupe", &plugin_file("dedupe"), Some(DEDUPE));
    let client = HttpClient::new(&daemon.http);
    let holds = |blocks: u32| {
        wait::until("what the index holds", PATIENCE, || {
            let asked = query(By::Tokens(Arc::new([1, 2, 3, 4, 5, 6, 7, 8])));
            let answer = client.query(Some("index"), &asked).ok()?;
            let held = answer.instances.get("e");
            let found = held.map_or(0, |held| held.blocks.values().sum());
            (found == blocks).then_some(())
        });
    };
    drop_it();
    plugin_when(&daemon, "index", "running", |p| p.state == "running");
    holds(1);
    for file in ["dedupe.wasm", "dedupe.toml"] {
        std::fs::remove_file(daemon.path("plugins.d").join(file)).unwrap();
    }
    let waits = refused(&daemon, "index", "after: \"dedupe\" does not run");
    assert_eq!((&*waits.state, waits.generation), ("waiting", 1));
    wait::until("the reason in an answer", PATIENCE, || {
        let told = (HttpClient::new(&daemon.http))
            .query(Some("index"), &query(By::Tokens(Arc::new([1; 64]))))
            .err()?
            .to_string();
        told.contains("is waiting: after: ").then_some(())
    });
    wait::until("nothing is known of the source", PATIENCE, || {
        let asked = query(By::Tokens(Arc::new([1, 2, 3, 4])));
        // No source of the model: an error.
        let answer = client.query(Some("index"), &asked).ok();
        let gone = answer.is_none_or(|a| !a.positions.contains_key("e"));
        gone.then_some(())
    });
    let mut more = stored(&[5, 6, 7, 8], &[2]);
    if let Event::Stored(more) = &mut more {
        more.parent = Some(1);
    }
    hand.publish(batch(&[more]));
    drop_it();
    plugin_when(&daemon, "index", "running again", |p| {
        p.state == "running" && p.generation == 1 && p.load_error.is_none()
    });
    holds(2);

    // Another stream: what it holds is not the new build's.
    drop_plugin(home, "index", &plugin_file("prefix-index"), Some(CALM));
    plugin_when(&daemon, "index", "another stream", |p| {
        p.generation == 2 && p.after.is_empty()
    });
    assert!(daemon.process.line("reads other streams now").is_some());
    holds(2);
}

/// `KILLS=50` for the long form.
#[test]
fn killed_at_any_moment_the_chain_is_right_again() {
    let kills = std::env::var("KILLS").ok().and_then(|n| n.parse().ok());
    let kills: u32 = kills.unwrap_or(5);
    let engine = Traced::start(if kills > 10 { 80.0 } else { 300.0 });
    let mut daemon = deduped(&engine, 1);
    let mut random = rand::rng();
    let mut restored = 0;
    for kill in 0..kills {
        engine.wait_more(random.random_range(60..200));
        std::thread::park_timeout(Duration::from_millis(random.random_range(900..2_500)));
        daemon = daemon.again("KILL", || engine.wait_more(10));
        let told = daemon
            .process
            .output()
            .matches("restored from a checkpoint")
            .count();
        restored += u32::from(told == 2);
        assert!(
            !daemon
                .process
                .output()
                .contains("fed anew: a plugin after it")
        );
        eprintln!(
            "{} kills, {} batches published",
            kill + 1,
            engine.published()
        );
        compare(&engine, &daemon);
        engine.resume();
    }
    assert!(restored > 0, "both went on from where they were");
}

#[test]
fn who_has_two_operators_is_dealt_its_sources_anew() {
    let (first, second) = (Hand::start(), Hand::start());
    let narrow = |source: &str| format!("sources = [{source:?}]\n{DEDUPE}");
    let index = format!("after = [\"x\", \"y\"]\n{CALM}");
    let setup = Setup::new()
        .plugin("x", "dedupe", &narrow("a"))
        .plugin("y", "dedupe", DEDUPE)
        .plugin("index", "prefix-index", &index);
    let setup = first.source(setup, "a");
    let daemon = second.source(setup, "b").start();
    first.store(&[1, 2, 3, 4], &[1]);
    second.store(&[1, 2, 3, 4], &[1]);
    let client = HttpClient::new(&daemon.http);
    let holds = || {
        wait::until("one block of each", PATIENCE, || {
            let asked = query(By::Tokens(Arc::new([1, 2, 3, 4, 5, 6, 7, 8])));
            let answer = client.query(Some("index"), &asked).ok()?;
            let held = answer.instances.values().map(|of| of.blocks.values().sum());
            let held: Vec<u32> = held.collect();
            (held == [1, 1]).then_some(())
        });
    };
    holds();
    let home = daemon.home.path();
    drop_plugin(home, "x", &plugin_file("dedupe"), Some(&narrow("b")));
    plugin_when(&daemon, "index", "begun again", |p| p.generation == 2);
    holds();
    // Once: it does not go round.
    drop_plugin(
        home,
        "y",
        &plugin_file("dedupe"),
        Some(&format!("{DEDUPE}\n")),
    );
    plugin_when(&daemon, "y", "another build", |p| p.generation == 2);
    assert_eq!(daemon.plugin("index").unwrap().generation, 2);
    holds();
}

#[test]
fn a_way_back_into_a_cycle_is_refused() {
    let hand = Hand::start();
    let quick = |rest: &str| format!("{rest}{DEDUPE}[swap]\nprobation_batches = 0\n");
    let setup = Setup::new().plugin("y", "dedupe", &quick("")).plugin(
        "x",
        "dedupe",
        &quick("after = [\"y\"]\n"),
    );
    let daemon = hand.source(setup, "e").start();
    let home = daemon.home.path();
    for (name, toml) in [("x", quick("")), ("y", quick("after = [\"x\"]\n"))] {
        drop_plugin(home, name, &plugin_file("dedupe"), Some(&toml));
        plugin_when(&daemon, name, "another build", |p| p.generation == 2);
    }
    let told = daemon.control().roll_back("x").unwrap_err().to_string();
    assert!(told.contains("after: a cycle: "), "{told}");
    drop_plugin(
        home,
        "z",
        &plugin_file("dedupe"),
        Some(&quick("after = [\"y\"]\n")),
    );
    plugin_when(&daemon, "z", "running", |p| p.state == "running");
}
