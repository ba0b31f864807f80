//! Chains of plugins: who comes after whom, and whether that can be.
//!
//! ```text
//! engines ─> dedupe ─> prefix-index        after = ["dedupe"]
//!                 └──> forward             after = ["dedupe"]
//! ```
//! Pure: names and lists of names.

use crate::config::nearest;
use std::collections::{BTreeMap, BTreeSet};

/// Each plugin's `after`.
pub type Afters = BTreeMap<String, Vec<String>>;

/// Why a plugin's `after` cannot be, whatever the others are: a name that nobody has, its
/// own, or a cycle.
pub fn fault<'a>(
    name: &str,
    all: &Afters,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    let after = all.get(name)?;
    for (i, other) in after.iter().enumerate() {
        if other == name {
            return Some("after: it names itself".into());
        }
        if after[..i].contains(other) {
            return Some(format!("after: {other:?} is named twice"));
        }
        if !names.clone().any(|known| known == other) {
            let near = nearest(other, names.clone().filter(|known| *known != name));
            let near = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
            return Some(format!("after: no plugin is called {other:?}{near}"));
        }
    }
    let cycle = cycle(name, all)?;
    Some(format!("after: a cycle: {}", cycle.join(" -> ")))
}

/// The shortest way from a plugin through those before it back to itself, in the order of
/// events.
fn cycle(name: &str, all: &Afters) -> Option<Vec<String>> {
    let mut ways = vec![vec![name.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way.last().and_then(|last| all.get(last));
            for before in last.into_iter().flatten() {
                let mut way = way.clone();
                way.push(before.clone());
                if before == name {
                    way.reverse();
                    return Some(way);
                }
                if seen.insert(before.clone()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

/// Names so that each comes after those before it. Those in a cycle come last.
pub fn order(names: impl IntoIterator<Item = String>, all: &Afters) -> Vec<String> {
    let mut left: BTreeSet<String> = names.into_iter().collect();
    let mut out = Vec::with_capacity(left.len());
    loop {
        let free = |name: &&String| {
            let after = all.get(*name).into_iter().flatten();
            !after
                .clone()
                .any(|before| before != *name && left.contains(before))
        };
        let free: Vec<String> = left.iter().filter(free).cloned().collect();
        if free.is_empty() {
            out.extend(left);
            return out;
        }
        for name in free {
            left.remove(&name);
            out.push(name);
        }
    }
}

/// Those whose `after` names it.
pub fn readers<'a>(name: &'a str, all: &'a Afters) -> impl Iterator<Item = &'a String> {
    let reads = move |(_, after): &(&String, &Vec<String>)| after.iter().any(|a| a == name);
    all.iter().filter(reads).map(|(reader, _)| reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn afters(all: &[(&str, &[&str])]) -> Afters {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        all.iter()
            .map(|(name, after)| (name.to_string(), owned(after)))
            .collect()
    }

    fn why(name: &str, all: &Afters) -> Option<String> {
        fault(name, all, all.keys().map(String::as_str))
    }

    #[test]
    fn what_cannot_be_is_told() {
        let all = afters(&[
            ("dedupe", &[]),
            ("index", &["dedup"]),
            ("self", &["self"]),
            ("twice", &["dedupe", "dedupe"]),
            ("a", &["c"]),
            ("b", &["a"]),
            ("c", &["dedupe", "b"]),
            ("below", &["a"]),
        ]);
        let told = why("index", &all).unwrap();
        assert!(
            told.contains("no plugin is called \"dedup\"; did you mean \"dedupe\"?"),
            "{told}"
        );
        assert!(why("self", &all).unwrap().contains("names itself"));
        assert!(why("twice", &all).unwrap().contains("twice"));
        assert_eq!(why("a", &all).unwrap(), "after: a cycle: a -> b -> c -> a");
        assert_eq!(why("c", &all).unwrap(), "after: a cycle: c -> a -> b -> c");
        assert_eq!(why("below", &all), None, "the cycle is not its own");
        assert_eq!(why("dedupe", &all), None);
        assert_eq!(why("unheard", &all), None);
    }

    #[test]
    fn operators_come_first() {
        let all = afters(&[
            ("a-sink", &["m", "z"]),
            ("m", &["z"]),
            ("z", &[]),
            ("x", &["y"]),
            ("y", &["x"]),
        ]);
        let order = order(all.keys().cloned(), &all);
        assert_eq!(order, ["z", "m", "a-sink", "x", "y"]);
        assert_eq!(readers("z", &all).collect::<Vec<_>>(), ["a-sink", "m"]);
    }
}
