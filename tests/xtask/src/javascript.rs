//! The plugin in JavaScript: its compiler, and its component.

use crate::setup::{root, run_in, target, works};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Its directory below `plugins`, and its file's name below `target/plugins`.
const NAME: &str = "counter-js";

/// Says what is missing, if anything is.
pub fn check() -> Result<()> {
    if works("node", &["--version"]) && works("npm", &["--version"]) {
        return Ok(());
    }
    bail!(
        "no node and npm (18 or later), which plugins/{NAME} needs; install them: \
         sudo apt-get install -y nodejs npm"
    )
}

/// Builds it into target/plugins.
pub fn build() -> Result<()> {
    check()?;
    let plugin = root().join("plugins").join(NAME);
    let tools = target().join("tools").join(NAME);
    install(&plugin, &tools)?;
    let out = target().join("plugins").join(format!("{NAME}.wasm"));
    // Its own build script, with the compiler from below the target directory.
    let mut path = tools.join("node_modules/.bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let status = Command::new("npm")
        .args(["run", "build", "--", "--output"])
        .arg(out)
        .current_dir(&plugin)
        .env("PATH", path)
        .status()
        .context("`npm` could not be started")?;
    if !status.success() {
        bail!("`npm run build` in plugins/{NAME} ended with {status}");
    }
    Ok(())
}

/// The compiler of exactly the versions in package.json and its lock, once.
fn install(plugin: &Path, tools: &Path) -> Result<()> {
    let mut fresh = tools.join("node_modules/.bin/componentize-qjs").exists();
    fs::create_dir_all(tools).with_context(|| format!("cannot make {}", tools.display()))?;
    for file in ["package.json", "package-lock.json"] {
        let wanted = fs::read(plugin.join(file)).with_context(|| format!("{NAME}/{file}"))?;
        // npm writes into the lock: what was wanted stands beside it.
        let kept = tools.join(format!("{file}.wanted"));
        fresh &= fs::read(&kept).is_ok_and(|kept| kept == wanted);
        fs::write(tools.join(file), &wanted)?;
        fs::write(kept, &wanted)?;
    }
    if fresh {
        return Ok(());
    }
    eprintln!("installing the compiler of {NAME} into {}", tools.display());
    // Not `npm ci`: the lock lacks platforms that the registry lacks.
    let quiet = ["install", "--ignore-scripts", "--no-audit", "--no-fund"];
    run_in(tools, "npm", &quiet)
}
