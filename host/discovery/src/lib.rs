//! Where sources come from: one set of sources, and its changes.
//!
//! Several origins (the config's static list, HTTP registration) say which
//! sources they want; the set is their union by name. An origin's new word
//! replaces its old one as a whole, so that a reload and a start are one path.
//! It opens no socket and knows none: what to add and remove comes back as a
//! [`Delta`], which the daemon hands to ingest.

mod expand;

pub use expand::{Declared, ExpandError, bad_model, bad_name};

use penstock_event::SourceSpec;
use std::collections::BTreeMap;

/// Who wants a source. In a conflict over a name the earlier origin wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The config file.
    Static,
    /// `POST /register`.
    Registered,
}

/// What to do so that the running sources are the wanted ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Names to remove, first.
    pub remove: Vec<String>,
    /// Sources to add, then.
    pub add: Vec<SourceSpec>,
    /// Names that two origins want differently: the later origin's is left out.
    pub conflicts: Vec<String>,
}

/// The wanted sources by origin, and the running ones.
#[derive(Debug, Default)]
pub struct SourceSet {
    wanted: BTreeMap<Origin, BTreeMap<String, SourceSpec>>,
    running: BTreeMap<String, SourceSpec>,
}

// === impl SourceSet ===

impl SourceSet {
    /// Replaces all that `origin` wants.
    pub fn replace(&mut self, origin: Origin, specs: Vec<SourceSpec>) -> Delta {
        let specs = specs.into_iter().map(|s| (s.name(), s)).collect();
        self.wanted.insert(origin, specs);
        self.settle()
    }

    /// Adds or changes one source.
    pub fn insert(&mut self, origin: Origin, spec: SourceSpec) -> Delta {
        self.wanted
            .entry(origin)
            .or_default()
            .insert(spec.name(), spec);
        self.settle()
    }

    /// Removes what `origin` wants under any name that `which` picks. None: nothing
    /// of this origin was picked.
    pub fn remove(
        &mut self,
        origin: Origin,
        mut which: impl FnMut(&SourceSpec) -> bool,
    ) -> Option<Delta> {
        let specs = self.wanted.get_mut(&origin)?;
        let before = specs.len();
        specs.retain(|_, spec| !which(spec));
        (specs.len() < before).then(|| self.settle())
    }

    /// Says that a source could not be started, so that the next change tries again.
    pub fn failed(&mut self, name: &str) {
        self.running.remove(name);
    }

    /// What an origin wants.
    pub fn wanted(&self, origin: Origin) -> impl Iterator<Item = &SourceSpec> {
        self.wanted
            .get(&origin)
            .into_iter()
            .flat_map(|m| m.values())
    }

    fn settle(&mut self) -> Delta {
        let mut delta = Delta::default();
        let mut union: BTreeMap<&String, &SourceSpec> = BTreeMap::new();
        for specs in self.wanted.values() {
            for (name, spec) in specs {
                match union.get(name) {
                    None => drop(union.insert(name, spec)),
                    Some(first) if *first == spec => {}
                    Some(_) => delta.conflicts.push(name.clone()),
                }
            }
        }
        for (name, spec) in &self.running {
            if union.get(name) != Some(&spec) {
                delta.remove.push(name.clone());
            }
        }
        for (name, spec) in &union {
            if self.running.get(*name) != Some(spec) {
                delta.add.push((*spec).clone());
            }
        }
        self.running = union
            .into_iter()
            .map(|(name, spec)| (name.clone(), spec.clone()))
            .collect();
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_event::Mode;

    fn spec(name: &str, endpoint: &str) -> SourceSpec {
        SourceSpec {
            instance: name.into(),
            rank: None,
            endpoints: vec![endpoint.into()],
            replay: None,
            topics: Vec::new(),
            mode: Mode::Connect,
            model: String::new(),
            first_sequence: 0,
            block_size: 0,
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn a_new_word_replaces_the_old_one() {
        let mut set = SourceSet::default();
        let delta = set.replace(Origin::Static, vec![spec("a", "1"), spec("b", "1")]);
        assert_eq!(delta.add.len(), 2);
        let delta = set.replace(Origin::Static, vec![spec("b", "2"), spec("c", "1")]);
        assert_eq!(delta.remove, ["a", "b"]);
        let added: Vec<_> = delta.add.iter().map(SourceSpec::name).collect();
        assert_eq!(added, ["b", "c"]);
        let again = set.replace(Origin::Static, vec![spec("b", "2"), spec("c", "1")]);
        assert_eq!(again, Delta::default());
    }

    #[test]
    fn the_file_wins_over_registration() {
        let mut set = SourceSet::default();
        set.replace(Origin::Static, vec![spec("a", "1")]);
        let delta = set.insert(Origin::Registered, spec("a", "2"));
        assert_eq!(delta.conflicts, ["a"]);
        assert!(delta.add.is_empty());
        let delta = set.replace(Origin::Static, vec![]);
        assert_eq!(delta.add[0].endpoints, ["2"]);
    }

    #[test]
    fn removing_nothing_is_told_apart() {
        let mut set = SourceSet::default();
        set.insert(Origin::Registered, spec("a", "1"));
        assert_eq!(set.remove(Origin::Registered, |s| s.instance == "x"), None);
        let delta = set.remove(Origin::Registered, |s| s.instance == "a");
        assert_eq!(delta.unwrap().remove, ["a"]);
    }
}
