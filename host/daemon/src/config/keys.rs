//! The names of all keys, as the types have them: for variables, and for what a
//! reload found changed.

use super::error::nearest;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Every key with its value, tables joined by dots. A list is one value.
pub fn keys(config: &impl Serialize) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    // What was read from TOML can be written as JSON.
    let value = serde_json::to_value(config).unwrap_or_default();
    flatten(value, String::new(), &mut keys);
    keys
}

fn flatten(value: Value, path: String, keys: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => {
            for (name, value) in table {
                let path = match path.as_str() {
                    "" => name,
                    path => format!("{path}.{name}"),
                };
                flatten(value, path, keys);
            }
        }
        value => drop(keys.insert(path, value)),
    }
}

/// The variable that overrides a key.
fn variable(key: &str) -> String {
    format!("PENSTOCK_{}", key.to_uppercase().replace('.', "__"))
}

/// The variable that somebody who wrote `name` may have meant. None: `name` is one,
/// or is like none.
pub fn meant(name: &str, config: &impl Serialize) -> Option<String> {
    let variables: Vec<String> = keys(config).keys().map(|key| variable(key)).collect();
    // A table may be given as a whole.
    let table = format!("{name}__");
    if variables.iter().any(|v| v == name || v.starts_with(&table)) {
        return None;
    }
    // One underscore where two are needed is the usual mistake.
    let bare = |name: &str| name.replace('_', "");
    let same = variables.iter().find(|v| bare(v) == bare(name));
    let tail = |name: &str| name.trim_start_matches("PENSTOCK_").to_string();
    same.cloned().or_else(|| {
        let found = nearest(
            &tail(name),
            variables.iter().map(|v| &v["PENSTOCK_".len()..]),
        );
        found.map(|found| format!("PENSTOCK_{found}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn variables_that_are_none_lead_to_one() {
        for (name, wanted) in [
            ("PENSTOCK_QUERY_HTTP", Some("PENSTOCK_QUERY__HTTP")),
            ("PENSTOCK_PLUGINS__DIR", Some("PENSTOCK_PLUGINS_DIR")),
            ("PENSTOCK_QUERY__HTP", Some("PENSTOCK_QUERY__HTTP")),
            ("PENSTOCK_LGO", Some("PENSTOCK_LOG")),
            ("PENSTOCK_QUERY__LOOKUP", None),
            ("PENSTOCK_QUERY", None),
            ("PENSTOCK_XYZZY", None),
        ] {
            let meant = meant(name, &Config::default());
            assert_eq!(meant.as_deref(), wanted, "{name}");
        }
    }
}
