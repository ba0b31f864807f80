use super::check;
use crate::commands::print::{Out, note};
use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What plugins are built for.
const TARGET: &str = "wasm32-wasip2";

/// Options of `penstock plugin build`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock plugin build
  penstock plugin build --path by-adapter --json

Runs `cargo build --release --target wasm32-wasip2` and then `penstock plugin check`, with
NAME.toml where the crate has one. Exit codes: 0 it would be loaded; 1 something is
missing, it does not compile, or it would not be loaded.")]
pub struct Args {
    /// The crate.
    #[arg(long, default_value = ".")]
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was built.
#[derive(Serialize)]
struct Built {
    component: PathBuf,
    #[serde(flatten)]
    found: check::Found,
}

/// A line of cargo's messages, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Manifest {
    package: Option<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

/// Builds, and checks what came of it.
pub fn run(args: &Args) -> Result<ExitCode> {
    let component = build(&args.path)?;
    let toml = toml(&args.path)?;
    note(format_args!("built {}", component.display()));
    let found = check::try_out(&component, toml.as_deref())?;
    let mut out = Out::new();
    if args.json {
        let built = Built { component, found };
        out.line(serde_json::to_string_pretty(&built)?)?;
    } else {
        out.line(check::table(&found))?;
        out.line(component.display())?;
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// The `NAME.toml` beside the crate's manifest, if there is one.
pub fn toml(path: &Path) -> Result<Option<PathBuf>> {
    let manifest = path.join("Cargo.toml");
    if !manifest.exists() {
        return Ok(None);
    }
    let toml = path.join(format!("{}.toml", name(path)?));
    Ok(toml.exists().then_some(toml))
}

fn name(path: &Path) -> Result<String> {
    let manifest = path.join("Cargo.toml");
    let at = manifest.display();
    let text = std::fs::read_to_string(&manifest).with_context(|| {
        format!(
            "{at}: cannot be read; `--path` names a plugin's crate, and `penstock plugin new \
             NAME` makes one"
        )
    })?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| at.to_string())?;
    let package = manifest.package;
    package
        .map(|package| package.name)
        .ok_or_else(|| anyhow!("{at} is no crate but a workspace; `--path` names the crate"))
}

/// Builds the component of the crate at `path`; cargo's own words go to standard error.
///
/// # Errors
/// Something is missing, and how to get it; or cargo failed.
pub fn build(path: &Path) -> Result<PathBuf> {
    let name = name(path)?;
    tools(path)?;
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(path)
        .stderr(Stdio::inherit());
    let output = command.output().context("`cargo` cannot be started")?;
    if !output.status.success() {
        bail!("{name} could not be built; cargo says why above");
    }
    let home = std::fs::canonicalize(path.join("Cargo.toml"))?;
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let messages = lines.filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    let ours = messages.filter(|m| {
        m.reason == "compiler-artifact"
            && std::fs::canonicalize(&m.manifest_path).is_ok_and(|at| at == home)
    });
    let mut files = ours.flat_map(|m| m.filenames);
    let component = files.find(|f| f.extension().is_some_and(|e| e == "wasm"));
    component.ok_or_else(|| {
        anyhow!(
            "{name} was built, and no component came of it; its Cargo.toml needs\n\n  [lib]\n  \
             crate-type = [\"cdylib\"]"
        )
    })
}

/// cargo and the target, or what installs them.
fn tools(path: &Path) -> Result<()> {
    let output = |program: &str, args: &[&str]| {
        let run = Command::new(program).args(args).current_dir(path).output();
        run.ok().filter(|output| output.status.success())
    };
    if output("cargo", &["--version"]).is_none() {
        bail!(
            "`cargo` is missing; install it:\n  curl --proto '=https' --tlsv1.2 -sSf \
             https://sh.rustup.rs | sh -s -- -y"
        );
    }
    // Names a directory whether or not it is there.
    let asked = output("rustc", &["--print", "target-libdir", "--target", TARGET]);
    let libraries = asked.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    match libraries {
        Some(libraries) if Path::new(&libraries).is_dir() => Ok(()),
        _ => bail!("the target {TARGET} is missing; install it:\n  rustup target add {TARGET}"),
    }
}
