//! What the machine needs, and how to get it.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target the plugins are built for.
pub const WASM: &str = "wasm32-wasip2";

/// cargo-component's version, the last one made.
const COMPONENT: &str = "0.21.1";

/// The repository's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A C++ compiler (libzmq is built from source) and the Wasm target.
pub fn check() -> Result<()> {
    if !works("c++", &["--version"]) && !works("g++", &["--version"]) {
        bail!("no C++ compiler, which libzmq needs; install one: sudo apt-get install -y g++");
    }
    let targets = output("rustup", &["target", "list", "--installed"]);
    match targets {
        Some(list) if list.lines().any(|line| line == WASM) => Ok(()),
        Some(_) => run("rustup", &["target", "add", WASM]),
        None if sysroot_has_target() => Ok(()),
        None => {
            bail!("no rustup, which fetches the target {WASM}; install it from https://rustup.rs")
        }
    }
}

/// cargo-component, installed below the target directory when it is missing.
///
/// Its release profile (one unit, link-time optimisation) takes more than twice as
/// long to build as it ever saves here, hence a plain debug build.
pub fn component() -> Result<PathBuf> {
    let tools = target().join("tools");
    let ours = tools.join("bin/cargo-component");
    if works("cargo-component", &["--version"]) {
        return Ok("cargo-component".into());
    }
    if ours.exists() {
        return Ok(ours);
    }
    eprintln!(
        "cargo component is missing: installing it into {}, once",
        tools.display()
    );
    let build = tools.join("build");
    let status = Command::new("cargo")
        .args(["install", "cargo-component", "--locked", "--debug"])
        .args(["--version", COMPONENT, "--root"])
        .arg(&tools)
        .arg("--target-dir")
        .arg(&build)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .current_dir(root())
        .status();
    match status {
        // A gigabyte that nobody needs any more; it does no harm if it stays.
        Ok(status) if status.success() => drop(std::fs::remove_dir_all(&build)),
        Ok(status) => bail!("`cargo install cargo-component` ended with {status}"),
        Err(error) => bail!("`cargo` could not be started: {error}"),
    }
    Ok(ours)
}

/// Runs a command in the repository; its failure is ours.
pub fn run(program: &str, args: &[&str]) -> Result<()> {
    run_in(&root(), program, args)
}

/// The same, elsewhere.
pub fn run_in(directory: &Path, program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .args(args)
        .current_dir(directory)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("`{program} {}` ended with {status}", args.join(" ")),
        Err(error) => bail!("`{program}` could not be started: {error}"),
    }
}

fn sysroot_has_target() -> bool {
    output("rustc", &["--print", "sysroot"]).is_some_and(|sysroot| {
        Path::new(sysroot.trim())
            .join("lib/rustlib")
            .join(WASM)
            .exists()
    })
}

/// Whether a command ends well.
pub fn works(program: &str, args: &[&str]) -> bool {
    let quiet = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
