//! What plugins hold, on disk: so that a daemon that was killed goes on where it was.
//!
//! ```text
//! every `checkpoint.every_s`, and at the end        at the start
//! runner ── state and positions ──> NAME/7.checkpoint ──┬─> positions of the sources:
//!                                   NAME/6.checkpoint   │   ingest shows continuity
//!                                                       └─> state: the first instance
//! ```
//! Only what leads is written. A damaged file is passed over for the one before it.

mod carry;
mod file;
mod keeper;
mod key;

pub use keeper::Keeper;
pub use key::hash_key;

use super::shards::Shards;
use anyhow::{Context, Result};
use file::{Reader, Record, Writer, numbered};
use penstock_event::SourceInfo;
use penstock_ingest::{Resume, Sources};
use penstock_plugin::{At, HandoverError, Heirs, Moved, Past, State};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The checkpoints of all plugins.
pub struct Checkpoints {
    directory: PathBuf,
    /// What was found at the start, until its plugin has taken it.
    found: Mutex<HashMap<String, Found>>,
}

/// A plugin's newest whole checkpoint.
#[derive(Clone)]
struct Found {
    path: PathBuf,
    /// There is state, not positions alone.
    state: bool,
    /// Where each source stood.
    points: HashMap<String, Resume>,
}

/// Files kept of each plugin.
const KEPT: usize = 2;

/// How long a plugin may take to hand its state out.
const PATIENCE: Duration = Duration::from_secs(60);

// === impl Checkpoints ===

impl Checkpoints {
    /// Looks what a daemon before this one left.
    pub fn open(state_dir: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let directory = state_dir.join("checkpoints");
        let mut builder = std::fs::DirBuilder::new();
        (builder.recursive(true).mode(0o700).create(&directory))
            .with_context(|| format!("{}", directory.display()))?;
        let mut found = HashMap::new();
        for entry in std::fs::read_dir(&directory)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            clear(&entry.path());
            if let Some(newest) = newest(&entry.path()) {
                found.insert(name, newest);
            }
        }
        Ok(Self {
            directory,
            found: Mutex::new(found),
        })
    }

    /// Where sources were left.
    pub fn points(&self) -> Vec<Resume> {
        let found = self.lock();
        let points = found.values().flat_map(|f| f.points.values().cloned());
        points.collect()
    }

    /// Gives candidates what their plugin held, each of the sources that it is to get. As
    /// many shards as were written need not come back. None: there is nothing.
    pub fn restore<F: Fn(&SourceInfo) -> Option<usize>>(
        &self,
        plugin: &str,
        mut heirs: Heirs<'_, F>,
        sources: &Sources,
        state: bool,
    ) -> Result<Option<Vec<Past>>, HandoverError> {
        let found = self.lock().get(plugin).cloned();
        let Some(found) = found.filter(|found| found.state == state) else {
            return Ok(None);
        };
        let begun = Instant::now();
        let mut read = || -> Result<(), Wrong> {
            let mut reader = Reader::open(&found.path).map_err(Wrong::File)?;
            let mut resume = None;
            while let Some(record) = reader.record().map_err(Wrong::File)? {
                match record {
                    Record::Head { .. } | Record::End => {}
                    Record::Begin(name) => {
                        let state = sources.by_name(&name);
                        let point = found.points.get(&name);
                        resume = point.cloned().zip(state);
                        resume = resume.filter(|(point, state)| point.fits(state));
                        if let Some((_, state)) = &resume {
                            heirs.take(Moved::Begin(state.clone()))?;
                        }
                    }
                    Record::Piece(schema, bytes) => {
                        if resume.is_some() {
                            heirs.take(Moved::Piece(schema, bytes))?;
                        }
                    }
                    Record::Done(_) => {
                        if let Some((point, _)) = resume.take() {
                            heirs.take(Moved::Done(At {
                                position: Some(point.mark.position),
                                digest: Some(point.mark.digest),
                                complete: point.complete,
                            }))?;
                        }
                    }
                }
            }
            Ok(())
        };
        match read() {
            Ok(()) => {}
            Err(Wrong::Plugin(error)) => return Err(error),
            Err(Wrong::File(error)) => {
                // It was whole a moment ago: what was read of it so far is right.
                tracing::error!(plugin, "checkpoint {}: {error:#}", found.path.display());
            }
        }
        let pasts = heirs.end()?;
        let of: usize = pasts.iter().map(|past| past.positions.len()).sum();
        let took = begun.elapsed();
        tracing::info!(
            plugin,
            sources = of,
            "restored from a checkpoint in {took:?}"
        );
        for (source, why) in pasts.iter().flat_map(|past| &past.anew) {
            tracing::warn!(plugin, %source, "state not restored, fed anew: {why}");
        }
        Ok(Some(pasts))
    }

    /// A plugin runs: what it held before is of no use any more.
    pub fn taken(&self, plugin: &str) {
        self.lock().remove(plugin);
    }

    /// Writes what a plugin's shards hold now: state, or positions alone. One file of
    /// all of them; what is of one that is down stays as it was in the file before.
    pub fn write(
        &self,
        plugin: &str,
        shards: &Shards,
        sources: &Sources,
        state: bool,
    ) -> Result<u64> {
        let directory = self.directory.join(plugin);
        std::fs::create_dir_all(&directory).with_context(|| format!("{}", directory.display()))?;
        let mut writer = Writer::new(&directory)?;
        let plugin = plugin.to_owned();
        writer.record(&Record::Head { plugin, state })?;
        let mut current = None;
        let mut write = |writer: &mut Writer, moved| {
            let record = match moved {
                Moved::Begin(state) => {
                    let name = state.info.name.to_string();
                    current = Some(state);
                    Record::Begin(name)
                }
                Moved::Piece(schema, bytes) => Record::Piece(schema, bytes),
                Moved::Done(at) => Record::Done(current.take().and_then(|state| {
                    let (position, digest) = (at.position?, at.digest?);
                    let mark = penstock_event::Mark { position, digest };
                    Some(Resume::of(&state, mark, at.complete))
                })),
                Moved::Refused(why) => {
                    tracing::warn!("a source's state cannot be kept: {why}");
                    Record::Done(None)
                }
                Moved::End => return Ok(()),
            };
            writer.record(&record)
        };
        let until = Instant::now() + PATIENCE;
        let (up, down): (Vec<_>, Vec<_>) =
            (shards.list.iter()).partition(|shard| shard.runner.status().state == State::Running);
        anyhow::ensure!(!up.is_empty(), "the plugin is down");
        for shard in up {
            let left = until.saturating_duration_since(Instant::now());
            let whole = (shard.runner).copy(left, |moved| write(&mut writer, moved))?;
            anyhow::ensure!(whole, "the plugin ended, or was too slow");
        }
        let older = numbered(&directory);
        if let Some((_, last)) = older.first().filter(|_| !down.is_empty()) {
            carry::over(last, &mut writer, state, |source| {
                let known = sources.by_name(source);
                known.is_some_and(|s| down.iter().any(|shard| shard.filter.matches(&s.info)))
            })?;
        }
        let next = older.first().map_or(1, |(number, _)| number + 1);
        let bytes = writer.finish(&directory.join(format!("{next}.checkpoint")))?;
        for (_, path) in older.iter().skip(KEPT - 1) {
            // It is only in the way.
            drop(std::fs::remove_file(path));
        }
        Ok(bytes)
    }

    /// A plugin was removed: what it held is not wanted any more.
    pub fn forget(&self, plugin: &str) {
        self.lock().remove(plugin);
        let directory = self.directory.join(plugin);
        if directory.exists()
            && let Err(error) = std::fs::remove_dir_all(&directory)
        {
            tracing::warn!(plugin, "its checkpoints cannot be removed: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What went wrong in a restore.
enum Wrong {
    Plugin(HandoverError),
    File(anyhow::Error),
}

impl From<HandoverError> for Wrong {
    fn from(error: HandoverError) -> Self {
        Self::Plugin(error)
    }
}

/// A plugin's newest checkpoint that is whole.
fn newest(directory: &Path) -> Option<Found> {
    for (_, path) in numbered(directory) {
        match points(&path) {
            Ok((state, points)) => {
                return Some(Found {
                    path,
                    state,
                    points,
                });
            }
            Err(error) => {
                tracing::error!(
                    file = %path.display(),
                    "this checkpoint is damaged, the one before it is used: {error:#}"
                );
                metrics::counter!("penstock_checkpoints_damaged_total").increment(1);
                // Kept for those who want to know, and not counted as one of the last.
                drop(std::fs::rename(&path, path.with_extension("damaged")));
            }
        }
    }
    None
}

/// Removes what a daemon that was killed had not finished.
fn clear(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".new-") {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

fn points(path: &Path) -> Result<(bool, HashMap<String, Resume>)> {
    let mut reader = Reader::open(path)?;
    let (mut state, mut points) = (false, HashMap::new());
    while let Some(record) = reader.record()? {
        match record {
            Record::Head { state: has, .. } => state = has,
            Record::Done(Some(resume)) => {
                points.insert(resume.source.name.clone(), resume);
            }
            _ => {}
        }
    }
    Ok((state, points))
}

/// Kept with the plugins; none where nothing is to be kept.
pub type Kept = Option<Arc<Checkpoints>>;
