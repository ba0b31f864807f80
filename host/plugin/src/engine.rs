use crate::cache::Cache;
use crate::check::{self, Summary};
use crate::ctx::Ctx;
use crate::memory::Memories;
use crate::{Grants, Limits, LoadError, host, wasi};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine, OptLevel};

/// One engine for all plugins, and the clock of its deadlines.
///
/// Guarantees: nothing is run by [`compile`](Self::compile); a guest that loops
/// is stopped within two ticks of its deadline. The ticker ends with the host.
pub struct Host {
    engine: Engine,
    cache: Option<Cache>,
    /// What the hash seeds of plugins are made of.
    key: u128,
    stop: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

/// A component that passed the checks, compiled and linked, not yet run.
pub struct Compiled {
    pub(crate) pre: InstancePre<Ctx>,
    /// What the checks found.
    pub summary: Summary,
    /// The component, for those who look into its end.
    pub(crate) wasm: Box<[u8]>,
}

/// How often deadlines are looked at. They are this much late at most, twice.
const TICK: Duration = Duration::from_millis(5);

/// Largest file taken for a component, in bytes.
pub(crate) const MAX_COMPONENT_BYTES: usize = 64 << 20;

// === impl Host ===

impl Host {
    /// A host that keeps nothing on disk.
    ///
    /// # Errors
    /// As for [`Host::with_cache`].
    pub fn new() -> Result<Arc<Self>, std::io::Error> {
        Self::with_cache(None, rand::random())
    }

    /// Starts the engine and its ticker. `key` is a secret of this host: all instances
    /// of a plugin get the same seed for their hashes from it, so that what one of them
    /// hashed another one can use.
    ///
    /// # Errors
    /// The machine cannot run compiled code, or no thread can be started.
    pub fn with_cache(cache: Option<Cache>, key: u128) -> Result<Arc<Self>, std::io::Error> {
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .epoch_interruption(true)
            // Plugins are synchronous, each on a thread of its own.
            .concurrency_support(false)
            .wasm_memory64(false)
            // Components made of components (those of other languages) need it: what
            // passes data between two of them has both memories in hand, and the
            // compiler panics without it.
            .wasm_multi_memory(true)
            .with_host_memory(Arc::new(Memories))
            // Such images are mapped into memory of wasmtime's own alone.
            .memory_init_cow(false)
            .cranelift_opt_level(OptLevel::Speed);
        let engine = Engine::new(&config).map_err(|e| std::io::Error::other(format!("{e:#}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ticker = std::thread::Builder::new().name("epoch".into()).spawn({
            let (engine, stop) = (engine.clone(), stop.clone());
            move || {
                while !stop.load(Relaxed) {
                    std::thread::sleep(TICK);
                    engine.increment_epoch();
                }
            }
        })?;
        Ok(Arc::new(Self {
            engine,
            cache,
            key,
            stop,
            ticker: Some(ticker),
        }))
    }

    /// The seed for the hashes of a plugin.
    pub(crate) fn hash_seed(&self, plugin: &str) -> (u64, u64) {
        let mut sum = Sha256::new();
        sum.update(self.key.to_le_bytes());
        sum.update(plugin);
        let sum = sum.finalize();
        let mut halves = sum.chunks_exact(8).map(|half| {
            let bytes = half.iter().copied();
            bytes.fold(0, |all, byte| all << 8 | u64::from(byte))
        });
        let mut half = || halves.next().unwrap_or_default();
        (half(), half())
    }

    /// Checks and compiles a component. Takes from milliseconds to seconds of
    /// all cores: call it on a thread that may wait.
    ///
    /// # Errors
    /// What is wrong with the file, in the operator's terms.
    pub fn compile(
        &self,
        bytes: &[u8],
        grants: &Grants,
        limits: &Limits,
    ) -> Result<Arc<Compiled>, LoadError> {
        check::bytes(bytes, MAX_COMPONENT_BYTES)?;
        let component = self.component(bytes)?;
        let summary = check::component(&self.engine, &component, bytes, grants, limits)?;
        let misfit = |e: wasmtime::Error| LoadError::Interface {
            ours: check::OURS,
            why: format!("{e:#}"),
        };
        let pre = self
            .link(&component)
            .and_then(|linker| linker.instantiate_pre(&component));
        let pre = pre.map_err(misfit)?;
        Ok(Arc::new(Compiled {
            pre,
            summary,
            wasm: bytes.into(),
        }))
    }

    fn component(&self, wasm: &[u8]) -> Result<Component, LoadError> {
        let kept = self.cache.as_ref();
        if let Some(component) = kept.and_then(|cache| cache.take(&self.engine, wasm)) {
            return Ok(component);
        }
        let component = guarded(|| Component::from_binary(&self.engine, wasm))?;
        if let Some(cache) = kept {
            cache.keep(&self.engine, wasm, &component);
        }
        Ok(component)
    }

    fn link(&self, component: &Component) -> wasmtime::Result<Linker<Ctx>> {
        let mut linker = Linker::new(&self.engine);
        host::link(&mut linker)?;
        wasi::link(&mut linker, &self.engine, component)?;
        Ok(linker)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ticks that make up `time`, and one for the tick that is under way.
    pub(crate) fn ticks(time: Duration) -> u64 {
        (time.as_micros() / TICK.as_micros()) as u64 + 1
    }
}

/// Compiles; a compiler that panics on somebody's file costs that file alone.
fn guarded<T>(compile: impl FnOnce() -> wasmtime::Result<T>) -> Result<T, LoadError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(compile)) {
        Ok(compiled) => compiled.map_err(|e| LoadError::Damaged(format!("{e:#}"))),
        Err(_) => Err(LoadError::Damaged("the compiler panicked on it".into())),
    }
}

impl Compiled {
    /// Grants and limits may have changed since it was compiled.
    pub(crate) fn allowed(&self, grants: &Grants, limits: &Limits) -> Result<(), LoadError> {
        for grant in &self.summary.imports {
            if !grants.has(*grant) {
                return Err(LoadError::NotGranted {
                    import: format!("penstock:plugin/{}@{}", grant.name(), check::OURS),
                    key: grant.name(),
                });
            }
        }
        match self.summary.memory_bytes {
            Some(asked) if asked > limits.memory_bytes => Err(LoadError::Memory {
                asked,
                limit: limits.memory_bytes,
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(ticker) = self.ticker.take() {
            // It cannot have panicked: it only sleeps and counts.
            drop(ticker.join());
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled")
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_that_panics_refuses_the_file() {
        let refused = guarded(|| -> wasmtime::Result<()> { panic!("as it may") });
        assert!(matches!(refused, Err(LoadError::Damaged(why)) if why.contains("panicked")));
    }

    #[test]
    fn a_plugin_has_one_hash_seed_on_a_host_and_another_elsewhere() {
        let host = |key| Host::with_cache(None, key).unwrap();
        let (first, again, other) = (host(7), host(7), host(8));
        let seed = first.hash_seed("index");
        assert_eq!(again.hash_seed("index"), seed);
        assert_ne!(other.hash_seed("index"), seed);
        assert_ne!(first.hash_seed("other"), seed);
        assert_ne!(seed.0, seed.1);
    }
}
