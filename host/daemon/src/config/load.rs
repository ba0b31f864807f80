//! File, then environment, then checks: start and reload alike.

use super::place::{Variable, Where};
use super::{Config, ConfigError, keys};
use super::{addresses, check, sources};
use penstock_event::SourceSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A config that was found right.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The keys.
    pub config: Config,
    /// Sources, one a rank.
    pub sources: Vec<SourceSpec>,
    /// The directory that relative paths start from.
    pub home: PathBuf,
    /// What works and is hardly meant.
    pub warnings: Vec<ConfigError>,
    place: Where,
}

impl Loaded {
    /// A path of the config, from the config's own directory.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.home.join(path)
    }

    /// What is wrong at a key, such as `query.lookup`.
    pub fn at(&self, key: &str, message: impl Into<String>) -> ConfigError {
        self.place.at(key, message)
    }
}

/// The file that a command reads: the one named, or `penstock.toml` if there is one.
pub fn file(named: Option<PathBuf>) -> Option<PathBuf> {
    let here = PathBuf::from("penstock.toml");
    named.or_else(|| here.exists().then_some(here))
}

/// How messages call it.
pub fn name(file: Option<&Path>) -> &Path {
    file.unwrap_or(Path::new("(defaults)"))
}

/// Reads `file` (none: defaults alone) and the variables of `env`.
pub fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let name = name(file);
    let text = match file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|e| ConfigError::file(file, format!("cannot be read: {e}")))?,
        None => String::new(),
    };
    let (config, variables) = parse::<Config>(name, &text, env, "PENSTOCK_")?;
    let place = Where {
        file: name.to_path_buf(),
        text,
        variables,
    };
    let sources = sources::expand(&config, &place)?;
    check::values(&config, &place)?;
    addresses::check(&config, &sources, &place)?;
    let warnings = sources::overlaps(&sources, &place);
    let sources = sources.into_iter().map(|(_, spec)| spec).collect();
    let home = file
        .and_then(Path::parent)
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok(Loaded {
        config,
        sources,
        home: home.to_path_buf(),
        warnings,
        place,
    })
}

/// Typed keys from TOML text and overriding variables, whose paths come back too.
pub(super) fn parse<T: DeserializeOwned + Serialize + Default>(
    file: &Path,
    text: &str,
    env: impl Iterator<Item = (String, String)>,
    prefix: &str,
) -> Result<(T, Vec<Variable>), ConfigError> {
    let mut typed: T = toml::from_str(text).map_err(|e| ConfigError::toml(file, text, &e))?;
    let mut table: Table = toml::from_str(text).map_err(|e| ConfigError::toml(file, text, &e))?;
    let mut variables = Vec::new();
    let mut env: Vec<_> = env.filter(|(name, _)| name.starts_with(prefix)).collect();
    env.sort();
    for (name, value) in env {
        let path: Vec<String> = (name[prefix.len()..].split("__"))
            .map(str::to_ascii_lowercase)
            .collect();
        set(&mut table, &path, read(&value)).map_err(|m| ConfigError::variable(&name, &m))?;
        typed = match table.clone().try_into() {
            Ok(typed) => typed,
            Err(error) => return Err(variable_error::<T>(&name, &value, &path, &error)),
        };
        variables.push((name, path));
    }
    Ok((typed, variables))
}

/// `PENSTOCK_X=5` is a number, `PENSTOCK_X=["a"]` a list, anything else a string.
fn read(value: &str) -> Value {
    let typed = as_toml(value).ok();
    typed.unwrap_or_else(|| Value::String(value.to_string()))
}

fn as_toml(value: &str) -> Result<Value, toml::de::Error> {
    let mut table = toml::from_str::<Table>(&format!("v = {value}"))?;
    let typed = table.remove("v");
    // A line end, and another key behind it: no value, but text.
    let only = typed.filter(|_| table.is_empty());
    Ok(only.unwrap_or_else(|| Value::String(value.to_string())))
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    let Some((last, tables)) = path.split_last() else {
        return Err("names no key".into());
    };
    let mut at = table;
    for name in tables {
        let next = at
            .entry(name.clone())
            .or_insert_with(|| Value::Table(Table::new()));
        at = match next {
            Value::Table(table) => table,
            _ => {
                return Err(format!(
                    "`{name}` is not a table; give the whole list as TOML"
                ));
            }
        };
    }
    at.insert(last.clone(), value);
    Ok(())
}

fn variable_error<T: Serialize + Default>(
    name: &str,
    value: &str,
    path: &[String],
    error: &toml::de::Error,
) -> ConfigError {
    let mut told = ConfigError::variable(name, error.message());
    told.key = Some(path.join("."));
    if let Some(meant) = keys::meant(name, &T::default()) {
        told.nearest = Some(meant);
    }
    // What begins like a list or a table was meant as one.
    if value.trim_start().starts_with(['[', '{'])
        && let Err(error) = as_toml(value)
    {
        let why = error.message().replace('\n', ", ");
        told.message = format!("cannot be read as TOML: {why}");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("penstock.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn wrong(text: &str, env: &[(&str, &str)]) -> ConfigError {
        let (_dir, path) = file(text);
        let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        load(Some(&path), env).unwrap_err()
    }

    #[test]
    fn mistakes_name_line_key_and_the_nearest_name() {
        let source = "[[sources]]\nname = \"a\"\n";
        let cases: &[(&str, usize, &str, Option<&str>)] = &[
            (
                "log = \"info\"\nlgo_format = \"json\"\n",
                2,
                "lgo_format",
                Some("log_format"),
            ),
            ("lgo = \"info\"\n", 1, "lgo", Some("log")),
            ("[query]\nhtttp = \"x\"\n", 2, "htttp", Some("http")),
            ("[ingest]\nthreads = \"two\"\n", 2, "threads", None),
            (
                &format!("{source}endpoint = \"tcp//x\"\n"),
                3,
                "sources.0.endpoint",
                None,
            ),
            (
                &format!("{source}endpont = \"tcp://x:1\"\n"),
                3,
                "endpont",
                Some("endpoint"),
            ),
            (source, 1, "sources.0", None),
            ("[query]\nhttp = \"nowhere\"\n", 2, "query.http", None),
            ("[ingest]\nthreads = 0\n", 2, "ingest.threads", None),
        ];
        for (text, line, key, nearest) in cases {
            let error = wrong(text, &[]);
            assert_eq!(error.line, Some(*line), "{text:?}: {error}");
            assert_eq!(error.key.as_deref(), Some(*key), "{text:?}: {error}");
            assert_eq!(error.nearest.as_deref(), *nearest, "{text:?}: {error}");
        }
    }

    #[test]
    fn a_line_end_in_a_variable_sets_no_second_key() {
        let env = [("PENSTOCK_SCAN_MS".to_string(), "500\nlog = 3".to_string())];
        let error = load(None, env.into_iter()).unwrap_err().to_string();
        assert!(error.contains("PENSTOCK_SCAN_MS"), "{error}");
    }

    #[test]
    fn variables_override_and_are_named_when_wrong() {
        let (_dir, path) = file("[query]\nhttp = \"127.0.0.1:1\"\n");
        let env = [
            ("PENSTOCK_QUERY__HTTP", "127.0.0.1:2"),
            ("PENSTOCK_INGEST__THREADS", "3"),
            ("PENSTOCK_SOURCES", r#"[{name="a",endpoint="tcp://h:1"}]"#),
            ("OTHER", "x"),
        ];
        let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        let loaded = load(Some(&path), env).unwrap();
        assert_eq!(loaded.config.query.http, "127.0.0.1:2");
        assert_eq!(loaded.config.ingest.threads, 3);
        assert_eq!(loaded.sources[0].endpoints, ["tcp://h:1"]);

        let error = wrong("", &[("PENSTOCK_QUERY__HTP", "x")]);
        assert!(error.place.ends_with("PENSTOCK_QUERY__HTP"), "{error}");
        let meant = Some("PENSTOCK_QUERY__HTTP");
        assert_eq!(error.nearest.as_deref(), meant, "{error}");
        let error = wrong("", &[("PENSTOCK_INGEST__THREADS", "0")]);
        assert!(error.place.ends_with("PENSTOCK_INGEST__THREADS"), "{error}");
    }

    #[test]
    fn a_list_cut_short_is_told_as_such() {
        let error = wrong("", &[("PENSTOCK_SOURCES", "[{name")]);
        let text = error.to_string();
        assert!(text.contains("cannot be read as TOML: "), "{text}");
        assert!(!text.contains("expected a sequence"), "{text}");
        let error = wrong("", &[("PENSTOCK_SOURCES", r#"[{nam = "a"}]"#)]);
        assert_eq!(error.nearest.as_deref(), Some("name"), "{error}");
    }

    #[test]
    fn two_sources_of_one_name_are_a_mistake() {
        let text = "[[sources]]\nname=\"a\"\nendpoint=\"tcp://h:1\"\n\n[[sources]]\nname=\"a\"\nendpoint=\"tcp://h:2\"\n";
        let error = wrong(text, &[]);
        assert_eq!(error.line, Some(6), "{error}");
    }
}
