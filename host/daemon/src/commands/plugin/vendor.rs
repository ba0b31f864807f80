//! What a plugin needs of this repository, out of this binary: the interface (`wit/`) and
//! the author's kit (`penstock-sdk/`), so that a crate builds anywhere.

use anyhow::{Context, Result, anyhow};
use include_dir::{Dir, include_dir};
use std::path::Path;
use toml::{Table, Value};

static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/src");

/// The kit's manifest, and the one that it inherits from.
const SDK_MANIFEST: &str = include_str!("../../../../../plugins/sdk/Cargo.toml");
const WORKSPACE: &str = include_str!("../../../../../Cargo.toml");

/// Where the kit says that the interface lies, and where it lies in a plugin's crate.
const WIT_HERE: &str = "\"../../wit\"";
const WIT_THERE: &str = "\"../wit\"";

/// Writes both into the crate at `home`.
pub fn write(home: &Path) -> Result<()> {
    for (name, text) in penstock_plugin::wit() {
        put(&home.join("wit").join(name), text.as_bytes())?;
    }
    let kit = home.join("penstock-sdk");
    put(&kit.join("Cargo.toml"), manifest()?.as_bytes())?;
    copy(&SDK, &kit.join("src"))
}

/// Writes a file, and the directories above it.
pub fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, bytes)
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}

fn copy(dir: &Dir<'_>, to: &Path) -> Result<()> {
    for file in dir.files() {
        let path = to.join(file.path());
        match file.contents_utf8() {
            Some(text) => put(&path, text.replace(WIT_HERE, WIT_THERE).as_bytes())?,
            None => put(&path, file.contents())?,
        }
    }
    dir.dirs().try_for_each(|dir| copy(dir, to))
}

/// The kit's manifest with what it inherits written out: there is no workspace around it.
fn manifest() -> Result<String> {
    let mut manifest: Table = toml::from_str(SDK_MANIFEST)?;
    let root: Table = toml::from_str(WORKSPACE)?;
    let root = root.get("workspace").and_then(Value::as_table);
    let root = root.context("no [workspace]")?;
    for key in ["package", "dependencies"] {
        let inherited = root.get(key).and_then(Value::as_table);
        let inherited = inherited.with_context(|| format!("no [workspace.{key}]"))?;
        if let Some(Value::Table(table)) = manifest.get_mut(key) {
            for (name, value) in table.iter_mut() {
                let inherits = value.get("workspace").and_then(Value::as_bool) == Some(true);
                if inherits {
                    let found = inherited.get(name);
                    let found = found.ok_or_else(|| anyhow!("{key}.{name} is not inherited"))?;
                    *value = found.clone();
                }
            }
        }
    }
    // Its warnings are for those who work on the kit.
    manifest.remove("lints");
    Ok(toml::to_string_pretty(&manifest)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kit_stands_alone() {
        let home = tempfile::tempdir().unwrap();
        write(home.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
        let manifest = read("penstock-sdk/Cargo.toml");
        assert!(!manifest.contains("workspace"), "{manifest}");
        assert!(manifest.contains("wit-bindgen"), "{manifest}");
        let generated = read("penstock-sdk/src/generated.rs");
        assert!(generated.contains(WIT_THERE) && !generated.contains(WIT_HERE));
        assert!(read("wit/worlds.wit").contains("world plugin"));
        assert!(home.path().join("penstock-sdk/src/batch/tests.rs").exists());
    }
}
