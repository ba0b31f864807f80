//! A component as the daemon would have it: the same checks, engine, limits and first
//! calls, and no daemon around it.

use super::settings::Settings;
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use penstock_event::{Position, Publish, PublishError, SourceInfo};
use penstock_plugin::{Candidate, Compiled, Host, LoadError, Shape};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// A compiled component, of which instances are made.
pub struct Stage {
    host: Arc<Host>,
    settings: Settings,
    /// The file's bytes.
    pub wasm: Vec<u8>,
    /// What the checks found.
    pub compiled: Arc<Compiled>,
    /// Milliseconds to compile it.
    pub compile_ms: f64,
}

/// A sink that takes everything; nothing leaves.
pub struct Nowhere;

impl Publish for Nowhere {
    fn publish(
        &self,
        _: Bytes,
        _: Bytes,
        _: Option<&SourceInfo>,
        _: Position,
    ) -> Result<(), PublishError> {
        Ok(())
    }

    fn skip(&self) -> Result<(), PublishError> {
        Ok(())
    }
}

// === impl Stage ===

impl Stage {
    /// Reads, checks and compiles. Runs nothing of it.
    ///
    /// # Errors
    /// Why the daemon would not load it, in the author's terms.
    pub fn open(file: &Path, settings: Settings) -> Result<Self> {
        let wasm = read(file)?;
        let host = Host::new()?;
        let begun = Instant::now();
        let (grants, limits) = (&settings.file.grants, &settings.file.limits);
        let compiled = host.compile(&wasm, grants, limits);
        let compiled = compiled.map_err(|e| refusal(file, &wasm, &e))?;
        let suits = settings.file.suits(compiled.summary.features);
        suits.map_err(|why| anyhow!("{} would not be loaded: {why}", file.display()))?;
        Ok(Self {
            host,
            settings,
            compile_ms: begun.elapsed().as_secs_f64() * 1e3,
            compiled,
            wasm,
        })
    }

    /// An instance, described and set up, its effects off.
    ///
    /// # Errors
    /// As for [`Stage::open`].
    pub fn instance(
        &self,
        file: &Path,
        sinks: HashMap<String, Arc<dyn Publish>>,
    ) -> Result<Candidate> {
        let setup = self.settings.setup(sinks)?;
        let made = Candidate::prepare(&self.host, &self.compiled, &setup);
        made.map_err(|e| refusal(file, &self.wasm, &e))
    }

    /// What it is set up with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Reads a component, which is not looked into yet.
pub fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("{}: cannot be read", file.display()))
}

/// Why a component is not loaded; where its interfaces do not fit, which function and
/// which parameter.
fn refusal(file: &Path, wasm: &[u8], error: &LoadError) -> anyhow::Error {
    let file = file.display();
    let hint = "build it against the `wit/` of this version, which `penstock plugin new` writes";
    let differences = match error {
        LoadError::Interface { .. } => {
            Shape::of(wasm).map_or_else(|_| Vec::new(), |shape| shape.differences())
        }
        LoadError::Version { .. } => vec![error.to_string()],
        _ => Vec::new(),
    };
    match differences.as_slice() {
        [] => anyhow!("{file} would not be loaded: {error}"),
        [one] => anyhow!("{file} would not be loaded: {one}; {hint}"),
        all => anyhow!(
            "{file} would not be loaded:\n  {}\n{hint}",
            all.join("\n  ")
        ),
    }
}
