//! What the suites, the demo and the benchmark share.
//!
//! - [`oracle`]: who must hold what at a position; slow, obviously correct, and
//!   independent of the decoder and of the plugins it judges.
//! - [`ask`]: a question for a plugin.
//! - [`daemon`]: the real binary as a child process that always ends.
//! - [`engine`]: what engines published, from their own log; [`peers`]: engines in
//!   this process; [`publish`]: engines in another.
//! - [`judge`]: an index against the oracle.
//! - [`wait`]: conditions with a deadline, instead of sleeps.

#![allow(clippy::unwrap_used, reason = "a test's mistake may end the test")]

pub mod ask;
pub mod daemon;
pub mod engine;
pub mod judge;
pub mod oracle;
pub mod peers;
pub mod process;
pub mod publish;
pub mod wait;

use std::path::{Path, PathBuf};

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Where cargo builds.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The daemon's binary.
///
/// # Panics
/// It has not been built; the message says how.
#[must_use]
pub fn binary() -> PathBuf {
    let path = target().join("release/penstock");
    assert!(
        path.exists(),
        "{} is missing; build it: cargo build --release -p penstock",
        path.display()
    );
    path
}

/// A plugin as xtask builds it.
///
/// # Panics
/// It has not been built; the message says how.
#[must_use]
pub fn plugin_file(name: &str) -> PathBuf {
    let path = target().join("plugins").join(format!("{name}.wasm"));
    assert!(
        path.exists(),
        "{} is missing; build it: cargo xtask plugins{}",
        path.display(),
        if name.ends_with("-js") {
            " --javascript"
        } else {
            ""
        }
    );
    path
}

/// A recorded stream of a real engine.
#[must_use]
pub fn capture(name: &str) -> PathBuf {
    root().join("tests/captures").join(format!("{name}.frames"))
}

/// The trace of real requests.
#[must_use]
pub fn trace() -> PathBuf {
    root().join("tests/traces/mooncake_trace_1000.jsonl")
}
