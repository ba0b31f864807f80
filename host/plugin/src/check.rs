//! What can be known of a component without running it: is it one, for this
//! interface, within its grants and limits, and what does it offer?
//!
//! Not checked here: the types of its functions. Linking and instantiation do.

use crate::{Grant, Grants, Limits, LoadError};
use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

/// The version of `penstock:plugin` that this host speaks.
pub(crate) const OURS: &str = "0.1.0";

/// The package of the interfaces between host and plugins.
pub(crate) const PACKAGE: &str = "penstock:plugin";

/// Optional interfaces that a component exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Answers prefix lookups.
    pub lookup: bool,
    /// Answers requests of its own form.
    pub request: bool,
    /// Wants to be called now and then.
    pub tick: bool,
    /// Its state can be taken out and put back.
    pub state: bool,
}

/// What the checks found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Size of the file, in bytes.
    pub size: usize,
    /// Interfaces of this host that it imports.
    pub imports: Vec<Grant>,
    /// Optional interfaces that it exports.
    pub features: Features,
    /// Bytes of its largest memory at the start, where that can be told.
    pub memory_bytes: Option<u64>,
}

/// An interface's name, `namespace:package/interface@version`, taken apart.
pub(crate) struct Name<'a> {
    pub(crate) package: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) version: &'a str,
}

// === impl Name ===

impl<'a> Name<'a> {
    pub(crate) fn parse(whole: &'a str) -> Option<Self> {
        let (path, version) = whole.split_once('@').unwrap_or((whole, ""));
        let (package, interface) = path.split_once('/')?;
        Some(Self {
            package,
            interface,
            version,
        })
    }

    /// True for versions that mean the same interface: 0.1 of any patch.
    pub(crate) fn fits(&self) -> bool {
        let line = |v: &str| v.rsplit_once('.').map(|(line, _)| line.to_owned());
        line(self.version) == line(OURS)
    }
}

/// Looks at the first bytes, so that the usual mistakes get their own words.
pub(crate) fn bytes(bytes: &[u8], limit: usize) -> Result<(), LoadError> {
    if bytes.is_empty() {
        return Err(LoadError::Empty);
    }
    if bytes.len() > limit {
        let size = bytes.len();
        return Err(LoadError::TooLarge { size, limit });
    }
    let magic = b"\0asm";
    if !bytes.starts_with(magic) {
        if magic.starts_with(bytes) {
            return Err(LoadError::Damaged(format!("only {} bytes", bytes.len())));
        }
        let head: Vec<u8> = bytes.iter().copied().take(8).collect();
        return Err(LoadError::NotWasm(format!(
            "{:?}",
            String::from_utf8_lossy(&head)
        )));
    }
    match bytes.get(4..8) {
        Some([_, _, 1, 0]) => Ok(()),
        Some([1, 0, 0, 0]) => Err(LoadError::CoreModule),
        Some(other) => Err(LoadError::Damaged(format!("unknown header {other:02x?}"))),
        None => Err(LoadError::Damaged(format!("only {} bytes", bytes.len()))),
    }
}

/// Looks at imports, exports and the memory asked for.
pub(crate) fn component(
    engine: &Engine,
    component: &Component,
    bytes: &[u8],
    grants: &Grants,
    limits: &Limits,
) -> Result<Summary, LoadError> {
    let ty = component.component_type();
    let features = exports(ty.exports(engine).map(|(name, _)| name))?;
    let imports = imports(
        ty.imports(engine)
            .map(|(name, item)| (name, matches!(item.ty, ComponentItem::ComponentInstance(_)))),
        grants,
    )?;
    let pages = component
        .resources_required()
        .map(|needs| needs.max_initial_memory_size.unwrap_or(0));
    let memory_bytes = pages.map(|pages| pages.saturating_mul(65_536));
    if let Some(asked) = memory_bytes
        && asked > limits.memory_bytes
    {
        let limit = limits.memory_bytes;
        return Err(LoadError::Memory { asked, limit });
    }
    Ok(Summary {
        digest: digest(bytes),
        size: bytes.len(),
        imports,
        features,
        memory_bytes,
    })
}

fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn exports<'a>(names: impl Iterator<Item = &'a str>) -> Result<Features, LoadError> {
    let mut features = Features::default();
    let mut guest = false;
    let mut other = None;
    for name in names
        .filter_map(Name::parse)
        .filter(|n| n.package == PACKAGE)
    {
        if !name.fits() {
            other = Some(name.version.to_owned());
            continue;
        }
        match name.interface {
            "guest" => guest = true,
            "lookup" => features.lookup = true,
            "request" => features.request = true,
            "tick" => features.tick = true,
            "state" => features.state = true,
            // A later patch may export more; nobody calls it here.
            _ => {}
        }
    }
    match (guest, other) {
        (true, _) => Ok(features),
        (false, Some(found)) => Err(LoadError::Version { found, ours: OURS }),
        (false, None) => Err(LoadError::NotAPlugin),
    }
}

fn imports<'a>(
    items: impl Iterator<Item = (&'a str, bool)>,
    grants: &Grants,
) -> Result<Vec<Grant>, LoadError> {
    let mut used = Vec::new();
    for (whole, is_instance) in items {
        let unknown = || LoadError::UnknownImport(whole.to_owned());
        let name = Name::parse(whole)
            .filter(|_| is_instance)
            .ok_or_else(unknown)?;
        // WASI always links; what is behind it is inert.
        if name.package.starts_with("wasi:") {
            continue;
        }
        if name.package != PACKAGE {
            return Err(unknown());
        }
        if !name.fits() {
            let found = name.version.to_owned();
            return Err(LoadError::Version { found, ours: OURS });
        }
        if name.interface == "types" {
            continue;
        }
        let grant = Grant::of_interface(name.interface).ok_or_else(unknown)?;
        if !grants.has(grant) {
            return Err(LoadError::NotGranted {
                import: whole.to_owned(),
                key: grant.name(),
            });
        }
        used.push(grant);
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_usual_mistakes() {
        let code = |b: &[u8]| bytes(b, 100).map_err(|e| e.code());
        assert_eq!(code(b""), Err("empty"));
        assert_eq!(code(b"#!/bin/sh"), Err("not_wasm"));
        assert_eq!(code(b"\0as"), Err("damaged"));
        assert_eq!(code(b"\0asm\x01\0\0\0"), Err("core_module"));
        assert_eq!(code(b"\0asm\x0d\0\x01\0"), Ok(()));
        assert_eq!(code(&[0; 101]), Err("too_large"));
    }

    #[test]
    fn exports_are_found_by_line_of_versions() {
        let of = |names: &[&'static str]| exports(names.iter().copied());
        let found = of(&["penstock:plugin/guest@0.1.3", "penstock:plugin/tick@0.1.0"]);
        assert!(found.unwrap().tick);
        let err = of(&["penstock:plugin/guest@0.2.0"]).unwrap_err();
        assert_eq!(
            err.to_string(),
            "built for penstock:plugin@0.2.0, this host has 0.1.0"
        );
        assert_eq!(
            of(&["wasi:cli/run@0.2.0"]).unwrap_err().code(),
            "not_a_plugin"
        );
    }

    #[test]
    fn imports_need_their_grant() {
        let of = |names: &[&'static str], grants: &Grants| {
            imports(names.iter().map(|n| (*n, true)), grants).map_err(|e| e.to_string())
        };
        let log = Grants::default();
        let wasi = ["wasi:sockets/tcp@0.2.6", "penstock:plugin/types@0.1.0"];
        assert_eq!(of(&wasi, &Grants::none()), Ok(vec![]));
        assert_eq!(
            of(&["penstock:plugin/log@0.1.0"], &log),
            Ok(vec![Grant::Log])
        );
        let refused = of(&["penstock:plugin/publish@0.1.0"], &log).unwrap_err();
        assert!(
            refused.contains("penstock:plugin/publish@0.1.0"),
            "{refused}"
        );
        assert!(refused.contains("add \"publish\" to `grants`"), "{refused}");
        assert!(
            of(&["penstock:plugin/files@0.1.0"], &log)
                .unwrap_err()
                .contains("does not have")
        );
        assert!(
            of(&["acme:db/query@1.0.0"], &log)
                .unwrap_err()
                .contains("does not have")
        );
    }
}
