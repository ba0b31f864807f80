//! A dry run over the plugin directory: what a start would load, and what not.
//!
//! Components are compiled, described and set up as in service, but get no events,
//! and nothing that they publish leaves. No socket is opened.

use super::load::{Load, read};
use super::scan::{Directory, Found};
use super::sinks::Outlets;
use crate::config::{self, ConfigError, Loaded};
use anyhow::Result;
use penstock_plugin::{Candidate, Host};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What lies in the plugin directory.
#[derive(Debug, Default)]
pub struct Survey {
    /// Plugins that would run: name and version.
    pub fine: BTreeMap<String, String>,
    /// Plugins that their file switches off.
    pub off: Vec<String>,
    /// What would be refused, and why.
    pub refused: BTreeMap<String, String>,
}

/// Looks at every plugin.
///
/// # Errors
/// A start would end: several plugins answer lookups and no default is named.
pub fn survey(file: Option<&Path>, loaded: &Loaded) -> Result<Survey> {
    let host = Host::new()?;
    let mut survey = Survey::default();
    let mut index = Vec::new();
    let scan =
        Directory::new(loaded.path(&loaded.config.plugins_dir)).scan(Instant::now(), true)?;
    survey.refused.extend(scan.odd);
    survey.refused.extend(scan.doubtful);
    for (name, found) in &scan.settled {
        let load = match read(found) {
            Ok(load) if load.file.enabled => load,
            Ok(_) => {
                survey.off.push(name.clone());
                continue;
            }
            Err(why) => {
                survey.refused.insert(name.clone(), why);
                continue;
            }
        };
        if answers_lookups(&load) {
            index.push(name.clone());
        }
        match dry_run(&host, name, &load, loaded) {
            Ok(version) => drop(survey.fine.insert(name.clone(), version)),
            Err(why) => drop(survey.refused.insert(name.clone(), why)),
        }
    }
    unambiguous(file, loaded.config.query.lookup.as_deref(), &index)?;
    Ok(survey)
}

/// Several plugins that answer lookups need a default. Reads no more than it must:
/// a start calls it before any socket opens.
///
/// # Errors
/// They have none.
pub fn check_lookup(
    file: Option<&Path>,
    directory: &Path,
    default: Option<&str>,
) -> Result<(), ConfigError> {
    if default.is_some() {
        return Ok(());
    }
    let scan = Directory::new(directory.into()).scan(Instant::now(), true);
    let found = scan.unwrap_or_default().settled;
    // What cannot be read is refused later, with its reason.
    let index = |(name, found): (String, Found)| {
        let load = read(&found).ok()?;
        (load.file.enabled && answers_lookups(&load)).then_some(name)
    };
    let index: Vec<String> = found.into_iter().filter_map(index).collect();
    unambiguous(file, default, &index)
}

fn answers_lookups(load: &Load) -> bool {
    penstock_plugin::exports(&load.wasm, "lookup")
}

fn unambiguous(
    file: Option<&Path>,
    default: Option<&str>,
    index: &[String],
) -> Result<(), ConfigError> {
    if default.is_some() || index.len() < 2 {
        return Ok(());
    }
    let names = index.join(", ");
    let why = format!("{names} all answer lookups; name the default");
    let mut error = ConfigError::file(config::name(file), why);
    error.key = Some("query.lookup".into());
    Err(error)
}

/// The version of a plugin that would run.
fn dry_run(host: &Arc<Host>, name: &str, load: &Load, loaded: &Loaded) -> Result<String, String> {
    let file = &load.file;
    let compiled = (host.compile(&load.wasm, &file.grants, &file.limits)).map_err(told)?;
    let outlets = Outlets::plan(name, &file.sink, &Outlets::default(), &loaded.home);
    let setup = load.setup(name, outlets.publishers())?;
    let candidate = Candidate::prepare(host, &compiled, &setup).map_err(told)?;
    Ok(candidate.description.version)
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use std::fs;

    #[test]
    fn what_a_start_would_refuse_is_told() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::write(at("penstock.toml"), "").unwrap();
        let loaded = load(Some(&at("penstock.toml")), std::iter::empty()).unwrap();
        let survey_now = || survey(Some(&at("penstock.toml")), &loaded);
        // No directory yet: no plugins.
        let found = survey_now().unwrap();
        assert!(found.fine.is_empty() && found.refused.is_empty());

        fs::create_dir(at("plugins.d")).unwrap();
        fs::write(at("plugins.d/garbage.wasm"), "no component").unwrap();
        fs::write(at("plugins.d/lost.toml"), "").unwrap();
        fs::write(at("plugins.d/off.wasm"), "").unwrap();
        fs::write(at("plugins.d/off.toml"), "enabled = false").unwrap();
        fs::write(at("plugins.d/typo.wasm"), "").unwrap();
        fs::write(at("plugins.d/typo.toml"), "grant = []").unwrap();
        let found = survey_now().unwrap();
        assert_eq!(found.off, ["off"]);
        let refused: Vec<_> = found.refused.keys().map(String::as_str).collect();
        assert_eq!(refused, ["garbage", "lost", "typo"]);
        assert!(
            found.refused["typo"].contains("did you mean `grants`?"),
            "{}",
            found.refused["typo"]
        );
    }

    #[test]
    fn two_that_answer_lookups_need_a_default() {
        let both = ["a".to_string(), "b".to_string()];
        let file = Some(Path::new("p.toml"));
        assert!(unambiguous(file, None, &both[..1]).is_ok());
        assert!(unambiguous(file, Some("a"), &both).is_ok());
        let error = unambiguous(file, None, &both).unwrap_err().to_string();
        assert!(error.contains("query.lookup: a, b"), "{error}");
    }
}
