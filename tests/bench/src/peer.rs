//! Dynamo's indexer in a process of its own: `tests/bench/peer`.

use crate::stream::Stream;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The process; killed when dropped.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The crate and its version.
    pub version: String,
}

/// What decoding all payloads took.
#[derive(Debug, Deserialize)]
pub struct Decoded {
    pub ns: u64,
    pub stored: u64,
    pub removed: u64,
}

/// What decoding, normalizing and applying took, and what it led to.
#[derive(Debug, Deserialize)]
pub struct Indexed {
    /// For the payloads that fill caches, and for the others.
    pub fill_ns: u64,
    pub ns: u64,
    /// Blocks of all of them.
    pub stored: u64,
    pub removed: u64,
    /// (block, source) pairs at the end.
    pub held: u64,
    /// Bytes that the process grew by.
    pub memory: u64,
}

/// Who holds some prompts.
#[derive(Debug, Deserialize)]
pub struct Found {
    /// By prompt: source and blocks, sorted.
    pub scores: Vec<Vec<(u64, u32)>>,
    pub ns: Vec<u64>,
}

#[derive(Deserialize)]
struct Loaded {
    payloads: usize,
    bytes: u64,
    version: String,
}

/// Its workspace.
fn workspace() -> PathBuf {
    penstock_testkit::root().join("tests/bench/peer")
}

/// Builds it, which takes minutes once.
fn build() -> Result<PathBuf> {
    let target = penstock_testkit::target().join("peer");
    let status = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--manifest-path",
        ])
        .arg(workspace().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .context("cannot start cargo")?;
    ensure!(
        status.success(),
        "the peer was not built: cargo ended with {status}"
    );
    Ok(target.join("release/penstock-bench-peer"))
}

impl Peer {
    /// Builds and starts it.
    pub fn start() -> Result<Self> {
        eprintln!("building the peer, once");
        let program = build()?;
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let input = child.stdin.take().context("the peer has no input")?;
        let output = child.stdout.take().context("the peer has no output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
            version: String::new(),
        })
    }

    /// Hands payloads over for all that follows.
    pub fn load(&mut self, stream: &Stream, block_size: usize) -> Result<()> {
        let file = tempfile::NamedTempFile::new().context("no temporary file")?;
        write(file.path(), stream)?;
        let request = json!({"load": {
            "file": file.path(),
            "block_size": block_size,
            "fill": stream.fill,
        }});
        let loaded: Loaded = self.ask(&request)?;
        let bytes: u64 = stream.payloads.iter().map(|(_, p)| p.len() as u64).sum();
        ensure!(
            (loaded.payloads, loaded.bytes) == (stream.payloads.len(), bytes),
            "the peer read {} payloads of {} bytes",
            loaded.payloads,
            loaded.bytes
        );
        self.version = loaded.version;
        Ok(())
    }

    /// Decodes what was loaded.
    pub fn decode(&mut self) -> Result<Decoded> {
        self.ask(&json!("decode"))
    }

    /// Decodes, normalizes and applies what was loaded to a new index.
    pub fn index(&mut self) -> Result<Indexed> {
        self.ask(&json!("index"))
    }

    /// Asks the index.
    pub fn find(&mut self, prompts: &[Vec<u32>]) -> Result<Found> {
        self.ask(&json!({"find": {"prompts": prompts}}))
    }

    fn ask<T: for<'de> Deserialize<'de>>(&mut self, request: &Value) -> Result<T> {
        writeln!(self.input, "{request}").context("the peer has ended")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the peer has ended");
        serde_json::from_str(&line).with_context(|| format!("the peer answers {line:?}"))
    }
}

/// `source u32 | length u32 | bytes`, little endian, again and again.
fn write(path: &Path, stream: &Stream) -> Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    for (source, payload) in &stream.payloads {
        out.write_all(&(*source as u32).to_le_bytes())?;
        out.write_all(&(payload.len() as u32).to_le_bytes())?;
        out.write_all(payload)?;
    }
    out.flush()?;
    Ok(())
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends by itself when its input does; this is sooner.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
