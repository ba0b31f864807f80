//! Compiled components on disk, so that a start does not compile what it compiled
//! before.
//!
//! Compiled code is run as it is: whoever can write here runs what they like as the
//! daemon. So the directory must be the daemon's own (mode 0700, its user), files are
//! written whole or not at all and never over another, each begins with a digest of
//! the rest, and its name holds the component's digest and the engine's, so that
//! another build of the daemon does not take it.

use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Files kept; those not used for longest go first.
const KEPT: usize = 64;

/// Bytes of the digest that a file begins with.
const HEAD: usize = 32;

/// A directory of compiled components.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

// === impl Cache ===

impl Cache {
    /// Opens the directory, which is made if need be.
    ///
    /// # Errors
    /// It cannot be made, or it is not the daemon's own.
    pub fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let meta = fs::symlink_metadata(directory)?;
        let ours = meta.uid() == rustix::process::geteuid().as_raw();
        if !meta.is_dir() || !ours {
            let why = "it is no directory of this user's";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        if meta.mode() & 0o077 != 0 {
            fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        }
        Ok(Self {
            directory: directory.to_path_buf(),
        })
    }

    /// A component compiled before; none when there is none, or it is damaged.
    pub(crate) fn take(&self, engine: &Engine, wasm: &[u8]) -> Option<Component> {
        let path = self.path(engine, wasm);
        let bytes = fs::read(&path).ok()?;
        let compiled = whole(&bytes).and_then(|code| deserialize(engine, code));
        match &compiled {
            // Its time is that of its last use. No matter if it cannot be set.
            Some(_) => drop(fs::File::open(&path).and_then(|f| f.set_modified(SystemTime::now()))),
            None => {
                tracing::warn!(file = %path.display(), "damaged; the plugin is compiled anew");
                drop(fs::remove_file(&path));
            }
        }
        compiled
    }

    /// Keeps a component. It is kept or it is not: nothing depends on it.
    pub(crate) fn keep(&self, engine: &Engine, wasm: &[u8], component: &Component) {
        let kept = component
            .serialize()
            .map_err(|e| io::Error::other(format!("{e:#}")))
            .and_then(|code| self.write(&self.path(engine, wasm), &code));
        match kept {
            Ok(()) => self.prune(),
            Err(error) => tracing::warn!(
                directory = %self.directory.display(),
                "a compiled plugin cannot be kept: {error}"
            ),
        }
    }

    fn path(&self, engine: &Engine, wasm: &[u8]) -> PathBuf {
        let mut build = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut build);
        let name = format!("{}-{:016x}.cwasm", crate::sha256(wasm), build.finish());
        self.directory.join(name)
    }

    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(()),
            // Somebody else was first.
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e.error),
        }
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        let mut files: Vec<_> = entries
            .filter_map(|e| {
                let path = e.ok()?.path();
                let used = fs::metadata(&path).ok()?.modified().ok()?;
                let ours = path.extension().is_some_and(|e| e == "cwasm");
                ours.then_some((used, path))
            })
            .collect();
        files.sort_unstable();
        let over = files.len().saturating_sub(KEPT);
        for (_, path) in files.into_iter().take(over) {
            drop(fs::remove_file(path));
        }
    }
}

/// The code behind the digest, if it is as it was written.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (digest, code) = bytes.split_at_checked(HEAD)?;
    (*Sha256::digest(code) == *digest).then_some(code)
}

// Sound as far as the code is what this daemon's own engine made: it was read from
// a directory that only this user can write to, under a name made of the engine's
// hash, and it has the digest it was written with.
#[allow(unsafe_code)]
fn deserialize(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: see above.
    unsafe { Component::deserialize(engine, code) }.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component() -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/base.wasm");
        fs::read(path).unwrap()
    }

    fn files(cache: &Cache) -> Vec<PathBuf> {
        let entries = fs::read_dir(&cache.directory).unwrap();
        entries.map(|e| e.unwrap().path()).collect()
    }

    #[test]
    fn what_was_kept_is_taken_unless_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("a/b")).unwrap();
        let mode = fs::metadata(&cache.directory).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        let (engine, wasm) = (Engine::default(), component());
        assert!(cache.take(&engine, &wasm).is_none());
        let compiled = Component::from_binary(&engine, &wasm).unwrap();
        cache.keep(&engine, &wasm, &compiled);
        cache.keep(&engine, &wasm, &compiled);
        assert_eq!(files(&cache).len(), 1, "nothing is left beside it");
        assert!(cache.take(&engine, &wasm).is_some());

        // Another engine does not take it.
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let other = Engine::new(&config).unwrap();
        assert!(cache.take(&other, &wasm).is_none());

        let file = &files(&cache)[0];
        let whole = fs::read(file).unwrap();
        for damage in [0, HEAD, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[damage] ^= 1;
            fs::write(file, bytes).unwrap();
            assert!(cache.take(&engine, &wasm).is_none(), "byte {damage}");
            assert!(!file.exists(), "it is not tried again");
        }
        fs::write(file, &whole[..10]).unwrap();
        assert!(cache.take(&engine, &wasm).is_none());
    }

    #[test]
    fn the_directory_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let cache = Cache::open(&open).unwrap();
        assert_eq!(fs::metadata(&open).unwrap().mode() & 0o777, 0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&cache.directory, &link).unwrap();
        assert!(Cache::open(&link).is_err(), "a link is somebody's choice");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Cache::open(&file).is_err());
    }

    #[test]
    fn the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        for i in 0..KEPT as u64 + 5 {
            let path = dir.path().join(format!("{i:03}.cwasm"));
            fs::write(&path, "").unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(i);
            file.set_modified(time).unwrap();
        }
        cache.prune();
        let left = files(&cache);
        assert_eq!(left.len(), KEPT);
        assert!(!left.contains(&dir.path().join("004.cwasm")));
    }
}
