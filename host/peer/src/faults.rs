//! Faults that a publisher commits on purpose, so that tests can watch a
//! consumer repair them.
//!
//! Each is chosen by sequence and so the same in every run; chance is a
//! function of seed and sequence. A batch that is not sent live stays in the
//! replay buffer, so that it can be had, unless it is hidden as well: then it
//! is lost for good, and a consumer has to report it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::str::FromStr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Some sequences.
///
/// As text: `none`, `all`, `3,7-9` (those), `every:100` (0, 100, …),
/// `p:0.01` or `p:0.01:SEED` (that share of them).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Selector {
    /// No sequence.
    #[default]
    None,
    /// Every sequence.
    All,
    /// Exactly these.
    These(BTreeSet<u64>),
    /// From the first to the second, both included.
    Range(u64, u64),
    /// Multiples of it. 0: none.
    Every(u64),
    /// A share (0 to 1) of all, by a seed.
    Chance {
        /// The share.
        share: f64,
        /// Which ones.
        seed: u64,
    },
    /// In any of several selectors.
    Any(Vec<Selector>),
}

/// What a publisher does wrong. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// Not sent live.
    pub drop_live: Selector,
    /// Sent live twice.
    pub duplicate_live: Selector,
    /// Left out of every replay.
    pub hide_from_replay: Selector,
    /// Payload replaced by bytes that no decoder accepts, live and in replay.
    pub corrupt: Selector,
    /// Replays end without the end marker.
    pub drop_end_marker: bool,
    /// Replay requests get no answer.
    pub silent_replay: bool,
}

// === impl Selector ===

impl Selector {
    /// True when `sequence` is selected.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(these) => these.contains(&sequence),
            Self::Range(first, last) => (*first..=*last).contains(&sequence),
            Self::Every(n) => *n != 0 && sequence.is_multiple_of(*n),
            Self::Chance { share, seed } => {
                let roll = xxh3_64_with_seed(&sequence.to_le_bytes(), *seed);
                // 53 bits: exact in a float.
                ((roll >> 11) as f64) < share * (1u64 << 53) as f64
            }
            Self::Any(several) => several.iter().any(|one| one.contains(sequence)),
        }
    }

    /// Exactly these.
    pub fn these(sequences: impl IntoIterator<Item = u64>) -> Self {
        Self::These(sequences.into_iter().collect())
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?}: expected none, all, 3,7-9, every:N or p:SHARE[:SEED]");
        match text {
            "none" | "" => return Ok(Self::None),
            "all" => return Ok(Self::All),
            _ => {}
        }
        if let Some(n) = text.strip_prefix("every:") {
            return Ok(Self::Every(n.parse().map_err(|_| bad())?));
        }
        if let Some(rest) = text.strip_prefix("p:") {
            let (share, seed) = rest.split_once(':').unwrap_or((rest, "0"));
            let share: f64 = share.parse().map_err(|_| bad())?;
            let seed = seed.parse().map_err(|_| bad())?;
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{text:?}: a share is between 0 and 1"));
            }
            return Ok(Self::Chance { share, seed });
        }
        let mut singles = BTreeSet::new();
        let mut several = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            match part.split_once('-') {
                Some((first, last)) => several.push(Self::Range(
                    first.parse().map_err(|_| bad())?,
                    last.parse().map_err(|_| bad())?,
                )),
                None => {
                    singles.insert(part.parse().map_err(|_| bad())?);
                }
            }
        }
        if !singles.is_empty() {
            several.push(Self::These(singles));
        }
        Ok(match several.pop() {
            Some(only) if several.is_empty() => only,
            Some(last) => {
                several.push(last);
                Self::Any(several)
            }
            None => Self::None,
        })
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list =
            |f: &mut std::fmt::Formatter<'_>, parts: Vec<String>| f.write_str(&parts.join(","));
        match self {
            Self::None => f.write_str("none"),
            Self::All => f.write_str("all"),
            Self::These(these) => list(f, these.iter().map(u64::to_string).collect()),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Every(n) => write!(f, "every:{n}"),
            Self::Chance { share, seed } => write!(f, "p:{share}:{seed}"),
            Self::Any(several) => list(f, several.iter().map(Self::to_string).collect()),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_which_sequences() {
        for (text, chosen) in [
            ("none", vec![]),
            ("3,7-9", vec![3, 7, 8, 9]),
            ("every:4", vec![0, 4, 8]),
            ("5", vec![5]),
            ("2-3", vec![2, 3]),
            ("all", (0..10).collect()),
        ] {
            let selector: Selector = text.parse().unwrap();
            let got: Vec<u64> = (0..10).filter(|s| selector.contains(*s)).collect();
            assert_eq!(got, chosen, "{text}");
            let again: Selector = selector.to_string().parse().unwrap();
            assert_eq!(again, selector, "{text}");
        }
        for text in ["x", "3-", "every:x", "p:2", "p:0.1:x", "1,,2"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    #[test]
    fn chance_keeps_its_share_and_its_choice() {
        let one: Selector = "p:0.1:7".parse().unwrap();
        let other: Selector = "p:0.1:8".parse().unwrap();
        let pick = |s: &Selector| (0..10_000).filter(|n| s.contains(*n)).collect::<Vec<_>>();
        assert!((900..1_100).contains(&pick(&one).len()));
        assert_eq!(pick(&one), pick(&one));
        assert_ne!(pick(&one), pick(&other));
    }
}
