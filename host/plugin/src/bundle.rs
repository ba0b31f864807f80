//! A batch that was set aside, in a file with everything that is needed to handle it
//! again elsewhere.
//!
//! MessagePack, a map of the fields below. Read by `penstock plugin test --bundle`.

use crate::{Feed, Grants, Limits, Setup};
use penstock_event::{Batch, Position, SourceId, SourceInfo, SourceSpec, SourceState};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A batch that killed two instances in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// 1.
    pub version: u32,
    /// The plugin's name.
    pub plugin: String,
    /// The component.
    #[serde(with = "serde_bytes")]
    pub wasm: Vec<u8>,
    /// Its limits.
    pub limits: Limits,
    /// Its grants.
    pub grants: Grants,
    /// Its `[config]` table, as a JSON object.
    pub config: String,
    /// Names of its sinks.
    pub sinks: Vec<String>,
    /// Whose batch it is, by name.
    pub source: String,
    /// What discovery says of the source.
    pub spec: SourceSpec,
    /// Batches of the source before it, oldest first, and then itself.
    pub batches: Vec<Recent>,
    /// How the last instance ended.
    pub error: String,
}

/// A batch as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// Where it stands in its source's stream.
    pub position: Position,
    /// When it was received, µs since 1970.
    pub received_us: i64,
    /// MessagePack, as the engine wrote it.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// Batches before the one that was set aside, and their bytes at most.
const BEFORE: usize = 32;
const BEFORE_BYTES: usize = 8 << 20;

/// Files of one plugin; further batches are counted and logged alone.
const FILES: usize = 64;

// === impl Bundle ===

impl Bundle {
    pub(crate) fn of(
        setup: &Setup,
        wasm: &[u8],
        source: &SourceState,
        feed: &dyn Feed,
        batch: &Batch,
        error: String,
    ) -> Self {
        let mut bytes = 0;
        let mut batches: Vec<_> = feed
            .recent(batch.source, BEFORE)
            .into_iter()
            .rev()
            .filter(|recent| recent.position < batch.position())
            .take_while(|recent| {
                bytes += recent.payload.len();
                bytes <= BEFORE_BYTES
            })
            .collect();
        batches.reverse();
        batches.push(Recent {
            position: batch.position(),
            received_us: batch.received_us,
            payload: batch.payload.to_vec(),
        });
        Self {
            version: 1,
            plugin: setup.name.to_string(),
            wasm: wasm.to_vec(),
            limits: setup.limits.clone(),
            grants: setup.grants.clone(),
            config: setup.config.clone(),
            sinks: setup.sinks.keys().cloned().collect(),
            source: source.info.name.to_string(),
            spec: source.info.spec.clone(),
            batches,
            error,
        }
    }

    /// Writes it into a directory, whole or not at all. Its path; none: there are
    /// enough of this plugin already.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<Option<PathBuf>> {
        use std::os::unix::fs::DirBuilderExt;
        (std::fs::DirBuilder::new().recursive(true).mode(0o700)).create(directory)?;
        let prefix = format!("{}@", self.plugin);
        let ours = |entry: &io::Result<std::fs::DirEntry>| {
            let name = entry.as_ref().map(std::fs::DirEntry::file_name);
            name.is_ok_and(|name| name.to_string_lossy().starts_with(&prefix))
        };
        if std::fs::read_dir(directory)?.filter(ours).count() >= FILES {
            return Ok(None);
        }
        let at = self.batches.last().map(|b| b.position).unwrap_or_default();
        let source = self.source.replace('/', "-");
        let (epoch, sequence) = (at.epoch.0, at.sequence);
        let path = directory.join(format!("{prefix}{source}-{epoch}-{sequence}.bundle"));
        let bytes = rmp_serde::to_vec_named(self).map_err(io::Error::other)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|e| e.error)?;
        Ok(Some(path))
    }

    /// Reads one.
    ///
    /// # Errors
    /// The file cannot be read, or is none.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let bundle: Self = rmp_serde::from_slice(&bytes)
            .map_err(|e| wrong(format!("this is no file of a batch set aside: {e}")))?;
        match bundle.version {
            1 => Ok(bundle),
            other => Err(wrong(format!(
                "version {other} of bundles is not known here"
            ))),
        }
    }

    /// The source, for a run of its own.
    #[must_use]
    pub fn state(&self) -> Arc<SourceState> {
        Arc::new(SourceState::new(SourceInfo {
            id: SourceId(1),
            name: self.source.as_str().into(),
            spec: self.spec.clone(),
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use penstock_event::Epoch;

    pub(crate) fn bundle(sequence: u64) -> Bundle {
        let spec = SourceSpec {
            instance: "vllm-0".into(),
            rank: Some(1),
            endpoints: vec!["tcp://h:1".into()],
            model: "m".into(),
            block_size: 16,
            ..SourceSpec::default()
        };
        Bundle {
            version: 1,
            plugin: "index".into(),
            wasm: b"\0asm".to_vec(),
            limits: Limits::default(),
            grants: Grants::default(),
            config: "{}".into(),
            sinks: vec!["out".into()],
            source: spec.name(),
            spec,
            batches: vec![Recent {
                position: Position {
                    epoch: Epoch(2),
                    sequence,
                },
                received_us: 5,
                payload: vec![0x93],
            }],
            error: "trap".into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let home = tempfile::tempdir().unwrap();
        let path = bundle(7).write(&home.path().join("new")).unwrap().unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(name, "index@vllm-0-dp1-2-7.bundle");
        assert_eq!(Bundle::read(&path).unwrap(), bundle(7));
        assert_eq!(&*bundle(7).state().info.name, "vllm-0/dp1");
        std::fs::write(&path, b"what").unwrap();
        let error = Bundle::read(&path).unwrap_err().to_string();
        assert!(error.contains("no file of a batch set aside"), "{error}");
    }

    #[test]
    fn a_plugin_fills_no_disk() {
        let home = tempfile::tempdir().unwrap();
        for sequence in 0..FILES as u64 {
            assert!(bundle(sequence).write(home.path()).unwrap().is_some());
        }
        assert_eq!(bundle(999).write(home.path()).unwrap(), None);
        let mut other = bundle(999);
        other.plugin = "other".into();
        assert!(other.write(home.path()).unwrap().is_some());
    }
}
