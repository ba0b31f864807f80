//! The plugin directory: what lies there, and whether it has settled.
//!
//! File events are hints; this scan is the truth. A plugin is `NAME.wasm` with an
//! optional `NAME.toml`, or a directory `NAME/` with `plugin.wasm` and an optional
//! `plugin.toml`. Symbolic links are followed, so that the swap of a Kubernetes
//! ConfigMap shows as a change of its files.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a file must lie still before it is read.
const SETTLE: Duration = Duration::from_millis(200);

/// What a file was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// A plugin's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub wasm: PathBuf,
    pub toml: PathBuf,
    pub stamps: (Stamp, Option<Stamp>),
}

/// The directory over time.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    seen: BTreeMap<String, (Found, Instant)>,
    /// Since when those seen before are not there.
    gone: BTreeMap<String, Instant>,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Plugins whose files lie still.
    pub settled: BTreeMap<String, Found>,
    /// Some files still move: look again soon.
    pub moving: bool,
    /// Files that are no plugin, and why.
    pub odd: BTreeMap<String, String>,
    /// Names that stand for more than one plugin, and why: what runs goes on.
    pub doubtful: BTreeMap<String, String>,
    /// All names there are, settled or not.
    pub names: Vec<String>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

impl Directory {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: BTreeMap::new(),
            gone: BTreeMap::new(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at every file. With `at_once`, what lies there counts as settled: at
    /// start nobody is expected to be half way through a copy.
    pub fn scan(&mut self, now: Instant, at_once: bool) -> io::Result<Scan> {
        let mut scan = Scan::default();
        let mut found = BTreeMap::new();
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            // A directory that is not there yet holds nothing yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.seen.clear();
                return Ok(scan);
            }
            Err(e) => return Err(e),
        };
        let (mut configs, mut folders) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = entry?.path();
            let Some(file) = path.file_name().and_then(|n| n.to_str()) else {
                continue;
            };
            if file.starts_with('.') {
                continue;
            }
            // A file that goes while it is looked at is gone: the next scan tells.
            let Ok(meta) = std::fs::metadata(&path) else {
                continue;
            };
            if meta.is_dir() {
                let name = file.to_string();
                match plugin(path.join("plugin.wasm"), path.join("plugin.toml")) {
                    Some(plugin) => folders.push((name, plugin)),
                    None => drop(scan.odd.insert(name, "holds no plugin.wasm".into())),
                }
            } else if let Some(name) = file.strip_suffix(".wasm") {
                if let Some(plugin) = plugin(path.clone(), path.with_extension("toml")) {
                    found.insert(name.to_string(), plugin);
                }
            } else if let Some(name) = file.strip_suffix(".toml") {
                configs.push(name.to_string());
            }
        }
        for (name, plugin) in folders {
            if found.remove(&name).is_some() {
                let why = format!("both {name}.wasm and {name}/ are there; remove one of them");
                scan.doubtful.insert(name, why);
            } else {
                found.insert(name, plugin);
            }
        }
        for name in configs {
            if !found.contains_key(&name) && !scan.doubtful.contains_key(&name) {
                scan.odd.insert(
                    name.clone(),
                    format!("{name}.toml has no {name}.wasm beside it"),
                );
            }
        }
        self.settle(found, now, at_once, &mut scan);
        Ok(scan)
    }

    fn settle(
        &mut self,
        found: BTreeMap<String, Found>,
        now: Instant,
        at_once: bool,
        scan: &mut Scan,
    ) {
        let mut seen = BTreeMap::new();
        for (name, plugin) in found {
            if !valid(&name) {
                let why = "a plugin's name is made of a-z, A-Z, 0-9, `-`, `_` and `.`";
                scan.odd.insert(name, why.into());
                continue;
            }
            let since = match self.seen.remove(&name) {
                Some((before, since)) if before == plugin => since,
                _ => now,
            };
            if at_once || now.duration_since(since) >= SETTLE {
                scan.settled.insert(name.clone(), plugin.clone());
            } else {
                scan.moving = true;
            }
            self.gone.remove(&name);
            scan.names.push(name.clone());
            seen.insert(name, (plugin, since));
        }
        for (name, before) in std::mem::take(&mut self.seen) {
            let since = *self.gone.entry(name.clone()).or_insert(now);
            if at_once || now.duration_since(since) >= SETTLE {
                self.gone.remove(&name);
                continue;
            }
            // Removed to be put back, perhaps.
            scan.moving = true;
            scan.names.push(name.clone());
            seen.insert(name, before);
        }
        scan.names.extend(scan.doubtful.keys().cloned());
        self.seen = seen;
    }
}

fn plugin(wasm: PathBuf, toml: PathBuf) -> Option<Found> {
    let stamp = Stamp::of(&std::fs::metadata(&wasm).ok()?);
    // A link that leads nowhere is there, and cannot be read: that is said then.
    let config = std::fs::metadata(&toml).or_else(|_| std::fs::symlink_metadata(&toml));
    let config = config.ok().map(|m| Stamp::of(&m));
    Some(Found {
        wasm,
        toml,
        stamps: (stamp, config),
    })
}

fn valid(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 128 && name.chars().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(scan: &Scan) -> Vec<&str> {
        scan.settled.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_file_counts_once_it_lies_still() {
        let dir = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(dir.path().into());
        let start = Instant::now();
        fs::write(dir.path().join("a.wasm"), "1").unwrap();
        let scan = directory.scan(start, false).unwrap();
        assert!(scan.moving && scan.settled.is_empty());
        fs::write(dir.path().join("a.wasm"), "12").unwrap();
        let scan = directory.scan(start + SETTLE, false).unwrap();
        assert!(scan.moving, "it grew meanwhile");
        let scan = directory.scan(start + SETTLE * 2, false).unwrap();
        assert_eq!(names(&scan), ["a"]);
        assert!(!scan.moving);
        fs::remove_file(dir.path().join("a.wasm")).unwrap();
        let scan = directory.scan(start + SETTLE * 3, false).unwrap();
        assert!(scan.moving && scan.names == ["a"], "it may come back");
        fs::write(dir.path().join("a.wasm"), "123").unwrap();
        let scan = directory.scan(start + SETTLE * 4, false).unwrap();
        assert!(scan.moving && scan.names == ["a"]);
        fs::remove_file(dir.path().join("a.wasm")).unwrap();
        directory.scan(start + SETTLE * 5, false).unwrap();
        let scan = directory.scan(start + SETTLE * 6, false).unwrap();
        assert!(!scan.moving && scan.names.is_empty());
    }

    #[test]
    fn two_for_one_name_and_links_to_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a.wasm"), "1").unwrap();
        fs::write(at("a.toml"), "").unwrap();
        fs::create_dir(at("a")).unwrap();
        fs::write(at("a/plugin.wasm"), "2").unwrap();
        fs::write(at("b.wasm"), "1").unwrap();
        std::os::unix::fs::symlink("nowhere", at("b.toml")).unwrap();
        let mut directory = Directory::new(dir.path().into());
        let scan = directory.scan(Instant::now(), true).unwrap();
        assert!(scan.doubtful["a"].contains("both"), "{scan:?}");
        assert!(scan.odd.is_empty() && scan.names.contains(&"a".into()));
        assert!(scan.settled["b"].stamps.1.is_some(), "its pin may be there");
    }

    #[test]
    fn directories_links_and_strays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("whole")).unwrap();
        fs::write(at("whole/plugin.wasm"), "1").unwrap();
        fs::create_dir(at("empty")).unwrap();
        fs::write(at("lost.toml"), "").unwrap();
        fs::write(at(".hidden.wasm"), "").unwrap();
        fs::write(at("bad name.wasm"), "").unwrap();
        fs::create_dir(at("..data")).unwrap();
        fs::write(at("..data/p.wasm"), "1").unwrap();
        std::os::unix::fs::symlink("..data/p.wasm", at("p.wasm")).unwrap();
        let mut directory = Directory::new(dir.path().into());
        let scan = directory.scan(Instant::now(), true).unwrap();
        assert_eq!(names(&scan), ["p", "whole"]);
        let odd: Vec<_> = scan.odd.keys().map(String::as_str).collect();
        assert_eq!(odd, ["bad name", "empty", "lost"]);

        let before = scan.settled["p"].clone();
        fs::create_dir(at("..next")).unwrap();
        fs::write(at("..next/p.wasm"), "1").unwrap();
        fs::remove_dir_all(at("..data")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
        let scan = directory.scan(Instant::now(), true).unwrap();
        assert_ne!(scan.settled["p"], before, "the link leads elsewhere now");
    }
}
