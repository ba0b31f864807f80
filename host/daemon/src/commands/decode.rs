use anyhow::{Context, Result};
use penstock_decode::{Limits, json::Renderer};
use penstock_peer::frames::{FramesReader, batch};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `penstock decode`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  penstock decode engine.frames | head -1")]
pub struct Args {
    /// The recording, as `penstock capture` writes it.
    file: PathBuf,
}

/// One JSON object an event; a bad event or message is one of kind `error`.
pub fn run(args: &Args) -> Result<ExitCode> {
    let reader = FramesReader::open(&args.file)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut renderer = Renderer::new(Limits::default());
    for message in reader {
        let message = message?;
        let lines = match batch(&message) {
            Ok(batch) => renderer.lines(batch.sequence, &batch.payload),
            Err(why) => vec![serde_json::json!({"seq": null, "kind": "error", "error": why})],
        };
        for line in lines {
            match writeln!(out, "{line}") {
                // The reader of a pipe has seen enough.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                done => done.context("cannot write")?,
            }
        }
    }
    match out.flush() {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
        done => done.context("cannot write")?,
    }
    Ok(ExitCode::SUCCESS)
}
