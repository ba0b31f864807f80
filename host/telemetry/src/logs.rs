use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What `debug` alone does not mean.
const QUIET: &str = "cranelift=info,cranelift_codegen=info,regalloc2=info,wasmtime=info,\
     wasmtime_internal_cranelift=info,wasmtime_cranelift=info,hyper=info";

/// Sets the log up: to standard error, at `filter` (`info`, or
/// `penstock_ingest=debug,info`). Only the first call counts.
///
/// # Errors
/// The filter cannot be read.
pub fn init(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = read(filter)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say on standard error that standard error is closed, and panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second call, as tests in one process make it, changes nothing.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}

/// Reads a filter without setting anything up.
///
/// # Errors
/// As for [`init`].
pub fn check(filter: &str) -> Result<(), String> {
    read(filter).map(drop)
}

fn read(filter: &str) -> Result<EnvFilter, String> {
    // The compiler's own steps, unless they are asked for by name.
    let filter = format!("{QUIET},{filter}");
    EnvFilter::try_new(filter).map_err(|e| e.to_string())
}
