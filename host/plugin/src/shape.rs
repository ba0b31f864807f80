//! What a component's interfaces look like, read off the file without running it,
//! and where they differ from those of this host or of another build.
//!
//! ```text
//! component -- wit-parser --> Shape --+-- differences() --> "parameter `batch` of …"
//! wit/ (in this binary) ----> Shape --+
//! ```
//!
//! wasmtime says *that* a function does not fit; this says which parameter, and how.
//! It judges nothing else: grants, limits and the first calls are for
//! [`Host::compile`](crate::Host::compile) and [`Instance`](crate::Instance).

mod ty;

use crate::check::{Name, OURS, PACKAGE};
use crate::{LoadError, check};
use include_dir::{Dir, include_dir};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use ty::Ty;
use wasmparser::{KnownCustom, Parser, Payload};
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Resolve, SourceMap, WorldId, WorldItem};

static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");

/// The world of this host that has all there is.
const EVERYTHING: &str = "everything";

/// The interfaces of a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// What it imports, by name.
    pub imports: BTreeMap<String, Interface>,
    /// What it exports, by name.
    pub exports: BTreeMap<String, Interface>,
}

/// The functions of an interface, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    functions: BTreeMap<String, Function>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    params: Vec<(String, Ty)>,
    result: Option<Ty>,
}

/// The interface package of this host, `penstock:plugin`: file names and texts.
pub fn wit() -> impl Iterator<Item = (&'static str, &'static str)> {
    WIT.files()
        .filter_map(|file| Some((file.path().to_str()?, file.contents_utf8()?)))
}

/// Tools that made a component, as its `producers` sections tell: `rustc 1.95.0` under
/// `processed-by`, say. Empty for a file that cannot be read.
#[must_use]
pub fn producers(bytes: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else { break };
        let Payload::CustomSection(section) = payload else {
            continue;
        };
        let KnownCustom::Producers(fields) = section.as_known() else {
            continue;
        };
        for field in fields.into_iter().flatten() {
            for value in field.values.into_iter().flatten() {
                let tool = format!("{} {}", value.name, value.version);
                let tools = found.entry(field.name.to_owned()).or_default();
                if !tools.iter().any(|known| known == tool.trim()) {
                    tools.push(tool.trim().to_owned());
                }
            }
        }
    }
    found
}

// === impl Shape ===

impl Shape {
    /// Reads a component.
    ///
    /// # Errors
    /// It is none, or cannot be read.
    pub fn of(bytes: &[u8]) -> Result<Self, LoadError> {
        check::bytes(bytes, crate::engine::MAX_COMPONENT_BYTES)?;
        let damaged = |why: String| LoadError::Damaged(why);
        // It was written for components that tools make, and panics on some others.
        match catch_unwind(AssertUnwindSafe(|| decode(bytes))) {
            Ok(Ok(DecodedWasm::Component(resolve, world))) => Ok(Self::read(&resolve, world)),
            Ok(Ok(DecodedWasm::WitPackage(..))) => Err(LoadError::NotAPlugin),
            Ok(Err(error)) => Err(damaged(format!("{error:#}"))),
            Err(_) => Err(damaged("its interfaces cannot be read".into())),
        }
    }

    /// All that this host has: what plugins may import and export.
    ///
    /// # Errors
    /// The files in this binary are damaged: a bug.
    pub fn ours() -> Result<Self, String> {
        let mut sources = SourceMap::new();
        for (name, text) in wit() {
            sources.push_str(name, text);
        }
        let group = sources.parse().map_err(|(_, e)| e.to_string())?;
        let mut resolve = Resolve::new();
        let package = resolve.push_group(group).map_err(|e| e.to_string())?;
        let world = resolve
            .select_world(&[package], Some(EVERYTHING))
            .map_err(|e| format!("{e:#}"))?;
        Ok(Self::read(&resolve, world))
    }

    fn read(resolve: &Resolve, world: WorldId) -> Self {
        let interfaces = |items: &wit_parser::IndexMap<wit_parser::WorldKey, WorldItem>| {
            items
                .iter()
                .map(|(key, item)| {
                    let interface = match item {
                        WorldItem::Interface { id, .. } => resolve.interfaces.get(*id),
                        WorldItem::Function(_) | WorldItem::Type { .. } => None,
                    };
                    let functions = interface.map(|i| {
                        let function = |(name, f): (&String, &wit_parser::Function)| {
                            (name.clone(), Function::read(resolve, f))
                        };
                        i.functions.iter().map(function).collect()
                    });
                    let functions = functions.unwrap_or_default();
                    (resolve.name_world_key(key), Interface { functions })
                })
                .collect()
        };
        let Some(world) = resolve.worlds.get(world) else {
            return Self::default();
        };
        Self {
            imports: interfaces(&world.imports),
            exports: interfaces(&world.exports),
        }
    }

    /// What does not fit this host, in the author's terms: another version of an
    /// interface, a function that is missing, a parameter of another type.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        let Ok(ours) = Self::ours() else {
            return Vec::new();
        };
        let exports = differences(&self.exports, &ours.exports, |name, missing, _| {
            // A later patch may export more.
            missing.then(|| format!("{name} is not exported"))
        });
        let imports = differences(&self.imports, &ours.imports, |name, missing, _| {
            (!missing).then(|| format!("{name} is imported, and this host does not have it"))
        });
        exports.into_iter().chain(imports).collect()
    }

    /// What another build of the same plugin, `older`, has in another shape.
    #[must_use]
    pub fn changes(&self, older: &Self) -> Vec<String> {
        let sides = [
            ("exports", &self.exports, &older.exports),
            ("imports", &self.imports, &older.imports),
        ];
        let mut all = Vec::new();
        for (side, new, old) in sides {
            // WASI comes and goes with what std happens to use, and is inert.
            let ours = |name: &&String| !name.starts_with("wasi:");
            for name in new.keys().filter(ours).filter(|n| !old.contains_key(*n)) {
                all.push(format!("{side} {name}, which the older build does not"));
            }
            for name in old.keys().filter(ours).filter(|n| !new.contains_key(*n)) {
                all.push(format!("no longer {side} {name}"));
            }
        }
        all
    }
}

/// Compares the interfaces of this package that both sides have. `odd` words a function
/// that one side alone has: its name, and whether it is the component that lacks it.
fn differences(
    theirs: &BTreeMap<String, Interface>,
    ours: &BTreeMap<String, Interface>,
    odd: impl Fn(&str, bool, &str) -> Option<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (whole, interface) in theirs {
        let Some(name) = Name::parse(whole).filter(|n| n.package == PACKAGE) else {
            continue;
        };
        if !name.fits() {
            let version = name.version;
            found.push(format!(
                "{} was built for {PACKAGE} {version}, this host has {OURS}",
                name.interface
            ));
            continue;
        }
        let same =
            |whole: &&String| Name::parse(whole).is_some_and(|n| n.interface == name.interface);
        let Some(host) = ours.keys().find(same).and_then(|key| ours.get(key)) else {
            continue;
        };
        let at = |function: &str| format!("{}.{function}", name.interface);
        for (function, mine) in &host.functions {
            match interface.functions.get(function) {
                Some(their) => found.extend(their.differs(mine, &at(function))),
                None => found.extend(odd(&at(function), true, whole)),
            }
        }
        for function in interface.functions.keys() {
            if !host.functions.contains_key(function) {
                found.extend(odd(&at(function), false, whole));
            }
        }
    }
    found
}

// === impl Interface ===

impl Interface {
    /// The functions' names.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }
}

// === impl Function ===

impl Function {
    fn read(resolve: &Resolve, function: &wit_parser::Function) -> Self {
        let param = |p: &wit_parser::Param| (p.name.clone(), Ty::read(resolve, p.ty, 0));
        Self {
            params: function.params.iter().map(param).collect(),
            result: function.result.map(|ty| Ty::read(resolve, ty, 0)),
        }
    }

    /// Where it is not what the host has, `ours`.
    fn differs(&self, ours: &Self, at: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (i, (name, mine)) in ours.params.iter().enumerate() {
            match self.params.get(i) {
                Some((_, their)) => {
                    if let Some(how) = their.differs(mine, name) {
                        found.push(format!("parameter `{name}` of {at} differs: {how}"));
                    }
                }
                None => found.push(format!("parameter `{name}` of {at} is missing")),
            }
        }
        for (name, _) in self.params.iter().skip(ours.params.len()) {
            found.push(format!("parameter `{name}` of {at} is one too many"));
        }
        let how = match (&self.result, &ours.result) {
            (Some(their), Some(mine)) => their.differs(mine, "it"),
            (None, None) => None,
            (None, Some(mine)) => Some(format!("nothing is returned, this host expects {mine}")),
            (Some(their), None) => Some(format!("{their} is returned, this host expects nothing")),
        };
        found.extend(how.map(|how| format!("the result of {at} differs: {how}")));
        found
    }
}

#[cfg(test)]
mod tests;
