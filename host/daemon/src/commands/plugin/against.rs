//! What a swap from one build to another would change.

use super::check::Found;
use super::settings::Settings;
use super::stage::{self, Stage};
use anyhow::{Context, Result};
use comfy_table::Table;
use penstock_plugin::{Description, Shape};
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// A new build beside the one it is to replace.
#[derive(Debug, Serialize)]
pub struct Against {
    /// The older file.
    pub file: String,
    /// Its version, as it says itself; none when it cannot be asked any more.
    pub version: Option<String>,
    /// Interfaces that came or went.
    pub changes: Vec<String>,
    /// What becomes of the state.
    pub state: String,
    /// True when the new build cannot take over what the older one holds.
    pub loses_state: bool,
}

/// Compares `new`, which was found to load, with the build at `old`.
pub fn compare(new: &Path, found: &Found, old: &Path) -> Result<Against> {
    let wasm = stage::read(old)?;
    let shape = |file: &Path, wasm: &[u8]| {
        Shape::of(wasm).with_context(|| format!("{}: cannot be compared", file.display()))
    };
    let older = shape(old, &wasm)?;
    let newer = shape(new, &stage::read(new)?)?;
    let described = describe(old);
    let had_state = older.exports.keys().any(|name| name.contains("/state@"));
    let (state, loses_state) = state(
        had_state,
        described.as_ref().map(|d| d.state_schema),
        found.summary.features.state,
        found.state_schema,
    );
    Ok(Against {
        file: old.display().to_string(),
        version: described.map(|d| d.version),
        changes: newer.changes(&older),
        state,
        loses_state,
    })
}

/// What the older build says of itself. It may need a config, grants or another host:
/// then there is nothing to be said.
fn describe(old: &Path) -> Option<Description> {
    let stage = Stage::open(old, Settings::read(old, None).ok()?).ok()?;
    let made = stage.instance(old, HashMap::new()).ok()?;
    Some(made.description.clone())
}

/// What becomes of the state, and whether it is lost.
fn state(had: bool, schema: Option<u32>, has: bool, now: u32) -> (String, bool) {
    match (had, has, schema) {
        (true, false, _) => (
            "lost: `state` is no longer exported; everything is fed anew".into(),
            true,
        ),
        (false, true, _) => (
            "the older build has none to hand over; everything is fed anew once".into(),
            false,
        ),
        (false, false, _) => (
            "neither build has any: everything is fed anew".into(),
            false,
        ),
        (true, true, None) => (
            format!("schema ? -> {now}: the older build does not say its own"),
            false,
        ),
        (true, true, Some(old)) if old == now => (format!("schema {now}, as before"), false),
        (true, true, Some(old)) => (
            format!("schema {old} -> {now}: the new build must read {old}"),
            false,
        ),
    }
}

// === impl Against ===

impl Against {
    /// For people.
    pub fn rows(&self, table: &mut Table) {
        let version = self.version.as_deref().unwrap_or("of unknown version");
        table.add_row(["against", &format!("{} ({version})", self.file)]);
        let changes = match self.changes.as_slice() {
            [] => "the same interfaces".to_string(),
            all => all.join("\n"),
        };
        table.add_row(["changes", &changes]);
        table.add_row(["state", &self.state]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_lost_when_nobody_takes_it() {
        for (had, schema, has, now, words, lost) in [
            (
                true,
                Some(1),
                true,
                2,
                "schema 1 -> 2: the new build must read 1",
                false,
            ),
            (true, Some(2), true, 2, "schema 2, as before", false),
            (true, None, true, 2, "schema ? -> 2", false),
            (true, Some(1), false, 0, "no longer exported", true),
            (false, Some(0), true, 1, "none to hand over", false),
            (false, Some(0), false, 0, "neither", false),
        ] {
            let (said, is_lost) = state(had, schema, has, now);
            assert!(said.contains(words), "{said}");
            assert_eq!(is_lost, lost, "{said}");
        }
    }
}
