//! A plugin's files, read once.

use super::scan::Found;
use crate::config::{PluginFile, load_plugin};
use penstock_event::Publish;
use penstock_plugin::{Compiled, Grant, LoadError, Setup};
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
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

/// A component that passed the checks, with its settings.
pub struct Build {
    pub compiled: Arc<Compiled>,
    pub file: PluginFile,
    /// Of both files.
    pub digest: u64,
    pub found: Found,
}

impl Build {
    /// It is an operator: it emits events for plugins after it.
    pub fn emits(&self) -> bool {
        self.compiled.summary.imports.contains(&Grant::Emit)
    }
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

/// A plugin's settings alone; the defaults where they cannot be read.
pub fn glance(found: &Found) -> PluginFile {
    let text = found.stamps.1.and_then(|_| bytes(&found.toml).ok());
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
    load_plugin(&found.toml, &text.unwrap_or_default()).unwrap_or_default()
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
    let at = path.display();
    let told = |e: std::io::Error| format!("{at} cannot be read: {e}");
    // A pipe or a device would be waited for, or read, for ever.
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(nonblocking).open(path);
    let file = file.map_err(told)?;
    if !file.metadata().map_err(told)?.is_file() {
        return Err(format!("{at} is no regular file"));
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(told)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{at} is above the limit of {MAX_BYTES} bytes"));
    }
    Ok(bytes)
}

/// What stays when instances of a shard go.
pub fn setup(
    file: &PluginFile,
    name: &str,
    shard: usize,
    sinks: HashMap<String, Arc<dyn Publish>>,
) -> Result<Arc<Setup>, String> {
    let config = serde_json::to_value(&file.config).map_err(|e| format!("[config]: {e}"))?;
    let config = config.as_object();
    let (limits, grants) = (file.limits.clone(), file.grants.clone());
    let shard = (file.shards > 1).then_some(shard + 1);
    Ok(Setup::of_shard(shard, name, limits, grants, config, sinks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_some_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let small = dir.path().join("small");
        std::fs::write(&small, "abc").unwrap();
        assert_eq!(bytes(&small).unwrap(), b"abc");
        let zero = dir.path().join("zero");
        std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
        assert!(bytes(&zero).unwrap_err().contains("no regular file"));
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(bytes(&pipe).unwrap_err().contains("no regular file"));
        let large = dir.path().join("large");
        let file = std::fs::File::create(&large).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        assert!(bytes(&large).unwrap_err().contains("limit"));
    }
}
