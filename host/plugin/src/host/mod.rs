//! The interfaces of `penstock:plugin` that the host implements. Every value
//! from a guest is hostile: bounded, checked, counted when dropped.

mod clock;
mod emit;
pub(crate) mod log;
pub(crate) mod metrics;
mod publish;

use crate::bindings::base::{Plugin, penstock::plugin::types};
use crate::bindings::emit::WithEmit;
use crate::ctx::Ctx;
use wasmtime::component::{HasSelf, Linker};

/// Links all of them. Grants were checked before: a component that imports one
/// that it may not have never gets here.
pub(crate) fn link(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    WithEmit::add_to_linker::<_, HasSelf<Ctx>>(linker, |ctx| ctx)?;
    Plugin::add_to_linker::<_, HasSelf<Ctx>>(linker, |ctx| ctx)
}

impl types::Host for Ctx {}
