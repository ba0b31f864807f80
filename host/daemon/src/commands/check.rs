use super::print::{Out, note};
use crate::config::{self, ConfigError};
use crate::daemon::{Survey, survey};
use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `penstock check`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  penstock check --config /etc/penstock/penstock.toml
  PENSTOCK_LOG=debug penstock check --json

Exit codes: 0 a start would load all of it, warnings or not; 64 otherwise, and why.")]
pub struct Args {
    /// The config file. Without one: as for `penstock run`.
    #[arg(long, short, env = "PENSTOCK_CONFIG_FILE")]
    config: Option<PathBuf>,
    /// Print the config as it would run, overrides included, as JSON.
    #[arg(long)]
    json: bool,
}

/// Reads the config and tries every plugin as a start would, without any socket.
pub fn run(args: &Args) -> Result<ExitCode> {
    let file = config::file(args.config.clone());
    let loaded = config::load(file.as_deref(), config::environment())?;
    let survey = survey(&loaded)?;
    let mut out = Out::new();
    if args.json {
        out.line(serde_json::to_string_pretty(&loaded.config)?)?;
    } else {
        let sources: Vec<String> = loaded.sources.iter().map(|s| s.name()).collect();
        out.line(format_args!("sources: {}", list(&sources)))?;
        out.line(format_args!("plugins: {}", list(&plugins(&survey))))?;
    }
    let warnings: Vec<_> = loaded.warnings.iter().chain(&survey.warnings).collect();
    for warning in &warnings {
        note(format_args!("penstock: warning: {warning}"));
    }
    let Some((name, why)) = survey.refused.first_key_value() else {
        if !args.json {
            let name = config::name(file.as_deref()).display();
            out.line(match warnings.len() {
                0 => format!("{name}: fine"),
                1 => format!("{name}: it would start, with a warning"),
                n => format!("{name}: it would start, with {n} warnings"),
            })?;
        }
        out.end()?;
        return Ok(ExitCode::SUCCESS);
    };
    out.end()?;
    for (name, why) in survey.refused.iter().skip(1) {
        note(format_args!(
            "penstock: plugin {name} would not be loaded: {why}"
        ));
    }
    let directory = loaded.path(&loaded.config.plugins_dir);
    let why = format!("plugin {name} would not be loaded: {why}");
    Err(ConfigError::file(&directory, why).into())
}

fn plugins(survey: &Survey) -> Vec<String> {
    let fine = survey.fine.iter().map(|(name, v)| format!("{name} {v}"));
    let off = survey.off.iter().map(|name| format!("{name} (disabled)"));
    fine.chain(off).collect()
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names => names.join(", "),
    }
}
