//! What rows are to reach: `goals.toml`.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const FILE: &str = include_str!("../goals.toml");

/// By row.
#[derive(Debug)]
pub struct Goals(BTreeMap<String, Goal>);

/// The bound of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// The figure that counts.
    pub of: Of,
    /// It is to be this, or less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// It is to be this, or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
}

/// A figure of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// What was measured of ours.
    Ours,
    /// What the row compares it by.
    Ratio,
}

// === impl Goals ===

impl Goals {
    /// Those of this build.
    pub fn read() -> Result<Self> {
        toml::from_str(FILE).map(Self).context("goals.toml")
    }

    /// That of a row, if it has one.
    pub fn of(&self, row: &str) -> Option<Goal> {
        self.0.get(row).copied()
    }
}

// === impl Goal ===

impl Goal {
    /// Whether a figure reaches it.
    pub fn is_met(&self, figure: f64) -> bool {
        self.at_most.is_none_or(|most| figure <= most)
            && self.at_least.is_none_or(|least| figure >= least)
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = if self.of == Of::Ratio { "ratio " } else { "" };
        match (self.at_most, self.at_least) {
            (Some(most), _) => write!(f, "{of}<= {most}"),
            (_, Some(least)) => write!(f, "{of}>= {least}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_bound() {
        let goals = Goals::read().unwrap();
        for (row, goal) in &goals.0 {
            assert!(goal.at_most.is_some() != goal.at_least.is_some(), "{row}");
        }
        let decode = goals.of("decode-maps-4").unwrap();
        assert!(decode.is_met(10.0) && !decode.is_met(9.9));
        assert_eq!(decode.to_string(), "ratio >= 10");
        assert!(goals.of("start").unwrap().is_met(300.0));
        assert_eq!(goals.of("no such row"), None);
    }
}
