use anyhow::{Context, Result};
use clap::Subcommand;
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use penstock_query::client::ControlClient;
use penstock_query::{PluginStatus, SourceStatus};
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
}

/// Asks and prints. A plugin that was refused makes `status` end with 0 all the
/// same: it is an answer.
pub fn run(args: &Args) -> Result<ExitCode> {
    let client = ControlClient::new(&args.socket, Duration::from_secs(30));
    let asked = || {
        format!(
            "is the daemon running, with its control socket at {}?",
            args.socket.display()
        )
    };
    match args.what {
        What::Status => {
            let status = client.status().with_context(asked)?;
            show(args.json, &status, || {
                let ready = match status.ready.ready {
                    true => "ready".to_string(),
                    false => format!("not ready ({})", status.ready.reasons.join("; ")),
                };
                println!(
                    "penstock {} pid {} up {:.0} s, {ready}, {} bytes queued",
                    status.version, status.pid, status.uptime_s, status.queued_bytes
                );
                print_plugins(&status.plugins);
                print_sources(&status.sources);
            })
        }
        What::Plugins => {
            let plugins = client.plugins().with_context(asked)?;
            show(args.json, &plugins, || print_plugins(&plugins))
        }
        What::Sources => {
            let sources = client.sources().with_context(asked)?;
            show(args.json, &sources, || print_sources(&sources))
        }
        What::Reload => {
            let reloaded = client.reload().with_context(asked)?;
            show(args.json, &reloaded, || {
                println!("changed: {}", reloaded.changed.join(", "));
                for (name, why) in &reloaded.refused {
                    println!("refused: {name}: {why}");
                }
            })
        }
    }
}

fn show<T: Serialize>(json: bool, value: &T, people: impl FnOnce()) -> Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string(value)?);
    } else {
        people();
    }
    Ok(ExitCode::SUCCESS)
}

fn print_plugins(plugins: &[PluginStatus]) {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "plugin", "version", "gen", "digest", "state", "events", "ns/event", "p99 µs", "memory",
        "queued", "missed", "restarts",
    ]);
    for p in plugins {
        table.add_row([
            p.name.clone(),
            p.version.clone(),
            p.generation.to_string(),
            p.digest.chars().take(12).collect(),
            p.state.clone(),
            p.events.to_string(),
            format!("{:.0}", p.ns_per_event),
            format!("{:.0}", p.call_p99_us),
            format!(
                "{:.1}/{} MiB",
                p.memory_bytes as f64 / 1_048_576.0,
                p.memory_limit >> 20
            ),
            p.queue_items.to_string(),
            p.missed.to_string(),
            p.restarts.to_string(),
        ]);
    }
    println!("{table}");
    for p in plugins {
        if let Some(why) = &p.load_error {
            println!("{}: not loaded: {why}", p.name);
        }
        if let Some(why) = &p.last_error {
            println!("{}: last error: {why}", p.name);
        }
    }
}

fn print_sources(sources: &[SourceStatus]) {
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
    println!("{table}");
}
