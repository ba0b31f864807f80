//! A batch that was set aside, handed to an instance again.

use crate::commands::plugin::stage::{self, Nowhere};
use crate::commands::print::Out;
use anyhow::{Context, Result};
use bytes::Bytes;
use penstock_decode::Limits;
use penstock_event::{Change, Pool, Position, Publish};
use penstock_ingest::{BatchMaker, Undecoded};
use penstock_plugin::{Bundle, CallError, Candidate, Host, Instance, Setup};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// What became of one of its batches.
#[derive(Serialize)]
struct Handled {
    position: String,
    bytes: usize,
    events: usize,
    refused: usize,
    error: Option<String>,
}

/// What is said.
#[derive(Serialize)]
struct Verdict {
    plugin: String,
    source: String,
    /// How it ended in the daemon.
    then: String,
    /// The same component, or another one.
    same: bool,
    batches: Vec<Handled>,
    /// The batch that was set aside was handled this time.
    passed: bool,
}

/// Hands the batches over. The exit code is 1 if the last one kills again.
pub fn run(file: &Path, component: Option<&Path>, json: bool) -> Result<ExitCode> {
    let bundle = Bundle::read(file).with_context(|| file.display().to_string())?;
    let wasm = match component {
        Some(component) => stage::read(component)?,
        None => bundle.wasm.clone(),
    };
    let host = Host::new()?;
    let compiled = host.compile(&wasm, &bundle.grants, &bundle.limits)?;
    let config: serde_json::Value = serde_json::from_str(&bundle.config)?;
    let sinks = bundle.sinks.iter();
    let sinks = sinks.map(|name| (name.clone(), Arc::new(Nowhere) as Arc<dyn Publish>));
    let setup = Setup::new(
        &bundle.plugin,
        bundle.limits.clone(),
        bundle.grants.clone(),
        config.as_object(),
        sinks.collect(),
    );
    let mut instance = Candidate::prepare(&host, &compiled, &setup)?.into_instance();
    let batches = replay(&bundle, &mut instance)?;
    let verdict = Verdict {
        passed: batches.last().is_some_and(|last| last.error.is_none()),
        same: wasm == bundle.wasm,
        plugin: bundle.plugin,
        source: bundle.source,
        then: bundle.error,
        batches,
    };
    let mut out = Out::new();
    match json {
        true => out.line(serde_json::to_string_pretty(&verdict)?)?,
        false => print(&mut out, &verdict)?,
    }
    out.end()?;
    Ok(match verdict.passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn replay(bundle: &Bundle, instance: &mut Instance) -> Result<Vec<Handled>, CallError> {
    let state = bundle.state();
    let mut maker = BatchMaker::new(Limits::default(), Pool::new(4));
    instance.on_source(&Change::Joined(state.clone()))?;
    let mut handled = Vec::new();
    for recent in &bundle.batches {
        let Position { epoch, sequence } = recent.position;
        let payload = Bytes::copy_from_slice(&recent.payload);
        let raw = Undecoded {
            epoch,
            sequence,
            digest: penstock_event::digest(&payload),
            payload,
            received_us: recent.received_us,
            replayed: false,
        };
        let mut line = Handled {
            position: recent.position.to_string(),
            bytes: recent.payload.len(),
            events: 0,
            refused: 0,
            error: None,
        };
        match maker.make(&state, raw, instance.wants()) {
            Ok(batch) => {
                line.events = batch.columns.len();
                match instance.on_batch(&batch) {
                    Ok(refused) => line.refused = refused.len(),
                    Err(error) => line.error = Some(error.to_string()),
                }
            }
            Err(error) => line.error = Some(format!("cannot be decoded: {error}")),
        }
        let dead = line.error.is_some();
        handled.push(line);
        if dead {
            break;
        }
    }
    Ok(handled)
}

fn print(out: &mut Out, verdict: &Verdict) -> Result<()> {
    let build = match verdict.same {
        true => "the component that it killed",
        false => "another component",
    };
    out.line(format_args!(
        "{}, batches of {}, in {build}; then: {}",
        verdict.plugin, verdict.source, verdict.then
    ))?;
    for batch in &verdict.batches {
        let (position, events, bytes) = (&batch.position, batch.events, batch.bytes);
        let end = match &batch.error {
            Some(error) => error.clone(),
            None if batch.refused > 0 => format!("handled, {} refused", batch.refused),
            None => "handled".into(),
        };
        out.line(format_args!(
            "batch {position}: {events} event(s), {bytes} bytes: {end}"
        ))?;
    }
    out.line(match verdict.passed {
        true => "the batch that was set aside is handled",
        false => "it is not handled",
    })
}
