use super::print::Out;
use anyhow::Result;
use penstock_decode::{Limits, json::Renderer};
use penstock_peer::frames::{FramesReader, batch};
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
    let mut out = Out::new();
    let mut renderer = Renderer::new(Limits::default());
    for message in reader {
        let message = message?;
        let lines = match batch(&message) {
            Ok(batch) => renderer.lines(batch.sequence, &batch.payload),
            Err(why) => vec![serde_json::json!({"seq": null, "kind": "error", "error": why})],
        };
        for line in lines {
            out.line(line)?;
        }
        if out.closed() {
            break;
        }
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}
