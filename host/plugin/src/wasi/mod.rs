//! An inert WASI 0.2: the standard libraries of guest languages refer to it, so
//! it must link; plugins have no files, sockets, arguments or environment.
//!
//! - stdin is at its end; stdout and stderr are lines in the plugin's log.
//! - Clocks stand at 0 unless `clock` is granted.
//! - A wait that would outlast the call's deadline ends the call at once:
//!   epochs cannot interrupt a host function.
//! - Random numbers are pseudo-random, from the host's generator.
//! - Everything else of `wasi:*` links, and ends the call when it is used
//!   (`stubs`).

mod cli;
mod clocks;
mod io;
mod random;
mod stubs;

pub use io::{InputStream, IoError, Lines, OutputStream, Pollable};

use crate::bindings::wasi::Inert;
use crate::ctx::Ctx;
use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker};

/// Interfaces that are implemented, without their version.
const IMPLEMENTED: [&str; 18] = [
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
];

/// A terminal; there is never one.
pub struct Terminal;

/// Links what is implemented, and stubs for whatever else `component` imports.
pub(crate) fn link(
    linker: &mut Linker<Ctx>,
    engine: &Engine,
    component: &Component,
) -> wasmtime::Result<()> {
    Inert::add_to_linker::<_, HasSelf<Ctx>>(linker, |ctx| ctx)?;
    stubs::link(linker, engine, component)
}

/// True for an interface name of WASI 0.2 that is implemented.
fn is_implemented(name: &str) -> bool {
    name.split_once('@')
        .is_some_and(|(path, version)| version.starts_with("0.2.") && IMPLEMENTED.contains(&path))
}
