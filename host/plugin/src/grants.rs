//! What a plugin may import, by name. The operator's list decides. Without one
//! it is `log` and `metrics`, which are bounded and reach nobody but the
//! operator, so that a bare `NAME.wasm` works.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One interface of `penstock:plugin` that a plugin may import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// Lines in the daemon's log.
    Log,
    /// Numbers in `/metrics`.
    Metrics,
    /// The time; without it, clocks stand at 0 (WASI's too).
    Clock,
    /// Messages to the plugin's sinks.
    Publish,
    /// Events for the plugins after it.
    Emit,
}

/// The grants of one plugin: `grants = ["log", "publish"]`. The default is `log`
/// and `metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(BTreeSet<Grant>);

// === impl Grant ===

impl Grant {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::Log,
        Self::Metrics,
        Self::Clock,
        Self::Publish,
        Self::Emit,
    ];

    /// The name in `grants` and in WIT.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Metrics => "metrics",
            Self::Clock => "clock",
            Self::Publish => "publish",
            Self::Emit => "emit",
        }
    }

    /// The grant that an interface of `penstock:plugin` needs.
    #[must_use]
    pub fn of_interface(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.name() == name)
    }
}

// === impl Grants ===

impl Default for Grants {
    fn default() -> Self {
        Self([Grant::Log, Grant::Metrics].into())
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

impl Grants {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Grant::ALL.into_iter().collect()
    }

    /// True when `grant` is among them.
    #[must_use]
    pub fn has(&self, grant: Grant) -> bool {
        self.0.contains(&grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_config() {
        let grants: Grants = serde_json::from_str(r#"["publish", "log"]"#).unwrap();
        assert!(grants.has(Grant::Publish) && !grants.has(Grant::Clock));
        assert!(serde_json::from_str::<Grants>(r#"["files"]"#).is_err());
        for grant in Grant::ALL {
            assert_eq!(Grant::of_interface(grant.name()), Some(grant));
        }
    }
}
