//! Where a key stands: file and line, or the variable that set it.

use super::ConfigError;
use std::path::PathBuf;
use toml::de::{DeTable, DeValue};

/// Where a config's keys stand, for messages.
#[derive(Clone, Debug)]
pub struct Where {
    pub file: PathBuf,
    pub text: String,
    pub variables: Vec<Variable>,
}

/// An overriding variable, and the path of its key.
pub type Variable = (String, Vec<String>);

// === impl Where ===

impl Where {
    /// The mistake at a key such as `sources.0.endpoint`.
    pub fn at(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let path: Vec<&str> = key.split('.').collect();
        let variable =
            self.variables.iter().rev().find(|(_, set)| {
                set.len() <= path.len() && set.iter().zip(&path).all(|(a, b)| a == b)
            });
        let mut error = ConfigError::file(&self.file, message);
        error.key = Some(key.to_string());
        match variable {
            Some((name, _)) => error.place = format!("environment variable {name}"),
            None => error.line = line_of(&self.text, &path),
        }
        error
    }
}

/// The line of a key, or of the nearest table around it.
fn line_of(text: &str, path: &[&str]) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut span = None;
    let mut at: Option<&DeValue<'_>> = None;
    for (depth, name) in path.iter().enumerate() {
        let found = match (depth, at) {
            (0, _) => table.get_ref().get_key_value(*name),
            (_, Some(DeValue::Table(table))) => table.get_key_value(*name),
            (_, Some(DeValue::Array(items))) => {
                let Some(item) = name.parse().ok().and_then(|i: usize| items.get(i)) else {
                    break;
                };
                span = Some(item.span().start);
                at = Some(item.get_ref());
                continue;
            }
            _ => None,
        };
        let Some((key, value)) = found else { break };
        span = Some(key.span().start);
        at = Some(value.get_ref());
    }
    let before = text.as_bytes().get(..span?)?;
    Some(before.iter().filter(|b| **b == b'\n').count() + 1)
}
