//! What several suites share: engines, questions, and the oracle's verdict.

mod hand;
mod lines;
mod traced;

pub use hand::{Hand, batch, stored};
pub use lines::{delivered, lines};
pub use penstock_testkit::ask::query;
pub use traced::Traced;

use penstock_event::By;
use penstock_query::PluginStatus;
use penstock_query::client::HttpClient;
use penstock_testkit::daemon::{Daemon, PATIENCE};
use penstock_testkit::{binary, wait};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

/// The settings of a well-behaved plugin on a machine that may be busy: its calls
/// are not to be ended because other tests run.
pub const CALM: &str = "[limits]\ndeadline_ms = 5000\n";

/// What `faulty` imports: everything.
pub const GRANTS: &str = "grants = [\"log\", \"metrics\", \"clock\", \"publish\", \"emit\"]\n";

/// The forward plugin with a file sink, which stands in the daemon's directory.
pub fn forward_to(file: &str) -> String {
    forward_as(file, "kv@{source}@{model}")
}

/// The same, under other topics.
pub fn forward_as(file: &str, topic: &str) -> String {
    format!(
        "grants = [\"log\", \"metrics\", \"publish\"]\n{CALM}
[config]
topic = {topic:?}
[sink.out]
kind = \"file\"
path = {file:?}
"
    )
}

/// Runs the binary to its end, without overrides meant for others.
pub fn run(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PENSTOCK_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .current_dir(home)
        .output()
        .unwrap_or_else(|e| panic!("penstock {arguments:?}: {e}"))
}

/// What `penstock ctl` prints.
pub fn ctl(daemon: &Daemon, arguments: &[&str]) -> String {
    let home = daemon.home.path();
    let output = run(home, &[&["ctl"], arguments].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "penstock ctl {arguments:?}: {error}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until a plugin's status is as wanted, and gives it.
pub fn plugin_when(
    daemon: &Daemon,
    name: &str,
    what: &str,
    wanted: impl Fn(&PluginStatus) -> bool,
) -> PluginStatus {
    let found = wait::within(PATIENCE, || daemon.plugin(name).filter(&wanted));
    found.unwrap_or_else(|| {
        let last = daemon.plugin(name);
        panic!("{name}: {what}: not within {PATIENCE:?}, but {last:#?}")
    })
}

/// Waits until a plugin's newest files are refused for a reason that holds `why`.
pub fn refused(daemon: &Daemon, name: &str, why: &str) -> PluginStatus {
    plugin_when(daemon, name, &format!("refused, {why:?}"), |p| {
        p.load_error.as_ref().is_some_and(|e| e.contains(why))
    })
}

/// Asks a plugin in its own form.
pub fn request(daemon: &Daemon, plugin: &str, body: &str) -> Result<String, String> {
    let url = format!("{}/v1/plugins/{plugin}/request", daemon.http);
    let sent = ureq::post(url)
        .config()
        .http_status_as_error(false)
        .build()
        .send(body);
    let mut reply = sent.map_err(|e| e.to_string())?;
    let text = reply.body_mut().read_to_string();
    let text = text.map_err(|e| e.to_string())?;
    match reply.status().is_success() {
        true => Ok(text),
        false => Err(text),
    }
}

/// Batches that an instance of `faulty` has handled, as it says itself.
pub fn handled(daemon: &Daemon, plugin: &str) -> u64 {
    let client = HttpClient::new(&daemon.http);
    let question = query(By::Tokens(Arc::new([])));
    wait::until("its count", PATIENCE, || {
        let answer = client.query(Some(plugin), &question).ok()?;
        let blocks = &answer.instances.get("e")?.blocks;
        Some(u64::from(blocks.values().sum::<u32>()))
    })
}

/// `/health`: every loop of the daemon turns.
pub fn healthy(daemon: &Daemon) -> bool {
    let health = HttpClient::new(&daemon.http).get::<serde_json::Value>("/health");
    health.is_ok_and(|h| h["ok"] == true)
}

/// The value of one series in the metrics, found by its name and some labels.
pub fn series(daemon: &Daemon, name: &str, labels: &[&str]) -> f64 {
    let text = ureq::get(format!("{}/metrics", daemon.http)).call();
    let text = text
        .ok()
        .and_then(|mut r| r.body_mut().read_to_string().ok());
    let text = text.unwrap_or_default();
    let of_name = text.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    of_name
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
