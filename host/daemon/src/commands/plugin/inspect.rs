use super::check::{Found, exports, list, try_out};
use super::stage;
use crate::commands::print::{Out, note};
use anyhow::{Context, Result};
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use penstock_plugin::{Grant, Interface, Shape, Summary, producers, sha256};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `penstock plugin inspect`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock plugin inspect plugins.d/prefix-index.wasm
  penstock plugin inspect by_adapter.wasm --json

A component for another version of the interface is shown as well, as far as it can be
read. Exit codes: 0 it is a component; 1 it is none.")]
pub struct Args {
    /// The component.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What a component is.
#[derive(Serialize)]
struct Inspected {
    file: String,
    size: usize,
    sha256: String,
    /// The worlds of `wit/worlds.wit` that it is made of.
    world: Option<String>,
    exports: BTreeMap<String, Vec<String>>,
    imports: BTreeMap<String, Vec<String>>,
    producers: BTreeMap<String, Vec<String>>,
    /// What it says of itself; none where this host cannot run it.
    said: Option<Said>,
    /// Why this host cannot run it.
    refused: Option<String>,
}

#[derive(Serialize)]
struct Said {
    name: String,
    version: String,
    columns: Vec<&'static str>,
    /// None without `state`.
    state_schema: Option<u32>,
    /// Bytes of its largest memory at the start, and of all after `init`.
    memory_bytes: Option<u64>,
    memory_after_init: u64,
}

/// Reads, and asks it what it is.
pub fn run(args: &Args) -> Result<ExitCode> {
    let wasm = stage::read(&args.file)?;
    let file = args.file.display().to_string();
    let shape = Shape::of(&wasm).with_context(|| file.clone())?;
    let (found, refused) = match try_out(&args.file, None) {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let inspected = Inspected {
        file,
        size: wasm.len(),
        sha256: sha256(&wasm),
        world: found.as_ref().map(|f| world(&parts(&f.summary))),
        exports: functions(&shape.exports),
        imports: functions(&shape.imports),
        producers: producers(&wasm),
        said: found.map(Said::from),
        refused,
    };
    let mut out = Out::new();
    match args.json {
        true => out.line(serde_json::to_string_pretty(&inspected)?)?,
        false => out.line(table(&inspected))?,
    }
    out.end()?;
    if let (false, Some(why)) = (args.json, &inspected.refused) {
        note(format_args!("penstock: warning: {why}"));
    }
    Ok(ExitCode::SUCCESS)
}

impl From<Found> for Said {
    fn from(found: Found) -> Self {
        Self {
            state_schema: found.summary.features.state.then_some(found.state_schema),
            memory_bytes: found.summary.memory_bytes,
            memory_after_init: found.memory_bytes,
            columns: found.columns,
            name: found.name,
            version: found.version,
        }
    }
}

/// What a component has beside what all have.
fn parts(summary: &Summary) -> Vec<&'static str> {
    let mut parts = exports(summary.features);
    if summary.imports.contains(&Grant::Emit) {
        parts.push("emit");
    }
    parts
}

/// The worlds behind these, as an author writes them.
fn world(parts: &[&str]) -> String {
    let optional = parts.iter().filter(|name| **name != "guest");
    let with: Vec<_> = optional.map(|name| format!(" + with-{name}")).collect();
    format!("plugin{}", with.concat())
}

fn functions(interfaces: &BTreeMap<String, Interface>) -> BTreeMap<String, Vec<String>> {
    interfaces
        .iter()
        .map(|(name, i)| (name.clone(), i.functions().map(str::to_owned).collect()))
        .collect()
}

fn table(it: &Inspected) -> Table {
    let names = |all: &BTreeMap<String, Vec<String>>| {
        let ours = all.keys().filter(|name| !name.starts_with("wasi:"));
        let mut lines: Vec<_> = ours.cloned().collect();
        let wasi = all.len() - lines.len();
        if wasi > 0 {
            lines.push(format!("{wasi} of WASI, inert"));
        }
        match lines.is_empty() {
            true => "none".to_string(),
            false => lines.join("\n"),
        }
    };
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    if let Some(said) = &it.said {
        table.add_row(["name", &format!("{} {}", said.name, said.version)]);
    }
    table.add_row(["file", &it.file]);
    table.add_row(["size", &format!("{} bytes", it.size)]);
    table.add_row(["sha256", &it.sha256]);
    table.add_row(["world", it.world.as_deref().unwrap_or("not of this host")]);
    table.add_row(["exports", &names(&it.exports)]);
    table.add_row(["imports", &names(&it.imports)]);
    if let Some(said) = &it.said {
        table.add_row(["columns", &list(&said.columns)]);
        let schema = said.state_schema.map(|s| s.to_string());
        table.add_row(["state schema", schema.as_deref().unwrap_or("no state")]);
        let first = said.memory_bytes.unwrap_or(0);
        let after = said.memory_after_init;
        table.add_row(["memory", &format!("{first} bytes, {after} after init")]);
    }
    for (field, tools) in &it.producers {
        let tools: Vec<_> = tools.iter().map(|tool| short(tool)).collect();
        table.add_row([field.as_str(), &tools.join("\n")]);
    }
    table
}

/// Some compilers name the commit that they were built of.
fn short(tool: &str) -> &str {
    tool.split(" (").next().unwrap_or(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_are_named_as_in_the_interface() {
        assert_eq!(world(&["guest"]), "plugin");
        let all = ["guest", "lookup", "tick"];
        assert_eq!(world(&all), "plugin + with-lookup + with-tick");
        let worlds = penstock_plugin::wit().find(|(file, _)| *file == "worlds.wit");
        let (_, text) = worlds.unwrap();
        for world in [
            "plugin",
            "with-lookup",
            "with-request",
            "with-tick",
            "with-state",
            "with-emit",
        ] {
            assert!(text.contains(&format!("world {world} {{")), "{world}");
        }
    }
}
