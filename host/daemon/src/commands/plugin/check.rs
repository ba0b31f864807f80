use super::against::{self, Against};
use super::settings::Settings;
use super::stage::Stage;
use crate::commands::print::Out;
use anyhow::Result;
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use penstock_plugin::{Features, Grant, Summary};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Options of `penstock plugin check`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock plugin check target/wasm32-wasip2/release/by_adapter.wasm
  penstock plugin check prefix-index.wasm --toml prefix-index.toml --json
  penstock plugin check new.wasm --against plugins.d/by-adapter.wasm

Exit codes: 0 it would be loaded; 1 otherwise, and why, or a swap would lose state;
64 a mistake in the TOML file.")]
pub struct Args {
    /// The component.
    file: PathBuf,
    /// Its `NAME.toml`: grants, limits and config. Without one everything is granted,
    /// and the config is empty.
    #[arg(long)]
    toml: Option<PathBuf>,
    /// The build that it is to replace: what a swap would change.
    #[arg(long, value_name = "OLD.wasm")]
    against: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What a check found.
#[derive(Debug, Serialize)]
pub struct Found {
    pub name: String,
    pub version: String,
    pub columns: Vec<&'static str>,
    pub state_schema: u32,
    /// Milliseconds to compile it, and to set it up.
    pub compile_ms: f64,
    pub start_ms: f64,
    /// Bytes of memory after `init`.
    pub memory_bytes: u64,
    #[serde(flatten)]
    pub summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against>,
}

/// Tries it out, and says what it is.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut found = try_out(&args.file, args.toml.as_deref())?;
    if let Some(old) = &args.against {
        found.against = Some(against::compare(&args.file, &found, old)?);
    }
    let mut out = Out::new();
    match args.json {
        true => out.line(serde_json::to_string_pretty(&found)?)?,
        false => out.line(table(&found))?,
    }
    out.end()?;
    Ok(match &found.against {
        Some(against) if against.loses_state => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// Loads a component as the daemon does, and throws it away.
pub fn try_out(file: &Path, toml: Option<&Path>) -> Result<Found> {
    let stage = Stage::open(file, Settings::read(file, toml)?)?;
    let begun = Instant::now();
    let candidate = stage.instance(file, HashMap::new())?;
    Ok(Found {
        name: candidate.description.name.clone(),
        version: candidate.description.version.clone(),
        columns: candidate.wants().names().collect(),
        state_schema: candidate.description.state_schema,
        compile_ms: stage.compile_ms,
        start_ms: begun.elapsed().as_secs_f64() * 1e3,
        memory_bytes: candidate.memory_bytes(),
        summary: stage.compiled.summary.clone(),
        against: None,
    })
}

/// Names of the interfaces that it exports.
pub fn exports(features: Features) -> Vec<&'static str> {
    let optional = [
        (features.lookup, "lookup"),
        (features.request, "request"),
        (features.tick, "tick"),
        (features.state, "state"),
    ];
    let optional = optional.iter().filter(|(yes, _)| *yes);
    std::iter::once("guest")
        .chain(optional.map(|(_, name)| *name))
        .collect()
}

/// Names in one line.
pub fn list(names: &[&str]) -> String {
    match names {
        [] => "none".to_string(),
        names => names.join(", "),
    }
}

/// For people.
pub fn table(found: &Found) -> Table {
    let summary = &found.summary;
    let grants: Vec<_> = summary.imports.iter().map(|g| Grant::name(*g)).collect();
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.add_row(["name", &format!("{} {}", found.name, found.version)]);
    table.add_row(["digest", &summary.digest]);
    table.add_row(["size", &format!("{} bytes", summary.size)]);
    table.add_row(["exports", &list(&exports(summary.features))]);
    table.add_row(["needs grants", &list(&grants)]);
    table.add_row(["columns", &list(&found.columns)]);
    if summary.features.state {
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
    if let Some(against) = &found.against {
        against.rows(&mut table);
    }
    table.add_row(["", "it would be loaded"]);
    table
}
