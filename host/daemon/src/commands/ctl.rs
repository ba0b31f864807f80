use super::print::Out;
use anyhow::Result;
use clap::Subcommand;
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use penstock_query::client::ControlClient;
use penstock_query::{PluginStatus, QueryError, Reloaded, SourceStatus};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `penstock ctl`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  penstock ctl status\n  penstock ctl plugins --json")]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// The daemon's control socket.
    #[arg(
        long,
        global = true,
        default_value = "penstock.sock",
        env = "PENSTOCK_QUERY__CONTROL"
    )]
    socket: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// The daemon, its plugins and its sources.
    Status,
    /// The plugins, loaded or refused.
    Plugins,
    /// The sources and how complete they are.
    Sources,
    /// Read the config and the plugin directory now.
    Reload,
    /// Bring the build of a plugin that ran before back. The files it ran from are not
    /// touched; those that were rolled back are not loaded again until they change.
    Rollback {
        /// The plugin.
        plugin: String,
    },
    /// Start a plugin again that is down: at once, also when it is held or disabled. Of
    /// several shards those that are down.
    Restart {
        /// The plugin.
        plugin: String,
    },
}

/// Asks and prints. A plugin that was refused makes `status` end with 0 all the
/// same: it is an answer.
pub fn run(args: &Args) -> Result<ExitCode> {
    let client = ControlClient::new(&args.socket, Duration::from_secs(30));
    match &args.what {
        What::Status => {
            let status = client.status().map_err(told)?;
            show(args.json, &status, |out| {
                let ready = match status.ready.ready {
                    true => "ready".to_string(),
                    false => format!("not ready ({})", status.ready.reasons.join("; ")),
                };
                out.line(format_args!(
                    "penstock {} pid {} up {:.0} s, {ready}, {} bytes queued",
                    status.version, status.pid, status.uptime_s, status.queued_bytes
                ))?;
                print_plugins(out, &status.plugins)?;
                print_sources(out, &status.sources)
            })
        }
        What::Plugins => {
            let plugins = client.plugins().map_err(told)?;
            show(args.json, &plugins, |out| print_plugins(out, &plugins))
        }
        What::Sources => {
            let sources = client.sources().map_err(told)?;
            show(args.json, &sources, |out| print_sources(out, &sources))
        }
        What::Rollback { plugin } => {
            let done = client.roll_back(plugin).map_err(told)?;
            let (name, generation) = (&done.plugin, done.generation);
            show(args.json, &done, |out| {
                out.line(format_args!("{name}: back to generation {generation}"))
            })
        }
        What::Restart { plugin } => {
            let done = client.restart(plugin).map_err(told)?;
            let (name, generation) = (&done.plugin, done.generation);
            show(args.json, &done, |out| {
                out.line(format_args!("{name}: generation {generation} starts again"))
            })
        }
        What::Reload => {
            let reloaded = client.reload().map_err(told)?;
            show(args.json, &reloaded, |out| print_reloaded(out, &reloaded))
        }
    }
}

/// What to try, where nobody answered; what the daemon itself says stands alone.
fn told(error: QueryError) -> anyhow::Error {
    match error {
        QueryError::Unreachable { .. } => anyhow::anyhow!(
            "{error}; is the daemon running? `--socket` says where its control socket is"
        ),
        error => error.into(),
    }
}

fn show<T: Serialize>(
    json: bool,
    value: &T,
    people: impl FnOnce(&mut Out) -> Result<()>,
) -> Result<ExitCode> {
    let mut out = Out::new();
    if json {
        out.line(serde_json::to_string(value)?)?;
    } else {
        people(&mut out)?;
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

fn print_reloaded(out: &mut Out, reloaded: &Reloaded) -> Result<()> {
    if *reloaded == Reloaded::default() {
        return out.line("nothing changed");
    }
    if !reloaded.changed.is_empty() {
        out.line(format_args!("changed: {}", reloaded.changed.join(", ")))?;
    }
    if !reloaded.next_start.is_empty() {
        let keys = reloaded.next_start.join(", ");
        out.line(format_args!("at the next start: {keys}"))?;
    }
    for (name, why) in &reloaded.refused {
        out.line(format_args!("refused: {name}: {why}"))?;
    }
    Ok(())
}

fn print_plugins(out: &mut Out, plugins: &[PluginStatus]) -> Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "plugin",
        "version",
        "gen",
        "digest",
        "age",
        "state",
        "shards",
        "after",
        "events",
        "events/s",
        "ns/event",
        "p99/deadline ms",
        "memory MiB",
        "queued",
        "missed",
        "set aside",
        "restarts",
    ]);
    for p in plugins {
        table.add_row([
            p.name.clone(),
            p.version.clone(),
            p.generation.to_string(),
            p.digest.chars().take(12).collect(),
            age(p.age_s),
            match p.probation {
                true => format!("{}, on probation", p.state),
                false => p.state.clone(),
            },
            p.shards.to_string(),
            p.after.join(", "),
            p.events.to_string(),
            format!("{:.0}", p.events_per_s),
            format!("{:.0}", p.ns_per_event),
            format!("{:.2}/{}", p.call_p99_us / 1e3, p.deadline_ms),
            format!(
                "{:.1}/{}",
                p.memory_bytes as f64 / 1_048_576.0,
                p.memory_limit >> 20
            ),
            p.queue_items.to_string(),
            p.missed.to_string(),
            p.set_aside.to_string(),
            p.restarts.to_string(),
        ]);
    }
    out.line(table)?;
    for p in plugins {
        if let Some(why) = &p.load_error {
            let what = match p.state.as_str() {
                "waiting" => "waits",
                _ => "not loaded",
            };
            out.line(format_args!("{}: {what}: {why}", p.name))?;
        }
        if let Some(why) = &p.last_error {
            out.line(format_args!("{}: last error: {why}", p.name))?;
        }
        for why in &p.quarantine {
            out.line(format_args!("{}: in quarantine: files {why}", p.name))?;
        }
    }
    Ok(())
}

fn age(seconds: f64) -> String {
    match seconds as u64 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

fn print_sources(out: &mut Out, sources: &[SourceStatus]) -> Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "source", "model", "link", "position", "complete", "batches", "gaps", "filled", "missing",
        "restarts",
    ]);
    for s in sources {
        let total = |name: &str| s.totals.get(name).copied().unwrap_or(0).to_string();
        let complete = match (s.complete, s.verified) {
            (true, true) => "yes",
            (true, false) => "unverified",
            (false, _) => "no",
        };
        table.add_row([
            s.name.clone(),
            s.model.clone(),
            s.link.clone(),
            s.position
                .map_or("none yet".into(), |p| format!("{}/{}", p.epoch, p.sequence)),
            complete.into(),
            total("batches"),
            total("gaps"),
            total("gaps_filled"),
            total("missing"),
            total("restarts"),
        ]);
    }
    out.line(table)
}
