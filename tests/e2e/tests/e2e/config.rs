//! The config as operators meet it: overrides, mistakes, and starts that fail.

use crate::rig::{CALM, run};
use penstock_testkit::daemon::{PATIENCE, Setup};
use penstock_testkit::process::Process;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Command;

/// Every key with its value: tables joined by dots.
fn keys(value: &Value, path: &str, out: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(table) => {
            for (name, value) in table {
                let at = match path {
                    "" => name.clone(),
                    _ => format!("{path}.{name}"),
                };
                keys(value, &at, out);
            }
        }
        _ => out.push((path.into(), value.clone())),
    }
}

/// Another valid value, as a variable says it and as the config then has it.
fn other(key: &str, value: &Value) -> (String, Value) {
    let text = match key {
        "log" => "debug",
        "log_format" => "json",
        "plugins_dir" | "cache_dir" | "state_dir" => "elsewhere",
        "query.http" => "127.0.0.1:9",
        "query.zmq" => "tcp://127.0.0.1:9",
        "query.control" => "other.sock",
        "query.lookup" => "index",
        "sources" => {
            let text = r#"[{name="a",endpoint="tcp://h:1",ranks=2}]"#;
            return (text.into(), json!("a"));
        }
        _ => {
            let number = value.as_u64();
            let more = number.unwrap_or_else(|| panic!("{key} is new: give it another value")) + 1;
            return (more.to_string(), more.into());
        }
    };
    (text.into(), text.into())
}

#[test]
fn every_key_has_a_variable() {
    let setup = Setup::new();
    let file = setup.home.path().join("penstock.toml");
    std::fs::write(&file, "").unwrap();
    let check = |variable: Option<(&str, &str)>| -> Value {
        let mut command = Command::new(penstock_testkit::binary());
        let file = file.to_str().unwrap();
        command.args(["check", "--json", "--config", file]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PENSTOCK_") {
                command.env_remove(name);
            }
        }
        command.envs(variable);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{variable:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let mut all = Vec::new();
    keys(&check(None), "", &mut all);
    assert!(all.len() > 25, "{all:?}");
    for (key, value) in all {
        let variable = format!("PENSTOCK_{}", key.to_uppercase().replace('.', "__"));
        let (text, wanted) = other(&key, &value);
        assert_ne!(value, wanted, "{key}");
        let changed = check(Some((&variable, &text)));
        let pointer = match key.as_str() {
            "sources" => "/sources/0/name".to_string(),
            _ => format!("/{}", key.replace('.', "/")),
        };
        let found = changed.pointer(&pointer);
        assert_eq!(found, Some(&wanted), "{variable}={text}");
    }
}

#[test]
fn mistakes_end_the_start_before_any_socket_opens() {
    let source = "[[sources]]\nname = \"a\"\nendpoint = \"tcp://h:1\"\n";
    // The doors' own table stands in front: three lines and its head.
    let file = |line: usize| format!("penstock.toml:{line}: ");
    let cases: &[(&str, &str, String, &[&str])] = &[
        ("", "lgo = \"info\"", file(1), &["lgo", "`log`"]),
        (
            "",
            "[ingest]\nthraeds = 1",
            file(6),
            &["thraeds", "`threads`"],
        ),
        (
            "",
            "[ingest]\nthreads = 0",
            file(6),
            &["ingest.threads", "from 1 to 64"],
        ),
        (
            "",
            "[route]\nring_bytes = \"8M\"",
            file(6),
            &["ring_bytes", "expected"],
        ),
        ("", "[rout]\nring_bytes = 1", file(5), &["rout", "`route`"]),
        ("", "log_format = \"jsno\"", file(1), &["jsno", "`json`"]),
        ("", "log = \"penstock=loud\"", file(1), &["log"]),
        (
            "",
            "[[sources]]\nname = \"a\"",
            file(5),
            &["sources.0", "endpoint"],
        ),
        (
            "",
            "[[sources]]\nname = \"a\"\nendpoint = \"h:1\"",
            file(7),
            &["sources.0.endpoint"],
        ),
        (
            "",
            "[[sources]]\nname = \"a\"\nmode = \"bnid\"",
            file(7),
            &["bnid", "`bind`"],
        ),
        (
            "",
            &[source, source].concat(),
            file(9),
            &["sources.1.name", "two sources"],
        ),
        ("", "a = = 1", file(1), &[]),
        ("", "log = \"inof\"", file(1), &["log", "`info`"]),
        (
            "",
            &[source, "replay = \"tcp://h:1\""].concat(),
            file(8),
            &["sources.0.replay", "the endpoint too"],
        ),
        (
            "",
            "[[sources]]\nname = \"a\"\nmode = \"bind\"\nendpoint = \"tcp://*:7\"\n\
             [[sources]]\nname = \"b\"\nmode = \"bind\"\nendpoint = \"tcp://127.0.0.1:7\"",
            file(12),
            &["sources.1.endpoint", "sources.0.endpoint"],
        ),
        (
            "",
            "[ingest]\nstale_after_ms = 400000",
            file(6),
            &["ingest.stale_after_ms", "leave_after_ms"],
        ),
        ("", "plugins_dir = \"/dev/null\"", file(1), &["plugins_dir"]),
        (
            "PENSTOCK_QUERY_HTTP=x",
            "",
            "PENSTOCK_QUERY_HTTP".into(),
            &["`PENSTOCK_QUERY__HTTP`"],
        ),
        (
            "PENSTOCK_SOURCES=[{name",
            "",
            "PENSTOCK_SOURCES".into(),
            &["cannot be read as TOML", "inline table"],
        ),
        (
            "PENSTOCK_QUERY__HTP=x",
            "",
            "PENSTOCK_QUERY__HTP".into(),
            &["`PENSTOCK_QUERY__HTTP`"],
        ),
        (
            "PENSTOCK_SCAN_MS=5",
            "",
            "PENSTOCK_SCAN_MS".into(),
            &["scan_ms", "from 100"],
        ),
    ];
    for (variable, toml, place, words) in cases {
        let mut setup = Setup::new().config(toml);
        if let Some((name, value)) = variable.split_once('=') {
            setup = setup.variable(name, value);
        }
        let output = setup.command().output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{toml}{variable}: {told}");
        let line = told.lines().last().unwrap_or_default();
        for word in [place.as_str()].iter().chain(*words) {
            assert!(
                line.contains(word),
                "{toml}{variable}: no {word:?} in: {line}"
            );
        }
        let socket = setup.home.path().join("penstock.sock");
        assert!(!socket.exists(), "{toml}{variable}: a socket was opened");
        assert!(!told.contains("doors open"), "{told}");
    }
}

#[test]
fn two_doors_on_one_port_are_a_mistake() {
    let setup = Setup::new()
        .variable("PENSTOCK_QUERY__HTTP", "127.0.0.1:7999")
        .variable("PENSTOCK_QUERY__ZMQ", "tcp://0.0.0.0:7999");
    let output = setup.command().output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(
        told.contains("query.zmq") && told.contains("query.http"),
        "{told}"
    );
}

#[test]
fn check_warns_of_what_is_hardly_meant() {
    let home = tempfile::tempdir().unwrap();
    let source = |name: &str, more: &str| format!("[[sources]]\nname = \"{name}\"\n{more}\n");
    let toml = [
        "[query]\nlookup = \"indx\"\n",
        &source("a", "ranks = 4\nendpoint = \"tcp://h:5557\""),
        &source("b", "endpoint = \"tcp://h:5559\""),
        &source("c", "endpoint = \"tcp://h:6000\""),
    ];
    std::fs::write(home.path().join("penstock.toml"), toml.concat()).unwrap();
    let output = run(home.path(), &["check"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(told.matches("warning: penstock.toml").count(), 3, "{told}");
    for words in [
        &[
            "penstock.toml:9",
            "sources.1.endpoint",
            "\"a/dp2\"",
            "twice",
        ][..],
        &["penstock.toml:2", "query.lookup", "\"indx\""],
        &["plugins_dir", "plugins.d"],
    ] {
        let all = |line: &&str| words.iter().all(|word| line.contains(word));
        assert!(told.lines().any(|line| all(&line)), "{words:?} in {told}");
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("3 warnings") && !said.contains("fine"),
        "{said}"
    );
}

#[test]
fn a_start_warns_as_check_does() {
    let setup = Setup::new();
    std::fs::remove_dir(setup.home.path().join("plugins.d")).unwrap();
    let daemon = setup.variable("PENSTOCK_QUERY__LOOKUP", "indx").start();
    let told = daemon.process.output();
    assert!(
        told.contains("PENSTOCK_QUERY__LOOKUP: query.lookup: \"indx\""),
        "{told}"
    );
    assert!(told.contains("plugins_dir: there is no "), "{told}");
}

#[test]
fn a_grant_that_is_missing_names_the_plugins_own_file() {
    let home = tempfile::tempdir().unwrap();
    let file = penstock_testkit::plugin_file("forward");
    std::fs::create_dir(home.path().join("plugins.d")).unwrap();
    std::fs::copy(file, home.path().join("plugins.d/forward.wasm")).unwrap();
    let output = run(home.path(), &["check"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    let wanted = "add \"publish\" to `grants` in ./plugins.d/forward.toml";
    assert!(told.contains(wanted), "{told}");
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let home = tempfile::tempdir().unwrap();
    for command in ["run", "check"] {
        let output = run(home.path(), &[command, "--config", "none.toml"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{told}");
        assert!(told.contains("none.toml: cannot be read"), "{told}");
    }
}

#[test]
fn no_sources_is_a_valid_start() {
    let daemon = Setup::new().start();
    let told = daemon.process.output();
    assert!(told.contains("no sources yet"), "{told}");
    assert!(told.contains("/register"), "{told}");
    assert!(daemon.status().sources.is_empty() && daemon.ready());
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn two_that_answer_lookups_need_a_default() {
    let setup = |toml: &str| {
        Setup::new()
            .plugin("one", "prefix-index", CALM)
            .plugin("two", "prefix-index.second", CALM)
            .config(toml)
    };
    let unnamed = setup("");
    let output = unnamed.command().output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(
        told.contains("query.lookup") && told.contains("one, two"),
        "{told}"
    );
    assert!(!unnamed.home.path().join("penstock.sock").exists());

    let named = setup("").variable("PENSTOCK_QUERY__LOOKUP", "two").start();
    for name in ["one", "two"] {
        assert_eq!(named.plugin(name).unwrap().state, "running");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (variable, value) in [
        ("PENSTOCK_QUERY__HTTP", address.clone()),
        ("PENSTOCK_QUERY__ZMQ", format!("tcp://{address}")),
    ] {
        let setup = Setup::new().variable(variable, &value);
        let mut process = Process::start(&mut setup.command());
        let status = process.wait(PATIENCE);
        let told = process.output();
        assert_eq!(status.code(), Some(1), "{told}");
        let line = told.lines().find(|l| l.starts_with("penstock: "));
        let line = line.unwrap_or_else(|| panic!("no reason in {told}"));
        assert!(line.contains(&value), "{line}");
        let key = variable.trim_start_matches("PENSTOCK_").to_lowercase();
        assert!(line.contains(&key.replace("__", ".")), "{line}");
        assert!(line.contains("another penstock"), "{line}");
        assert!(line.to_lowercase().contains("in use"), "{line}");
    }
    let daemon = Setup::new().start();
    let socket = daemon.path("penstock.sock").display().to_string();
    let setup = Setup::new().variable("PENSTOCK_QUERY__CONTROL", &socket);
    let mut process = Process::start(&mut setup.command());
    assert_eq!(process.wait(PATIENCE).code(), Some(1));
    let told = process.output();
    assert!(told.contains("in use by another process"), "{told}");
    assert!(daemon.ready(), "the first keeps its socket");
}
