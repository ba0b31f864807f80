use super::check::{Found, exports, list, try_out};
use super::stage;
use crate::commands::print::{Out, note};
use anyhow::{Context, Result};
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use penstock_plugin::{Interface, Shape, producers, sha256};
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
    #[serde(flatten)]
    found: Option<Found>,
    /// Why this host cannot run it.
    refused: Option<String>,
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
        world: found.as_ref().map(|f| world(&exports(f.summary.features))),
        exports: functions(&shape.exports),
        imports: functions(&shape.imports),
        producers: producers(&wasm),
        found,
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

/// The worlds behind the exports, as an author writes them.
fn world(exports: &[&str]) -> String {
    let optional = exports.iter().filter(|name| **name != "guest");
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
    if let Some(found) = &it.found {
        table.add_row(["name", &format!("{} {}", found.name, found.version)]);
    }
    table.add_row(["file", &format!("{}, {} bytes", it.file, it.size)]);
    table.add_row(["sha256", &it.sha256]);
    table.add_row(["world", it.world.as_deref().unwrap_or("not of this host")]);
    table.add_row(["exports", &names(&it.exports)]);
    table.add_row(["imports", &names(&it.imports)]);
    if let Some(found) = &it.found {
        table.add_row(["columns", &list(&found.columns)]);
        let schema = match found.summary.features.state {
            true => found.state_schema.to_string(),
            false => "no state".into(),
        };
        table.add_row(["state schema", &schema]);
        let first = found.summary.memory_bytes.unwrap_or(0);
        let after = found.memory_bytes;
        table.add_row(["memory", &format!("{first} bytes, {after} after init")]);
    }
    for (field, tools) in &it.producers {
        table.add_row([field.as_str(), &tools.join(", ")]);
    }
    table
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
        ] {
            assert!(text.contains(&format!("world {world} {{")), "{world}");
        }
    }
}
