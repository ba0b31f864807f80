//! A dry run over the plugin directory: what a start would load, and what not.
//!
//! Components are compiled, described and set up as in service, but get no events,
//! and nothing that they publish leaves. No socket is opened.

use super::chains::{Afters, fault, order};
use super::load::{Load, read, refusal, setup};
use super::scan::{Directory, Found, Scan};
use super::sinks::Outlets;
use crate::config::{ConfigError, Loaded, nearest};
use anyhow::Result;
use penstock_plugin::{Candidate, Grant, Host};
use std::collections::BTreeMap;
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
    /// What starts all the same, and is hardly meant.
    pub warnings: Vec<ConfigError>,
}

/// Looks at every plugin.
///
/// # Errors
/// A start would end: several plugins answer lookups and no default is named.
pub fn survey(loaded: &Loaded) -> Result<Survey> {
    let host = Host::new()?;
    let mut survey = Survey {
        warnings: before_start(loaded)?,
        ..Survey::default()
    };
    let scan = scan(loaded)?;
    survey.refused.extend(scan.odd);
    survey.refused.extend(scan.doubtful);
    let mut chains = Chains::default();
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
        chains.after.insert(name.clone(), load.file.after.clone());
        match dry_run(&host, name, found, &load, loaded) {
            Ok((version, emits)) => {
                survey.fine.insert(name.clone(), version);
                chains.emits.insert(name.clone(), emits);
            }
            Err(why) => drop(survey.refused.insert(name.clone(), why)),
        }
    }
    chains.judge(&mut survey, &scan.names);
    Ok(survey)
}

/// Who comes after whom.
#[derive(Default)]
struct Chains {
    after: Afters,
    /// Those that would run, and whether they emit.
    emits: BTreeMap<String, bool>,
}

impl Chains {
    /// Refuses those that cannot come after those that they name, and in turn those after
    /// them.
    fn judge(&self, survey: &mut Survey, names: &[String]) {
        for name in order(survey.fine.keys().cloned(), &self.after) {
            let names = names.iter().map(String::as_str);
            let why = fault(&name, &self.after, names).or_else(|| {
                let after = self.after.get(&name).into_iter().flatten();
                after
                    .clone()
                    .find_map(|operator| match self.emits.get(operator) {
                        Some(true) if survey.fine.contains_key(operator) => None,
                        Some(false) => Some(format!(
                            "after: {operator:?} emits nothing: it does not import `emit`"
                        )),
                        _ => Some(format!("after: {operator:?} does not run")),
                    })
            });
            if let Some(why) = why {
                survey.fine.remove(&name);
                survey.refused.insert(name, why);
            }
        }
    }
}

/// What the plugin directory says about the config. Reads no more than it must: a
/// start calls it before any socket opens. What is odd and may be right later comes
/// back as warnings.
///
/// # Errors
/// Several plugins answer lookups, and no default is named; or it is no directory.
pub fn before_start(loaded: &Loaded) -> Result<Vec<ConfigError>, ConfigError> {
    let scan = scan(loaded)?;
    let mut warnings = Vec::new();
    let directory = loaded.path(&loaded.config.plugins_dir);
    if !directory.exists() {
        let why = format!(
            "there is no {}; plugins load once it is there",
            directory.display()
        );
        warnings.push(loaded.at("plugins_dir", why));
    }
    // What cannot be read is refused later, with its reason.
    let answers = |found: &Found| {
        let load = read(found).ok()?;
        (load.file.enabled && answers_lookups(&load)).then_some(())
    };
    let Some(default) = &loaded.config.query.lookup else {
        let all = scan.settled.iter();
        let index = all.filter_map(|(name, found)| answers(found).map(|()| name.as_str()));
        let index: Vec<&str> = index.collect();
        if index.len() > 1 {
            let why = format!("{} all answer lookups; name the default", index.join(", "));
            return Err(loaded.at("query.lookup", why));
        }
        return Ok(warnings);
    };
    let found = scan.settled.get(default);
    if found.and_then(answers).is_none() {
        let at = directory.display();
        let (what, near) = match found {
            Some(_) => ("answers no lookups", None),
            None => {
                let names = scan.names.iter().map(String::as_str);
                ("is not there", nearest(default, names))
            }
        };
        let why = format!("{default:?} {what}, in {at}; lookups that name no plugin fail");
        let mut warning = loaded.at("query.lookup", why);
        warning.nearest = near;
        warnings.push(warning);
    }
    Ok(warnings)
}

fn scan(loaded: &Loaded) -> Result<Scan, ConfigError> {
    let directory = loaded.path(&loaded.config.plugins_dir);
    let scan = Directory::new(directory.clone()).scan(Instant::now(), true);
    scan.map_err(|e| {
        let why = format!("{} cannot be read: {e}", directory.display());
        loaded.at("plugins_dir", why)
    })
}

fn answers_lookups(load: &Load) -> bool {
    penstock_plugin::exports(&load.wasm, "lookup")
}

/// The version of a plugin that would run, and whether it emits events.
fn dry_run(
    host: &Arc<Host>,
    name: &str,
    found: &Found,
    load: &Load,
    loaded: &Loaded,
) -> Result<(String, bool), String> {
    let file = &load.file;
    let told = |error| refusal(&error, found);
    let compiled = (host.compile(&load.wasm, &file.grants, &file.limits)).map_err(told)?;
    file.suits(compiled.summary.features)?;
    let outlets = Outlets::plan(name, &file.sink, &Outlets::default(), &loaded.home);
    let setup = setup(file, name, 0, outlets.publishers())?;
    let candidate = Candidate::prepare(host, &compiled, &setup).map_err(told)?;
    let emits = compiled.summary.imports.contains(&Grant::Emit);
    Ok((candidate.description.version, emits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use std::fs;

    #[test]
    fn chains_that_cannot_be_are_refused_to_their_end() {
        let mut survey = Survey::default();
        let mut chains = Chains::default();
        let all: [(&str, &[&str], bool); 6] = [
            ("dedupe", &[], true),
            ("index", &["dedupe"], false),
            ("late", &["index"], false),
            ("lost", &["nobody"], true),
            ("below", &["lost"], false),
            ("x", &["x"], true),
        ];
        for (name, after, emits) in all {
            survey.fine.insert(name.into(), "1".into());
            let after = after.iter().map(ToString::to_string).collect();
            chains.after.insert(name.into(), after);
            chains.emits.insert(name.into(), emits);
        }
        let names: Vec<String> = survey.fine.keys().cloned().collect();
        chains.judge(&mut survey, &names);
        assert_eq!(survey.fine.keys().collect::<Vec<_>>(), ["dedupe", "index"]);
        let why = |name: &str| &survey.refused[name];
        assert!(
            why("late").contains("\"index\" emits nothing"),
            "{}",
            why("late")
        );
        assert!(why("lost").contains("no plugin is called \"nobody\""));
        assert!(why("below").contains("\"lost\" does not run"));
        assert!(why("x").contains("names itself"));
    }

    #[test]
    fn what_a_start_would_refuse_is_told() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::write(at("penstock.toml"), "").unwrap();
        let loaded = load(Some(&at("penstock.toml")), std::iter::empty()).unwrap();
        let survey_now = || survey(&loaded);
        // No directory yet: no plugins.
        let found = survey_now().unwrap();
        assert!(found.fine.is_empty() && found.refused.is_empty());
        let told = found.warnings[0].to_string();
        assert!(told.contains("plugins_dir: there is no "), "{told}");
        fs::write(at("plugins.d"), "").unwrap();
        let told = survey_now().unwrap_err().to_string();
        assert!(
            told.contains("plugins_dir: ") && told.contains("cannot be read"),
            "{told}"
        );
        fs::remove_file(at("plugins.d")).unwrap();
        let mut named = loaded.clone();
        named.config.query.lookup = Some("index".into());
        let told = survey(&named).unwrap().warnings[1].to_string();
        assert!(
            told.contains("query.lookup: \"index\" is not there"),
            "{told}"
        );

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
}
