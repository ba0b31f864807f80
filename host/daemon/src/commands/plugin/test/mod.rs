//! `penstock plugin test`: recordings in, and what the plugin does compared with what it
//! is expected to do.
//!
//! ```text
//! tests/NAME.frames   a recording of an engine
//! tests/NAME.toml     what is asked meanwhile (may be absent): see `script`
//! tests/NAME.expected what the plugin does, line by line: see `transcript`
//! ```

mod bundle;
mod script;
mod transcript;
mod words;

use super::build;
use super::settings::Settings;
use super::stage::Stage;
use super::stream;
use crate::commands::print::{Out, note};
use anyhow::{Context, Result, bail};
use script::Script;
use serde::Serialize;
use similar::TextDiff;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of `penstock plugin test`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock plugin test                      # builds the crate here, runs tests/*.frames
  penstock plugin test --update             # writes what it does as what is expected
  penstock plugin test --bundle state/set-aside/index@vllm-0-0-4711.bundle
  penstock plugin test --path by-adapter target/wasm32-wasip2/release/by_adapter.wasm

  penstock capture tcp://10.0.0.7:5557 -o tests/busy.frames --count 50   # a new test

Every .frames file is one source named `engine`, through the ordering, the decoder and
the limits of the daemon. `NAME.toml` beside it asks questions meanwhile:

  model = \"m\"                # of the source
  [[ask]]
  after = 3                  # batches handed over before; left out: after all
  tokens = [1, 2, 3, 4]      # or token_hashes, engine_hashes; model, adapter, salt
  [[ask]]
  request = \"bytes\"
  [[ask]]
  tick = true

A bundle is a batch that the daemon set aside, since it killed the plugin twice: it is
handed to a new instance of the same component, or of FILE, after the batches before it.

Exit codes: 0 everything as expected; 1 something differs, or could not be run; 64 a
mistake in the plugin's TOML file.")]
pub struct Args {
    /// The component. Left out: the crate is built.
    file: Option<PathBuf>,
    /// The crate: its tests are in `tests`, its grants, limits and config in NAME.toml.
    #[arg(long, default_value = ".")]
    path: PathBuf,
    /// Show a batch that was set aside again, instead of running recordings.
    #[arg(long, conflicts_with_all = ["update", "path"])]
    bundle: Option<PathBuf>,
    /// Write what the plugin does as what is expected, instead of comparing.
    #[arg(long)]
    update: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What became of one recording.
#[derive(Serialize)]
struct Verdict {
    name: String,
    passed: bool,
    written: bool,
    /// A unified diff, from what is expected to what is.
    diff: Option<String>,
    error: Option<String>,
}

/// Runs every recording.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(bundle) = &args.bundle {
        return bundle::run(bundle, args.file.as_deref(), args.json);
    }
    let tests = args.path.join("tests");
    let recordings = recordings(&tests)?;
    let toml = build::toml(&args.path)?;
    let file = match &args.file {
        Some(file) => file.clone(),
        None => build::build(&args.path)?,
    };
    let mut settings = Settings::read(&file, toml.as_deref())?;
    // By time, and so of chance: a machine that stalls must not change a verdict.
    settings.file.limits.log_lines_per_s = u32::MAX;
    let stage = Stage::open(&file, settings)?;
    let mut verdicts = Vec::new();
    for recording in &recordings {
        verdicts.push(judge(&stage, &file, recording, args.update));
    }
    let mut out = Out::new();
    match args.json {
        true => out.line(serde_json::to_string_pretty(&verdicts)?)?,
        false => print(&mut out, &verdicts, &tests)?,
    }
    out.end()?;
    Ok(match verdicts.iter().all(|v| v.passed) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn recordings(tests: &Path) -> Result<Vec<PathBuf>> {
    let at = tests.display();
    let entries = std::fs::read_dir(tests)
        .with_context(|| format!("{at}: cannot be read; `--path` names the plugin's crate"))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("{at}: cannot be read"))?
            .path();
        if path.extension().is_some_and(|e| e == "frames") {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        bail!(
            "{at} holds no .frames file; record one: penstock capture tcp://HOST:5557 -o \
             {at}/first.frames --count 50"
        );
    }
    Ok(found)
}

fn judge(stage: &Stage, file: &Path, recording: &Path, update: bool) -> Verdict {
    let stem = recording.file_stem().unwrap_or_default();
    let mut verdict = Verdict {
        name: stem.to_string_lossy().into_owned(),
        passed: true,
        written: false,
        diff: None,
        error: None,
    };
    match compare(stage, file, recording, update) {
        Ok(None) => verdict.written = update,
        Ok(Some(diff)) => (verdict.passed, verdict.diff) = (false, Some(diff)),
        Err(error) => {
            verdict.passed = false;
            verdict.error = Some(crate::commands::print::causes(&error));
        }
    }
    verdict
}

/// The difference, if there is one.
fn compare(stage: &Stage, file: &Path, recording: &Path, update: bool) -> Result<Option<String>> {
    let script = Script::read(&recording.with_extension("toml"))?;
    let messages = stream::read(recording)?;
    let is = transcript::of(stage, file, messages, &script)?;
    let path = recording.with_extension("expected");
    let at = path.display();
    if update {
        std::fs::write(&path, is).with_context(|| format!("{at}: cannot be written"))?;
        return Ok(None);
    }
    let expected = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            bail!("{at} is missing; `penstock plugin test --update` writes it")
        }
        read => read.with_context(|| format!("{at}: cannot be read"))?,
    };
    if expected == is {
        return Ok(None);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let diff = TextDiff::from_lines(&expected, &is);
    let mut unified = diff.unified_diff();
    let unified = unified.context_radius(3).header(&name, "what it did");
    Ok(Some(unified.to_string()))
}

fn print(out: &mut Out, verdicts: &[Verdict], tests: &Path) -> Result<()> {
    for verdict in verdicts {
        let word = match (verdict.passed, verdict.written) {
            (true, true) => "written",
            (true, false) => "ok",
            (false, _) => "FAILED",
        };
        out.line(format_args!("{} ... {word}", verdict.name))?;
        for text in [&verdict.diff, &verdict.error].into_iter().flatten() {
            out.line(text.trim_end())?;
        }
    }
    let failed = verdicts.iter().filter(|v| !v.passed).count();
    if failed > 0 {
        note(format_args!(
            "penstock: {failed} of {} differ from what {} expects; where the plugin is right, \
             `--update` writes it",
            verdicts.len(),
            tests.display()
        ));
    }
    Ok(())
}
