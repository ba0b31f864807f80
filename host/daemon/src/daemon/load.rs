//! A plugin's files, read once.

use super::scan::Found;
use crate::config::{PluginFile, load_plugin};
use penstock_event::Publish;
use penstock_plugin::{LoadError, Setup};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Largest plugin file, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Bytes and settings, and one digest of both.
pub struct Load {
    pub wasm: Vec<u8>,
    pub file: PluginFile,
    pub digest: u64,
}

/// Reads and checks what can be checked without compiling.
pub fn read(found: &Found) -> Result<Load, String> {
    let wasm = bytes(&found.wasm)?;
    let text = match found.stamps.1 {
        Some(_) => String::from_utf8(bytes(&found.toml)?)
            .map_err(|e| format!("{}: {e}", found.toml.display()))?,
        None => String::new(),
    };
    let file = load_plugin(&found.toml, &text).map_err(|e| e.to_string())?;
    if let Some(pinned) = &file.sha256 {
        let is = penstock_plugin::sha256(&wasm);
        if !is.eq_ignore_ascii_case(pinned.trim_start_matches("sha256:")) {
            return Err(format!("its SHA-256 is {is}, but the file pins {pinned}"));
        }
    }
    let parts = [
        penstock_event::digest(&wasm),
        penstock_event::digest(text.as_bytes()),
    ];
    let digest = parts[0] ^ parts[1].rotate_left(17);
    Ok(Load { wasm, file, digest })
}

/// Why a component is not loaded; where the plugin's file decides, which file.
pub fn refusal(error: &LoadError, found: &Found) -> String {
    match error {
        LoadError::NotGranted { .. } | LoadError::Memory { .. } => {
            format!("{error} in {}", found.toml.display())
        }
        error => error.to_string(),
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let told = |e: std::io::Error| format!("{} cannot be read: {e}", path.display());
    let size = std::fs::metadata(path).map_err(told)?.len();
    if size > MAX_BYTES {
        return Err(format!(
            "{}: {size} bytes; the limit is {MAX_BYTES}",
            path.display()
        ));
    }
    std::fs::read(path).map_err(told)
}

impl Load {
    /// What stays when instances go.
    pub fn setup(
        &self,
        name: &str,
        sinks: HashMap<String, Arc<dyn Publish>>,
    ) -> Result<Arc<Setup>, String> {
        let config =
            serde_json::to_value(&self.file.config).map_err(|e| format!("[config]: {e}"))?;
        let config = config.as_object();
        let (limits, grants) = (self.file.limits.clone(), self.file.grants.clone());
        Ok(Setup::new(name, limits, grants, config, sinks))
    }
}
