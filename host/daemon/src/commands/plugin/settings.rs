//! What a plugin is set up with: its `NAME.toml`, or, without one, every grant, default
//! limits and an empty config.

use crate::config::{PluginFile, load_plugin};
use anyhow::{Context, Result};
use penstock_event::Publish;
use penstock_plugin::{Grants, Setup};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// A plugin's name and file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// As logs and metrics call it.
    pub name: String,
    /// Its file.
    pub file: PluginFile,
}

// === impl Settings ===

impl Settings {
    /// Of the component `wasm`, which need not exist, with the file `toml`.
    pub fn read(wasm: &Path, toml: Option<&Path>) -> Result<Self> {
        let stem = wasm.file_stem().and_then(|s| s.to_str());
        let file = match toml {
            Some(toml) => {
                let text = std::fs::read_to_string(toml)
                    .with_context(|| format!("{}: cannot be read", toml.display()))?;
                load_plugin(toml, &text)?
            }
            None => PluginFile {
                grants: Grants::all(),
                ..PluginFile::default()
            },
        };
        Ok(Self {
            name: stem.unwrap_or("plugin").to_owned(),
            file,
        })
    }

    /// What an instance is made with. `sinks` stand for those of the file.
    pub fn setup(&self, sinks: HashMap<String, Arc<dyn Publish>>) -> Result<Arc<Setup>> {
        let config = serde_json::to_value(&self.file.config)?;
        let (limits, grants) = (self.file.limits.clone(), self.file.grants.clone());
        Ok(Setup::new(
            &self.name,
            limits,
            grants,
            config.as_object(),
            sinks,
        ))
    }
}
