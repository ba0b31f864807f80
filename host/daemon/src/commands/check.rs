use crate::config;
use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `penstock check`.
#[derive(clap::Args)]
pub struct Args {
    /// The config file.
    #[arg(
        long,
        short,
        default_value = "penstock.toml",
        env = "PENSTOCK_CONFIG_FILE"
    )]
    config: PathBuf,
    /// Print the config as it would run, overrides included, as JSON.
    #[arg(long)]
    json: bool,
}

/// Reads the config and the plugins' files as a start would.
pub fn run(args: &Args) -> Result<ExitCode> {
    let loaded = config::load(Some(&args.config), config::environment())?;
    let plugins = loaded.path(&loaded.config.plugins_dir);
    let mut files = 0;
    for entry in std::fs::read_dir(&plugins).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "toml") {
            config::load_plugin(&path, &std::fs::read_to_string(&path)?)?;
            files += 1;
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&loaded.config)?);
    } else {
        let sources = loaded.sources.len();
        println!(
            "{}: fine; {sources} source(s), {files} plugin file(s)",
            args.config.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
