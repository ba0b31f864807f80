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

Exit codes: 0 a start would load all of it; 64 otherwise, and why.")]
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
    let survey = survey(file.as_deref(), &loaded)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&loaded.config)?);
    } else {
        let sources: Vec<String> = loaded.sources.iter().map(|s| s.name()).collect();
        println!("sources: {}", list(&sources));
        println!("plugins: {}", list(&plugins(&survey)));
    }
    let Some((name, why)) = survey.refused.first_key_value() else {
        if !args.json {
            println!("{}: fine", config::name(file.as_deref()).display());
        }
        return Ok(ExitCode::SUCCESS);
    };
    for (name, why) in survey.refused.iter().skip(1) {
        eprintln!("penstock: plugin {name} would not be loaded: {why}");
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
