//! Metrics and logs of the whole daemon.
//!
//! Rooms count through the `metrics` facade; this crate installs the recorder
//! that `/metrics` prints, says what each name means, and sets the log up.

mod logs;
mod names;
mod watch;

pub use logs::{LogFormat, check as check_filter, init as init_logs};
pub use metrics_exporter_prometheus::PrometheusHandle;
pub use watch::{Line, Watch};

/// Installs the recorder. Once a process; a second call is an error.
///
/// # Errors
/// Another recorder is installed.
pub fn install() -> Result<PrometheusHandle, String> {
    let handle = metrics_exporter_prometheus::PrometheusBuilder::new()
        .install_recorder()
        .map_err(|e| e.to_string())?;
    names::describe();
    Ok(handle)
}
