//! Tools for authors of plugins.

use super::print::Out;
use crate::config::load_plugin;
use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use penstock_event::Publish;
use penstock_plugin::{Candidate, Grant, Grants, Host, Setup, Summary};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of `penstock plugin`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Whether a component would be loaded here, and what it wants.
    #[command(after_help = "Examples:
  penstock plugin check target/wasm32-wasip2/release/by_adapter.wasm
  penstock plugin check prefix-index.wasm --toml prefix-index.toml --json

Exit codes: 0 it would be loaded; 1 otherwise, and why; 64 a mistake in the TOML file.")]
    Check(Check),
}

#[derive(clap::Args)]
struct Check {
    /// The component.
    file: PathBuf,
    /// Its `NAME.toml`: grants, limits and config. Without one everything is granted,
    /// and the config is empty.
    #[arg(long)]
    toml: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What a check found.
#[derive(Serialize)]
struct Found {
    name: String,
    version: String,
    columns: Vec<&'static str>,
    state_schema: u32,
    /// Milliseconds to compile it, and to set it up.
    compile_ms: f64,
    start_ms: f64,
    /// Bytes of memory after `init`.
    memory_bytes: u64,
    #[serde(flatten)]
    summary: Summary,
}

/// Does what is asked.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Check(check) => {
            let found = try_out(check)?;
            let mut out = Out::new();
            match check.json {
                true => out.line(serde_json::to_string_pretty(&found)?)?,
                false => out.line(table(&found))?,
            }
            out.end()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn try_out(check: &Check) -> Result<Found> {
    let path = check.file.display();
    let wasm = std::fs::read(&check.file).with_context(|| format!("{path}: cannot be read"))?;
    let (grants, limits, config) = match &check.toml {
        Some(toml) => {
            let text = std::fs::read_to_string(toml)
                .with_context(|| format!("{}: cannot be read", toml.display()))?;
            let file = load_plugin(toml, &text)?;
            (
                file.grants,
                file.limits,
                serde_json::to_value(&file.config)?,
            )
        }
        None => {
            let nothing = serde_json::Value::Object(serde_json::Map::new());
            (Grants::all(), penstock_plugin::Limits::default(), nothing)
        }
    };
    let refused = |e: penstock_plugin::LoadError| anyhow!("{path} would not be loaded: {e}");
    let host = Host::new()?;
    let begun = std::time::Instant::now();
    let compiled = host.compile(&wasm, &grants, &limits).map_err(refused)?;
    let compile_ms = begun.elapsed().as_secs_f64() * 1e3;
    let begun = std::time::Instant::now();
    let sinks: HashMap<String, std::sync::Arc<dyn Publish>> = HashMap::new();
    let name = name(&check.file);
    let setup = Setup::new(&name, limits, grants, config.as_object(), sinks);
    let candidate = Candidate::prepare(&host, &compiled, &setup).map_err(refused)?;
    Ok(Found {
        name: candidate.description.name.clone(),
        version: candidate.description.version.clone(),
        columns: candidate.wants().names().collect(),
        state_schema: candidate.description.state_schema,
        compile_ms,
        start_ms: begun.elapsed().as_secs_f64() * 1e3,
        memory_bytes: candidate.memory_bytes(),
        summary: compiled.summary.clone(),
    })
}

fn name(file: &Path) -> String {
    let stem = file.file_stem().and_then(|s| s.to_str());
    stem.unwrap_or("plugin").to_string()
}

fn table(found: &Found) -> Table {
    let f = &found.summary.features;
    let exports = [
        (f.lookup, "lookup"),
        (f.request, "request"),
        (f.tick, "tick"),
        (f.state, "state"),
    ];
    let exports = exports
        .iter()
        .filter(|(yes, _)| *yes)
        .map(|(_, name)| *name);
    let exports = std::iter::once("guest").chain(exports).collect::<Vec<_>>();
    let grants: Vec<_> = found
        .summary
        .imports
        .iter()
        .map(|g| Grant::name(*g))
        .collect();
    let list = |names: &[&str]| match names {
        [] => "none".to_string(),
        names => names.join(", "),
    };
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.add_row(["name", &format!("{} {}", found.name, found.version)]);
    table.add_row(["digest", &found.summary.digest]);
    table.add_row(["size", &format!("{} bytes", found.summary.size)]);
    table.add_row(["exports", &list(&exports)]);
    table.add_row(["needs grants", &list(&grants)]);
    table.add_row(["columns", &list(&found.columns)]);
    if f.state {
        table.add_row(["state schema", &found.state_schema.to_string()]);
    }
    let (compile, start) = (found.compile_ms, found.start_ms);
    table.add_row([
        "compiled in",
        &format!("{compile:.0} ms, set up in {start:.1} ms"),
    ]);
    table.add_row([
        "memory",
        &format!("{} bytes after init", found.memory_bytes),
    ]);
    table.add_row(["", "it would be loaded"]);
    table
}
