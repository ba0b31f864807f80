use super::in_effect;
use crate::rig::{CALM, GRANTS, Traced, ctl, refused};
use penstock_query::Status;
use penstock_testkit::daemon::{Daemon, Setup, drop_plugin};
use penstock_testkit::{plugin_file, wait};
use std::time::Instant;

/// Files that do not load: their name, bytes and TOML, and why not.
fn broken() -> Vec<(&'static str, Vec<u8>, String, &'static str)> {
    let read = |name| std::fs::read(plugin_file(name)).unwrap();
    let index = read("prefix-index");
    let half = index[..index.len() / 2].to_vec();
    let pin = format!("sha256 = \"{}\"\n{CALM}", "0".repeat(64));
    let trap = format!("{GRANTS}[config]\nfault = \"trap\"\nin = \"init\"\n");
    let empty = b"\0asm\x0d\0\x01\0".to_vec();
    let module = b"\0asm\x01\0\0\0".to_vec();
    vec![
        (
            "garbage",
            b"#!/bin/sh\n".repeat(100),
            CALM.into(),
            "not WebAssembly",
        ),
        ("empty", Vec::new(), CALM.into(), "empty"),
        ("half written", half, CALM.into(), "half written"),
        ("a module", module, CALM.into(), "component"),
        ("another world", empty, CALM.into(), "guest"),
        ("a trap in init", read("faulty"), trap, "init"),
        (
            "no grant",
            index.clone(),
            format!("grants = []\n{CALM}"),
            "metrics",
        ),
        ("another pin", index.clone(), pin, "SHA-256"),
        (
            "a wrong key",
            index.clone(),
            format!("enabeld = true\n{CALM}"),
            "enabled",
        ),
        (
            "a wrong config",
            index,
            format!("{CALM}[config]\nmax = 1\n"),
            "max_bytes",
        ),
    ]
}

#[test]
fn what_fails_to_load_leaves_what_runs_and_says_why() {
    let engine = Traced::start(50.0);
    let daemon = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine.source(daemon, "e").start();
    engine.wait_more(50);
    let plugins = daemon.path("plugins.d");
    let runs = daemon.plugin("index").unwrap();
    for (what, wasm, toml, why) in broken() {
        // In place, as careless operators copy.
        std::fs::write(plugins.join("index.wasm"), wasm).unwrap();
        std::fs::write(plugins.join("index.toml"), toml).unwrap();
        let told = refused(&daemon, "index", why);
        let same = (told.generation, &told.digest, told.restarts);
        assert_eq!(same, (runs.generation, &runs.digest, 0), "{what}");
        assert_eq!(told.state, "running", "{what}");
        shown(&daemon, &told.load_error.unwrap());

        repair(&daemon);
    }
    let mut oracle = engine.settle(&daemon, "e");
    engine.compare(&daemon, "index", "e", &mut oracle);
}

/// `penstock ctl status` says why, to people and to programs.
fn shown(daemon: &Daemon, why: &str) {
    let text = ctl(daemon, &["status"]);
    assert!(
        text.contains(&format!("index: not loaded: {why}")),
        "{text}"
    );
    let status: Status = serde_json::from_str(&ctl(daemon, &["status", "--json"])).unwrap();
    assert_eq!(status.plugins[0].load_error.as_deref(), Some(why));
}

/// The file that ran is put back: that is no swap, and no error any more.
fn repair(daemon: &Daemon) {
    let home = daemon.home.path();
    drop_plugin(home, "index", &plugin_file("prefix-index"), Some(CALM));
    wait::until("the repair", super::IN_EFFECT, || {
        let status = daemon.plugin("index")?;
        status.load_error.is_none().then_some(())
    });
}

#[test]
fn a_slow_copy_loads_once_it_is_whole() {
    let daemon = Setup::new().start();
    let wasm = std::fs::read(plugin_file("prefix-index")).unwrap();
    let file = daemon.path("plugins.d/index.wasm");
    let (first, rest) = wasm.split_at(wasm.len() / 3);
    std::fs::write(&file, first).unwrap();
    let status = refused(&daemon, "index", "");
    assert_eq!(status.state, "refused", "nobody runs yet");
    shown(&daemon, &status.load_error.unwrap());
    let since = Instant::now();
    let mut open = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    std::io::Write::write_all(&mut open, rest).unwrap();
    drop(open);
    let status = in_effect(&daemon, "index", 1, since);
    assert_eq!(status.load_error, None);
}
