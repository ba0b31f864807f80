//! Plugins that misbehave in every way there is, beside two that do not.

mod start;
mod state;

use crate::rig::{
    CALM, GRANTS, Traced, delivered, forward_to, healthy, lines, plugin_when, query, refused,
    request, series,
};
use penstock_event::By;
use penstock_query::client::{HttpClient, ZmqClient};
use penstock_testkit::daemon::{Daemon, PATIENCE, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a fault shows from outside.
enum Sign {
    /// The instance ends, for this reason, and another one is made.
    Ends(&'static str),
    /// It lives, and this counter moves.
    Counts(&'static str),
    /// It lives, and nothing is to be seen.
    Nothing,
}
use Sign::{Counts, Ends, Nothing};

const FAULTS: &[(&str, &str, Sign)] = &[
    ("trap", "on-batch", Ends("trap")),
    ("panic", "on-source", Ends("trap")),
    ("exit", "on-batch", Ends("exit")),
    ("recurse", "on-batch", Ends("trap")),
    ("loop", "on-batch", Ends("deadline")),
    ("loop", "tick", Ends("deadline")),
    ("trap", "tick", Ends("trap")),
    ("sleep", "on-batch", Ends("deadline")),
    ("poll", "tick", Ends("deadline")),
    ("c-poll", "on-batch", Nothing),
    ("c-poll", "on-source", Nothing),
    ("c-poll", "tick", Nothing),
    ("stdin", "on-batch", Nothing),
    ("grow", "on-batch", Ends("memory")),
    ("leak", "on-batch", Ends("memory")),
    (
        "error",
        "on-batch",
        Counts("penstock_plugin_refused_events_total"),
    ),
    (
        "lie-refusals",
        "on-batch",
        Counts("penstock_plugin_lies_total"),
    ),
    ("lie-refusals-huge", "on-batch", Ends("output")),
    ("lie-interval", "interval", Nothing),
    (
        "flood-log",
        "on-batch",
        Counts("penstock_plugin_log_dropped_total"),
    ),
    ("flood-stderr", "on-batch", Nothing),
    (
        "flood-metrics",
        "on-batch",
        Counts("penstock_plugin_metrics_dropped_total"),
    ),
    (
        "flood-publish",
        "on-batch",
        Counts("penstock_sink_dropped_total"),
    ),
];

/// Linear memory that a hostile plugin may have.
const MEMORY: u64 = 24 << 20;

fn name(fault: &str, place: &str) -> String {
    format!("x-{fault}-{place}")
}

fn hostile(fault: &str, place: &str) -> String {
    let memory = match fault {
        // Its lie takes room.
        "lie-refusals-huge" => 8 * MEMORY,
        _ => MEMORY,
    };
    format!(
        "{GRANTS}[limits]
memory_bytes = {memory}
deadline_ms = 400
[config]
fault = \"{fault}\"
in = \"{place}\"
after = {}
[sink.out]
kind = \"zmq-push\"
endpoint = \"tcp://127.0.0.1:9\"
queue_bytes = 1048576
max_message_bytes = 1048576
",
        if place == "on-batch" { 2 } else { 0 }
    )
}

#[test]
fn the_others_never_notice() {
    let engine = Traced::start(40.0);
    let mut setup = Setup::new()
        .variable("PENSTOCK_QUERY__LOOKUP", "index")
        .plugin("index", "prefix-index", CALM)
        .plugin("forward", "forward", &forward_to("out.jsonl"));
    for (fault, place, _) in FAULTS {
        setup = setup.plugin(&name(fault, place), "faulty", &hostile(fault, place));
    }
    let begun = Instant::now();
    let daemon = engine.source(setup, "e").start();
    for (fault, place, sign) in FAULTS {
        shows(&daemon, &name(fault, place), sign);
    }
    engine.wait_more(40);
    let mut oracle = engine.settle(&daemon, "e");
    engine.compare(&daemon, "index", "e", &mut oracle);
    let file = daemon.path("out.jsonl");
    wait::until("the rest to be forwarded", PATIENCE, || {
        (lines(&file).len() as u64 >= engine.published()).then_some(())
    });
    delivered(&lines(&file), &oracle, "e");

    assert!(healthy(&daemon) && daemon.ready());
    let lived = begun.elapsed();
    for plugin in daemon.control().plugins().unwrap() {
        // The first wait is a second, less jitter; each further one is longer.
        let most = lived.as_secs_f64() / 0.75 + 1.0;
        assert!((plugin.restarts as f64) < most, "{plugin:?}");
        if plugin.name.starts_with("x-") {
            assert!(plugin.memory_bytes <= plugin.memory_limit, "{plugin:?}");
        } else {
            assert_eq!((plugin.restarts, plugin.last_error), (0, None));
        }
    }
    let peak = daemon.process.peak_memory() >> 20;
    eprintln!("{} faults, {peak} MiB at the peak", FAULTS.len());
    assert!(peak < 1_536, "{peak} MiB");
    assert_eq!(daemon.process.line("host panicked"), None);
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Waits until a fault shows, in status and in metrics.
fn shows(daemon: &Daemon, name: &str, sign: &Sign) {
    let label = format!("plugin=\"{name}\"");
    match sign {
        Ends(reason) => {
            let plugin = plugin_when(daemon, name, "another instance", |p| p.restarts > 0);
            let error = plugin.last_error.unwrap_or_default();
            assert!(error.contains(&format!(": {reason}: ")), "{name}: {error}");
            let reason = format!("reason=\"{reason}\"");
            let failures = series(daemon, "penstock_plugin_failures_total", &[&label, &reason]);
            assert!(failures >= 1.0, "{name}: {failures}");
        }
        Counts(counter) => {
            wait::until(&format!("{name}: {counter}"), PATIENCE, || {
                let label = match *counter {
                    "penstock_sink_dropped_total" => name,
                    _ => &label,
                };
                (series(daemon, counter, &[label]) > 0.0).then_some(())
            });
        }
        Nothing => {
            let plugin = plugin_when(daemon, name, "batches", |p| p.batches > 5);
            assert_eq!((plugin.restarts, plugin.last_error), (0, None), "{name}");
        }
    }
}

#[test]
fn lies_to_those_who_ask_stay_with_those_who_ask() {
    const LIES: &[(&str, &str)] = &[
        ("lie-rows-unknown", "find"),
        ("lie-rows-length", "find"),
        ("lie-rows-absurd", "find"),
        ("lie-rows-huge", "find"),
        ("error-huge", "find"),
        ("trap", "find"),
        ("trap", "handle"),
        ("loop", "find"),
        ("lie-reply-huge", "handle"),
        ("error-huge", "handle"),
        ("loop", "handle"),
    ];
    let engine = Traced::start(40.0);
    let mut setup = Setup::new()
        .variable("PENSTOCK_QUERY__LOOKUP", "index")
        .plugin("index", "prefix-index", CALM);
    for (fault, place) in LIES {
        setup = setup.plugin(&name(fault, place), "faulty", &hostile(fault, place));
    }
    let daemon = engine.source(setup, "e").start();
    engine.wait_more(20);
    let client = HttpClient::new(&daemon.http);
    for (fault, place) in LIES {
        let plugin = name(fault, place);
        plugin_when(&daemon, &plugin, "batches", |p| p.batches > 0);
        let told = match *place {
            "find" => {
                let question = query(By::Tokens(Arc::new([1, 2, 3])));
                let answer = client.query(Some(&plugin), &question);
                answer.map(|_| ()).unwrap_err().to_string()
            }
            _ => request(&daemon, &plugin, "anything").unwrap_err(),
        };
        assert!(
            told.len() < 8_192,
            "{plugin}: {} bytes of an error",
            told.len()
        );
        assert!(!told.is_empty(), "{plugin}");
    }
    let mut oracle = engine.settle(&daemon, "e");
    engine.compare(&daemon, "index", "e", &mut oracle);
    assert!(healthy(&daemon));
}

#[test]
fn a_candidate_that_fails_on_what_the_running_one_handles_is_refused() {
    let engine = Traced::start(40.0);
    let fine = format!("{GRANTS}{CALM}");
    let setup = Setup::new().plugin("x", "faulty", &fine);
    let daemon = engine.source(setup, "e").start();
    engine.wait_more(40);
    let home = daemon.home.path();
    for fault in ["trap", "loop"] {
        let toml = format!(
            "{GRANTS}[limits]\ndeadline_ms = 200\n[config]\nfault = \"{fault}\"\nafter = 3\n"
        );
        drop_plugin(home, "x", &plugin_file("faulty"), Some(&toml));
        let why = refused(&daemon, "x", "failed on recent batches: ");
        assert_eq!(
            (why.generation, &*why.state, why.restarts),
            (1, "running", 0)
        );
        drop_plugin(home, "x", &plugin_file("faulty"), Some(&fine));
        plugin_when(&daemon, "x", "the repair", |p| p.load_error.is_none());
    }
    let last = engine.pause();
    let client = HttpClient::new(&daemon.http);
    let question = query(By::Tokens(Arc::new([])));
    wait::until("every batch, once", Duration::from_secs(20), || {
        let answer = client.query(None, &question).ok()?;
        let blocks = answer.instances.get("e")?.blocks.values().sum::<u32>();
        (u64::from(blocks) == last + 1).then_some(())
    });
}

/// Lookups a window.
const ASKED: usize = 150;

/// The 99th percentile of lookups, one after the other.
fn p99(client: &mut ZmqClient) -> Duration {
    let question = query(By::Tokens(Arc::new([1; 64])));
    let mut took: Vec<_> = (0..ASKED)
        .map(|_| {
            let begun = Instant::now();
            client.query(Some("index"), &question).unwrap();
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[ASKED * 99 / 100 - 1]
}

#[test]
fn the_others_keep_their_pace() {
    let engine = Traced::start(40.0);
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine
        .source(setup.variable("PENSTOCK_QUERY__LOOKUP", "index"), "e")
        .start();
    engine.wait_more(40);
    let mut client = ZmqClient::connect(&daemon.zmq).unwrap();
    // The machine does other things as well: a moment of calm counts.
    let baseline = (0..3).map(|_| p99(&mut client)).max().unwrap();
    let most = (2 * baseline).max(Duration::from_millis(2));
    let home = daemon.home.path();
    for (fault, place) in [
        ("loop", "on-batch"),
        ("sleep", "on-batch"),
        ("grow", "on-batch"),
        ("leak", "on-batch"),
        ("flood-log", "on-batch"),
        ("flood-stderr", "on-batch"),
        ("flood-metrics", "on-batch"),
        ("flood-publish", "on-batch"),
        ("loop", "tick"),
    ] {
        let toml = hostile(fault, place);
        drop_plugin(home, "x", &plugin_file("faulty"), Some(&toml));
        plugin_when(&daemon, "x", "at work", |p| {
            p.batches + p.restarts > 1 || p.last_error.is_some()
        });
        let window = || Some(p99(&mut client)).filter(|p99| *p99 <= most);
        let p99 = wait::within(PATIENCE, window);
        assert!(
            p99.is_some(),
            "{fault}: lookups above {most:?}, before {baseline:?}"
        );
        for file in ["plugins.d/x.wasm", "plugins.d/x.toml"] {
            std::fs::remove_file(daemon.path(file)).unwrap();
        }
        wait::until("its end", PATIENCE, || {
            daemon.plugin("x").is_none().then_some(())
        });
    }
    let mut oracle = engine.settle(&daemon, "e");
    engine.compare(&daemon, "index", "e", &mut oracle);
}
