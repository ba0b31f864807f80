//! The parts of each command.

use crate::javascript;
use crate::setup::{self, WASM, run};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::time::{Duration, Instant};

/// Plugins of this repository: package, and file name under `target/plugins`.
const PLUGINS: &[&str] = &[
    "prefix-index",
    "forward",
    "hot-prefixes",
    "dedupe",
    "faulty",
];

/// Other builds: plugin, end of the file's name, features. With `schema-1` the index's
/// state is written in an older schema: swaps migrate. With `echo` it forwards what it
/// handles. What `faulty` says of itself comes before any config.
const VARIANTS: &[(&str, &str, &str)] = &[
    ("prefix-index", "second", "schema-1"),
    ("prefix-index", "echo", "echo"),
    ("prefix-index", "echo-second", "echo,schema-1"),
    ("faulty", "describe-trap", "describe-trap"),
    ("faulty", "describe-loop", "describe-loop"),
    ("faulty", "describe-lie", "describe-lie"),
];

/// One part of `cargo xtask test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// cargo fmt --check
    Format,
    /// The plugins, for wasm32-wasip2.
    Plugins,
    /// The plugin in JavaScript; needs node and npm.
    Javascript,
    /// Clippy over everything, warnings denied.
    Clippy,
    /// Unit, property and documentation tests.
    Unit,
    /// Instructions of the hot paths against their baseline; needs valgrind.
    Count,
    /// End-to-end suites through the real binary.
    E2e,
    /// The author's guide in plugins/README.md, command by command.
    Guide,
    /// Every plugin with cargo component.
    Component,
}

/// Builds the plugins for use, and the index again with other features, for live
/// swaps.
pub fn plugins() -> Result<()> {
    setup::check()?;
    let out = setup::target().join("plugins");
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let packages: Vec<String> = PLUGINS.iter().map(|p| format!("penstock-{p}")).collect();
    let mut args = vec!["build", "--profile", "plugin", "--target", WASM];
    args.extend(packages.iter().flat_map(|p| ["--package", p]));
    run("cargo", &args)?;
    for name in PLUGINS {
        copy("plugin", name, &out.join(format!("{name}.wasm")))?;
    }
    for (plugin, name, features) in VARIANTS {
        let package = format!("penstock-{plugin}");
        let mut args = vec!["build", "--release", "--target", WASM];
        args.extend(["--package", &package, "--features", features]);
        run("cargo", &args)?;
        copy(
            "release",
            plugin,
            &out.join(format!("{plugin}.{name}.wasm")),
        )?;
    }
    Ok(())
}

fn copy(profile: &str, name: &str, to: &std::path::Path) -> Result<()> {
    let file = format!("penstock_{}.wasm", name.replace('-', "_"));
    let from = setup::target().join(WASM).join(profile).join(file);
    std::fs::copy(&from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The demo: builds what it shows, then hands over.
pub fn demo(rest: &[String]) -> Result<()> {
    plugins()?;
    program("penstock-demo", rest)
}

/// The benchmark, likewise.
pub fn bench(rest: &[String]) -> Result<()> {
    plugins()?;
    program("penstock-bench", rest)
}

/// Many swaps under load, likewise.
pub fn soak_reload(rest: &[String]) -> Result<()> {
    plugins()?;
    program("penstock-soak", rest)
}

/// The daemon, the demo, the benchmark and the soak test. Always all of them: another selection of
/// packages would be another set of features, and wasmtime would be built again.
fn programs() -> Result<()> {
    run("cargo", &["build", "--release", "--workspace", "--bins"])
}

fn program(name: &str, rest: &[String]) -> Result<()> {
    programs()?;
    let path = setup::target().join("release").join(name);
    let status = std::process::Command::new(&path)
        .args(rest)
        .current_dir(setup::root())
        .status()
        .with_context(|| format!("cannot start {}", path.display()))?;
    std::process::exit(status.code().unwrap_or(1));
}

/// Every part in order, or those named; then a table of times.
pub fn test(only: &[Part]) -> Result<()> {
    setup::check()?;
    let mut times: Vec<(Part, Duration)> = Vec::new();
    let mut failed = None;
    for part in Part::value_variants() {
        if !only.is_empty() && !only.contains(part) {
            continue;
        }
        eprintln!("── {} ──", name(*part));
        let start = Instant::now();
        let result = go(*part);
        times.push((*part, start.elapsed()));
        if let Err(error) = result {
            failed = Some(error.context(format!("the part `{}` failed", name(*part))));
            break;
        }
    }
    println!();
    for (part, time) in &times {
        println!("{:<10} {:>7.1} s", name(*part), time.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, time)| *time).sum();
    println!("{:<10} {:>7.1} s", "total", total.as_secs_f64());
    match failed {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn name(part: Part) -> String {
    part.to_possible_value()
        .map_or_else(String::new, |v| v.get_name().to_string())
}

fn go(part: Part) -> Result<()> {
    match part {
        Part::Format => run("cargo", &["fmt", "--all", "--check"]),
        Part::Plugins => plugins(),
        Part::Javascript => javascript::build(),
        Part::Clippy => run(
            "cargo",
            &[
                "clippy",
                "--release",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ],
        ),
        Part::Unit => {
            let tests = [
                "test",
                "--release",
                "--workspace",
                "--exclude",
                "penstock-e2e",
                "--quiet",
            ];
            run("cargo", &tests)
        }
        Part::Count => {
            plugins()?;
            programs()?;
            let bench = setup::target().join("release/penstock-bench");
            run(&bench.display().to_string(), &["count"])
        }
        Part::E2e => {
            // The suites run the binaries as a user would, so these come first.
            programs()?;
            let tests = ["test", "--release", "--workspace", "--test", "e2e"];
            run("cargo", &tests)
        }
        Part::Guide => {
            programs()?;
            let tests = ["test", "--release", "--workspace", "--test", "e2e", "--"];
            // Apart, since the compiler would take the machine from the other suites.
            run("cargo", &[&tests[..], &["--ignored", "guide"]].concat())
        }
        Part::Component => component(),
    }
}

/// `cargo component build` of every plugin.
fn component() -> Result<()> {
    let tool = setup::component()?;
    let tool = tool
        .to_str()
        .context("the path of cargo-component is not UTF-8")?;
    for plugin in PLUGINS {
        let manifest = format!("plugins/{plugin}/Cargo.toml");
        run(
            tool,
            &[
                "component",
                "build",
                "--release",
                "--manifest-path",
                &manifest,
            ],
        )?;
        let built = format!(
            "wasm32-wasip1/release/penstock_{}.wasm",
            plugin.replace('-', "_")
        );
        let built = setup::target().join(built);
        if !built.exists() {
            bail!("cargo component made no {}", built.display());
        }
    }
    Ok(())
}
