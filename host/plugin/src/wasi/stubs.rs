//! Functions of `wasi:*` that are not implemented: they link and end the call.
//! `get-directories` answers "none", since every C library asks at its start.

use super::{InputStream, IoError, OutputStream, Pollable, is_implemented};
use crate::ctx::{Ctx, Ended};
use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType, Val};

/// A resource of an interface that is not implemented; there is never one.
struct Stub;

/// The guest's name of a resource type, and the host's type behind it.
type Known = Vec<(ResourceType, ResourceType)>;

pub(super) fn link(
    linker: &mut Linker<Ctx>,
    engine: &Engine,
    component: &Component,
) -> wasmtime::Result<()> {
    let ty = component.component_type();
    let known = known(engine, component);
    for (name, item) in ty.imports(engine) {
        if !name.starts_with("wasi:") || is_implemented(name) {
            continue;
        }
        if let ComponentItem::ComponentInstance(instance) = item.ty {
            let mut into = linker.instance(name)?;
            stub(&mut into, name, &instance, engine, &known)?;
        }
    }
    Ok(())
}

/// Resource types of the implemented interfaces: others refer to them, and must
/// mean the same ones.
fn known(engine: &Engine, component: &Component) -> Known {
    let mut known = Known::new();
    let ty = component.component_type();
    for (name, item) in ty.imports(engine) {
        if !is_implemented(name) {
            continue;
        }
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            continue;
        };
        for (export, item) in instance.exports(engine) {
            let ComponentItem::Resource(guest) = item.ty else {
                continue;
            };
            let host = match export {
                "error" => ResourceType::host::<IoError>(),
                "pollable" => ResourceType::host::<Pollable>(),
                "input-stream" => ResourceType::host::<InputStream>(),
                "output-stream" => ResourceType::host::<OutputStream>(),
                _ => continue,
            };
            known.push((guest, host));
        }
    }
    known
}

fn stub(
    into: &mut LinkerInstance<'_, Ctx>,
    interface: &str,
    instance: &ComponentInstance,
    engine: &Engine,
    known: &Known,
) -> wasmtime::Result<()> {
    for (name, item) in instance.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(_) if name == "get-directories" => {
                into.func_new(name, |_, _, _, results| {
                    if let Some(result) = results.first_mut() {
                        *result = Val::List(Vec::new());
                    }
                    Ok(())
                })?;
            }
            ComponentItem::ComponentFunc(_) => {
                let whole = format!("{interface}#{name}");
                into.func_new(name, move |_, _, _, _| {
                    Err(Ended::Inert(whole.clone()).into())
                })?;
            }
            ComponentItem::Resource(guest) => {
                let host = known.iter().find(|(known, _)| *known == guest);
                let host = host.map_or_else(ResourceType::host::<Stub>, |(_, host)| *host);
                into.resource(name, host, |_, _| Ok(()))?;
            }
            // Types need no definition.
            _ => {}
        }
    }
    Ok(())
}
