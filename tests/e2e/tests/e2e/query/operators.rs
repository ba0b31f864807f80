//! What operators and their tools read.

use crate::rig::{CALM, Hand};
use penstock_query::client::HttpClient;
use penstock_query::{PluginStatus, SourceStatus};
use penstock_testkit::daemon::Setup;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn probes_and_status_pages() {
    let engine = Hand::start();
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    let daemon = engine.source(setup, "e").start();
    let last = engine.store(&[1, 2, 3, 4], &[1]);
    daemon.wait_for("e", 0, last);
    let client = HttpClient::new(&daemon.http);
    let get = |path: &str| client.get::<Value>(path).unwrap();
    assert_eq!(get("/health")["ok"], true);
    assert_eq!(get("/ready")["ready"], true);
    let workers = get("/workers");
    assert_eq!(workers[0]["instance_id"], "e", "{workers}");
    assert_eq!(workers[0]["endpoints"]["0"], engine.endpoint.as_str());
    assert_eq!(workers[0]["replay_endpoints"]["0"], engine.replay.as_str());
    assert_eq!(workers[0]["links"]["0"], "live");
    let plugins: Vec<PluginStatus> = client.get("/v1/plugins").unwrap();
    assert_eq!((plugins.len(), &*plugins[0].name), (1, "index"));
    assert_eq!(plugins[0].digest.len(), 64);
    let sources: Vec<SourceStatus> = client.get("/v1/sources").unwrap();
    let e = &sources[0];
    assert_eq!((&*e.name, &*e.model, e.verified), ("e", "m", true));
    assert_eq!(e.position.map(|p| (p.epoch, p.sequence)), Some((0, last)));
    assert_eq!(get("/v1/status")["pid"], daemon.process.pid());
    assert_eq!(daemon.control().sources().unwrap()[0].name, "e");
}

#[test]
fn metrics_are_prometheus_text() {
    let engine = Hand::start();
    let setup = Setup::new().plugin("index", "prefix-index", CALM);
    // A name that needs escaping in a label.
    let daemon = engine.source(setup, "e\\\\1").start();
    let last = engine.store(&[1, 2, 3, 4], &[1]);
    daemon.wait_for("e\\1", 0, last);
    let mut reply = ureq::get(format!("{}/metrics", daemon.http))
        .call()
        .unwrap();
    let kind = reply.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = reply.body_mut().read_to_string().unwrap();
    let series = parse(&text);
    let batches = &series["penstock_source_batches_total"];
    assert_eq!(batches.len(), 1, "{batches:?}");
    let (labels, value) = &batches[0];
    assert_eq!(labels, &[("source".to_string(), "e\\1".to_string())]);
    assert_eq!(*value, 1.0);
    for name in [
        "penstock_plugin_batches_total",
        "penstock_plugin_memory_bytes",
        "penstock_lanes_bytes",
        "penstock_sources",
    ] {
        assert!(series.contains_key(name), "{name}");
    }
}

type Series = BTreeMap<String, Vec<(Vec<(String, String)>, f64)>>;

/// Reads the format as its documentation says: `# TYPE name kind`, then samples of
/// that name together, `name{label="value",…} number`, none twice.
fn parse(text: &str) -> Series {
    let mut series = Series::new();
    let mut typed: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut family = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines().filter(|l| !l.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            if what == "TYPE" {
                let kind = words.next().unwrap();
                assert!(["counter", "gauge", "histogram", "summary"].contains(&kind));
                let before = typed.insert(name.into(), kind.into());
                assert_eq!(before, None, "{name} has two types");
                family = name.into();
            }
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(key.to_string()), "twice: {key}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let (name, labels) = match key.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (key, ""),
        };
        assert!(name.starts_with(&family) && !family.is_empty(), "{line}");
        let first = name.chars().next().unwrap();
        assert!(first.is_ascii_alphabetic() || first == '_', "{line}");
        let all = series.entry(name.into()).or_default();
        all.push((self::labels(labels, line), value));
    }
    series
}

fn labels(mut text: &str, line: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            let (at, letter) = letters.next().unwrap_or_else(|| panic!("{line}"));
            match letter {
                '"' => break at,
                '\\' => match letters.next().unwrap().1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                other => value.push(other),
            }
        };
        labels.push((name.trim_start_matches(',').to_string(), value));
        text = &rest[end + 1..];
    }
    labels
}
