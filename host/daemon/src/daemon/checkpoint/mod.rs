//! What plugins hold, on disk: so that a daemon that was killed goes on where it was.
//!
//! ```text
//! every `checkpoint.every_s`, and at the end        at the start
//! runner ── state and positions ──> NAME/7.checkpoint ──┬─> positions of the sources:
//!                                   NAME/6.checkpoint   │   ingest shows continuity
//!                                                       └─> state: the first instance
//! ```
//! Only what leads is written. A damaged file is passed over for the one before it.
//!
//! An operator must not come back ahead of those after it: what it emitted to them before
//! is nowhere to be had again. Behind them does no harm, since they skip what they know.
//! So its file is put in its place only after theirs, which were begun later; and where
//! they are behind all the same, it begins anew.

mod carry;
mod chain;
mod file;
mod keeper;
mod key;

pub use keeper::Keeper;
pub use key::hash_key;

use super::shards::Shards;
use anyhow::{Context, Result};
use file::{Reader, Record, Writer, numbered};
use penstock_event::{Position, SourceInfo, SourceState};
use penstock_ingest::Resume;
use penstock_plugin::{At, HandoverError, Heirs, Moved, Past, State};
use penstock_route::Filter;
use std::collections::{HashMap, HashSet};
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
    /// Which streams it read.
    streams: String,
    /// Where each source stood.
    points: HashMap<String, Resume>,
}

/// What a plugin that starts wants back.
pub struct Wanted<'a> {
    pub plugin: &'a str,
    /// State, not positions alone.
    pub state: bool,
    /// The streams that it reads now.
    pub streams: String,
    /// The sources that it is to get, as they are there.
    pub sources: Vec<Arc<SourceState>>,
    /// Those after it, if it is an operator, and what each of them gets: it must not be
    /// ahead of them.
    pub readers: &'a [(String, Filter)],
}

/// A checkpoint that is written, and not in its place yet.
pub struct Draft {
    writer: Writer,
    directory: PathBuf,
    /// Where each source stands in it, by name.
    pub positions: HashMap<String, Position>,
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
        wanted: &Wanted<'_>,
        mut heirs: Heirs<'_, F>,
    ) -> Result<Option<Vec<Past>>, HandoverError> {
        let plugin = wanted.plugin;
        let found = self.lock().get(plugin).cloned();
        let Some(found) = found.filter(|found| found.state == wanted.state) else {
            return Ok(None);
        };
        if found.streams != wanted.streams {
            tracing::warn!(plugin, "read other streams before, by `after`: fed anew");
            return Ok(None);
        }
        let begun = Instant::now();
        let mut read = || -> Result<(), Wrong> {
            let mut reader = Reader::open(&found.path).map_err(Wrong::File)?;
            let mut resume = None;
            while let Some(record) = reader.record().map_err(Wrong::File)? {
                match record {
                    Record::Head { .. } | Record::End => {}
                    Record::Begin(name) => {
                        let state = wanted.sources.iter().find(|s| *s.info.name == *name);
                        let point = found.points.get(&name);
                        resume = point.cloned().zip(state.cloned());
                        resume = resume.filter(|(point, state)| {
                            point.fits(state) && !self.ahead(wanted, state, point)
                        });
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

    /// Whether an operator would come back ahead of one of those after it.
    fn ahead(&self, wanted: &Wanted<'_>, source: &SourceState, point: &Resume) -> bool {
        let all = self.lock();
        let behind = |(reader, gets): &&(String, Filter)| {
            let theirs = all
                .get(reader)
                .and_then(|found| found.points.get(&*source.info.name));
            let level = theirs.is_some_and(|p| p.mark.position >= point.mark.position);
            !level && gets.matches(&source.info)
        };
        let Some((reader, _)) = wanted.readers.iter().find(behind) else {
            return false;
        };
        let plugin = wanted.plugin;
        tracing::warn!(
            plugin,
            reader,
            source = &*source.info.name,
            "fed anew: a plugin after it does not stand where its checkpoint does"
        );
        true
    }

    /// Writes what a plugin's shards hold now: state, or positions alone. One file of all
    /// of them; what is of one that is down stays as it was in the file before. It counts
    /// once it is [put in its place](Draft::place).
    pub fn draft(&self, plugin: &str, shards: &Shards, head: (bool, &str)) -> Result<Draft> {
        let (state, streams) = head;
        let directory = self.directory.join(plugin);
        std::fs::create_dir_all(&directory).with_context(|| format!("{}", directory.display()))?;
        let mut writer = Writer::new(&directory)?;
        writer.record(&Record::Head {
            plugin: plugin.to_owned(),
            state,
            streams: streams.to_owned(),
        })?;
        let mut current = None;
        let mut positions = HashMap::new();
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
                    positions.insert(state.info.name.to_string(), position);
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
            let theirs = down.iter().flat_map(|shard| shard.reading.sources());
            let theirs: HashSet<_> = theirs.map(|source| source.info.name.clone()).collect();
            carry::over(last, &mut writer, (state, streams), |name| {
                theirs.contains(name)
            })?;
        }
        Ok(Draft {
            writer,
            directory,
            positions,
        })
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

// === impl Draft ===

impl Draft {
    /// Puts it in its place, and takes away the oldest. How many bytes it has.
    pub fn place(self) -> Result<u64> {
        let older = numbered(&self.directory);
        let next = older.first().map_or(1, |(number, _)| number + 1);
        let bytes = (self.writer).finish(&self.directory.join(format!("{next}.checkpoint")))?;
        for (_, path) in older.iter().skip(KEPT - 1) {
            // It is only in the way.
            drop(std::fs::remove_file(path));
        }
        Ok(bytes)
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
            Ok((state, streams, points)) => {
                return Some(Found {
                    path,
                    state,
                    streams,
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

fn points(path: &Path) -> Result<(bool, String, HashMap<String, Resume>)> {
    let mut reader = Reader::open(path)?;
    let (mut state, mut streams, mut points) = (false, String::new(), HashMap::new());
    while let Some(record) = reader.record()? {
        match record {
            Record::Head {
                state: has,
                streams: read,
                ..
            } => (state, streams) = (has, read),
            Record::Done(Some(resume)) => {
                points.insert(resume.source.name.clone(), resume);
            }
            _ => {}
        }
    }
    Ok((state, streams, points))
}

/// Kept with the plugins; none where nothing is to be kept.
pub type Kept = Option<Arc<Checkpoints>>;
