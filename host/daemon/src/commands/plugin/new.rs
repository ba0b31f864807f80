use super::{sample, vendor};
use crate::commands::print::Out;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use include_dir::{Dir, include_dir};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One folder a kind, and what all of them have.
static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/template");

/// How the templates call the plugin: as a crate, and in code.
const NAME: (&str, &str) = ("my-plugin", "my_plugin");
/// How they call its world.
const WORLD: &str = "my-world";

/// Options of `penstock plugin new`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock plugin new by-adapter
  penstock plugin new by-adapter --kind index --path ~/plugins/by-adapter

The crate builds anywhere: the interface and the author's kit are copied into it. Then:
  cd by-adapter && cargo test && penstock plugin build && penstock plugin test")]
pub struct Args {
    /// The plugin's name: lower-case letters, digits and hyphens.
    name: String,
    /// What it does to begin with.
    #[arg(long, value_enum, default_value_t = Kind::Forward)]
    kind: Kind,
    /// The folder to make; ./NAME without it.
    #[arg(long)]
    path: Option<PathBuf>,
}

/// What a new plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Counts blocks by source, and answers who holds a prompt's prefix.
    Index,
    /// Publishes a message a batch.
    Forward,
    /// Passes some events on to the plugins after it, and counts what it passes.
    Operator,
}

/// Makes the crate.
pub fn run(args: &Args) -> Result<ExitCode> {
    check(&args.name)?;
    let home = args.path.clone();
    let home = home.unwrap_or_else(|| PathBuf::from(&args.name));
    let at = home.display();
    let occupied = match std::fs::read_dir(&home) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => home.exists(),
    };
    if occupied {
        bail!("{at} exists and is not empty; name another folder with `--path`");
    }
    std::fs::create_dir_all(&home).with_context(|| format!("{at}: cannot be made"))?;
    write(&home, &args.name, args.kind)?;
    let mut out = Out::new();
    out.line(format_args!("made {at}"))?;
    out.line("")?;
    out.line(format_args!("  cd {at}"))?;
    out.line("  cargo test               # the plugin natively, without a host")?;
    out.line("  penstock plugin build    # the component, checked")?;
    out.line("  penstock plugin test     # the component, with a recording")?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Cargo takes names that make no good file name or metric label.
fn check(name: &str) -> Result<()> {
    const TAKEN: [&str; 8] = [
        "test",
        "core",
        "std",
        "alloc",
        "proc-macro",
        "penstock",
        "penstock-sdk",
        "serde",
    ];
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || !name.chars().all(letter) || name.ends_with('-') || name.len() > 64 {
        bail!(
            "{name:?} is no name for a plugin: lower-case letters, digits and hyphens, a \
             letter first, as in `by-adapter`"
        );
    }
    if TAKEN.contains(&name) {
        bail!("{name:?} is the name of something else; choose another one");
    }
    Ok(())
}

fn write(home: &Path, name: &str, kind: Kind) -> Result<()> {
    vendor::write(home)?;
    for folder in ["common", kind.folder()] {
        let dir = TEMPLATES.get_dir(folder);
        let dir = dir.with_context(|| format!("this binary has no template {folder}"))?;
        fill(dir, folder, home, name, kind)?;
    }
    sample::write(&home.join("tests/sample.frames"))
}

fn fill(dir: &Dir<'_>, folder: &str, home: &Path, name: &str, kind: Kind) -> Result<()> {
    for file in dir.files() {
        let text = file.contents_utf8().context("a template is not text")?;
        let text = text
            .replace(NAME.0, name)
            .replace(NAME.1, &name.replace('-', "_"))
            .replace(WORLD, kind.world());
        let path = file.path().strip_prefix(folder)?;
        let path = match path.to_str() {
            // As they are called, cargo and git would take them for their own.
            Some("Cargo.toml.in") => PathBuf::from("Cargo.toml"),
            Some("gitignore") => PathBuf::from(".gitignore"),
            Some("plugin.toml") => PathBuf::from(format!("{name}.toml")),
            _ => path.to_path_buf(),
        };
        vendor::put(&home.join(path), text.as_bytes())?;
    }
    let mut dirs = dir.dirs();
    dirs.try_for_each(|dir| fill(dir, folder, home, name, kind))
}

// === impl Kind ===

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Forward => "forward",
            Self::Operator => "operator",
        }
    }

    /// For `cargo component`, which wants one.
    fn world(self) -> &'static str {
        match self {
            Self::Index => "indexer",
            Self::Forward => "plugin",
            Self::Operator => "operator",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files_and_crates() {
        for good in ["a", "by-adapter", "index2"] {
            check(good).unwrap();
        }
        for bad in ["", "2nd", "By", "a_b", "a/b", "../x", "a-", "test", "é"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn templates_are_filled_in() {
        for kind in [Kind::Index, Kind::Forward, Kind::Operator] {
            let home = tempfile::tempdir().unwrap();
            write(home.path(), "by-adapter", kind).unwrap();
            for file in ["Cargo.toml", "README.md", "src/lib.rs", "by-adapter.toml"] {
                let text = std::fs::read_to_string(home.path().join(file)).unwrap();
                for left in [NAME.0, NAME.1, WORLD] {
                    assert!(!text.contains(left), "{kind:?}: {file} still has {left}");
                }
            }
            for file in [".gitignore", "tests/sample.frames", "tests/sample.expected"] {
                assert!(home.path().join(file).exists(), "{kind:?}: {file}");
            }
        }
    }
}
