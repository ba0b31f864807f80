//! Checkpoints of operators and those after them, in an order that no kill can break.
//!
//! ```text
//! begun     operator at 90 ── those after it, once they stand at 90 or past it
//! in place  those after it ── operator
//! ```
//! So at any moment the operator's file is not ahead of theirs.

use super::{Checkpoints, Draft};
use crate::daemon::chains::{Afters, order, readers};
use crate::daemon::plugins::Keep;
use anyhow::{Result, ensure};
use penstock_event::{Position, SourceId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How often it is looked at whether a plugin is there yet.
const LOOK: Duration = Duration::from_millis(5);

/// What is due, and those after it, in groups that know nothing of each other; in each,
/// operators come first.
pub(super) fn groups<'a>(due: &[String], all: &'a [Keep]) -> Vec<Vec<&'a Keep>> {
    let by_name: BTreeMap<&str, &Keep> = all.iter().map(|p| (&*p.name, p)).collect();
    let names = linked(due, &afters(all));
    let keep = |name: String| by_name.get(&*name).copied();
    names
        .into_iter()
        .map(|group| group.into_iter().filter_map(keep).collect())
        .collect()
}

/// The names of [`groups`].
fn linked(due: &[String], all: &Afters) -> Vec<Vec<String>> {
    let mut left: BTreeSet<String> = due.iter().cloned().collect();
    let mut todo: Vec<String> = due.to_vec();
    while let Some(name) = todo.pop() {
        for reader in readers(&name, all) {
            if left.insert(reader.clone()) {
                todo.push(reader.clone());
            }
        }
    }
    let mut groups = Vec::new();
    while let Some(first) = left.pop_first() {
        let (mut group, mut todo) = (vec![first.clone()], vec![first]);
        while let Some(name) = todo.pop() {
            let before = all.get(&name).into_iter().flatten();
            let near: Vec<String> = before.chain(readers(&name, all)).cloned().collect();
            for name in near {
                if left.remove(&name) {
                    group.push(name.clone());
                    todo.push(name);
                }
            }
        }
        groups.push(order(group, all));
    }
    groups
}

fn afters(all: &[Keep]) -> Afters {
    all.iter()
        .map(|p| (p.name.clone(), p.after.clone()))
        .collect()
}

/// Writes the checkpoints of a group.
pub(super) fn write(checkpoints: &Checkpoints, group: &[&Keep], all: &[Keep], patience: Duration) {
    let mut drafts: Vec<(&Keep, Option<Draft>)> = Vec::new();
    for plugin in group.iter().copied() {
        let before: Vec<_> = (drafts.iter())
            .filter(|(operator, _)| plugin.after.contains(&operator.name))
            .filter_map(|(_, draft)| draft.as_ref())
            .map(|draft| &draft.positions)
            .collect();
        let draft = match plugin.every {
            None => None,
            Some(_) => said(&plugin.name, begin(checkpoints, plugin, &before, patience)),
        };
        drafts.push((plugin, draft));
    }
    let all = afters(all);
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    for (plugin, draft) in drafts.into_iter().rev() {
        let Some(draft) = draft else { continue };
        let missing = readers(&plugin.name, &all).find(|reader| !placed.contains(&***reader));
        if let Some(reader) = missing {
            let plugin = &*plugin.name;
            tracing::debug!(
                plugin,
                reader,
                "no checkpoint now: there is none of one after it"
            );
            let skipped = metrics::counter!(
                "penstock_checkpoints_skipped_total", "plugin" => plugin.to_owned()
            );
            skipped.increment(1);
            continue;
        }
        if let Some(bytes) = said(&plugin.name, draft.place()) {
            placed.insert(&plugin.name);
            tracing::debug!(plugin = plugin.name, bytes, "checkpoint written");
            let gauge =
                metrics::gauge!("penstock_checkpoint_bytes", "plugin" => plugin.name.clone());
            gauge.set(bytes as f64);
        }
    }
}

/// Begins a plugin's checkpoint once it stands where those before it stood in theirs.
fn begin(
    checkpoints: &Checkpoints,
    plugin: &Keep,
    before: &[&HashMap<String, Position>],
    patience: Duration,
) -> Result<Draft> {
    let until = Instant::now() + patience;
    let mut least: HashMap<SourceId, Position> = HashMap::new();
    let mut names = HashMap::new();
    if !before.is_empty() {
        // What is of one that is down stays as it was, and is looked at when it comes back.
        let up = plugin.shards.running();
        let reads = up.reads();
        let sources = up.sources();
        for source in sources.iter().filter(|s| reads.contains(&s.info.id)) {
            // Of several, that one counts which it may be behind of.
            let at = before.iter().filter_map(|b| b.get(&*source.info.name));
            let at = at.max();
            if let Some(at) = at {
                least.insert(source.info.id, *at);
                names.insert(source.info.name.clone(), *at);
            }
        }
    }
    while !plugin.shards.trail.reached(&least) {
        ensure!(
            Instant::now() < until,
            "it is too far behind those that it comes after"
        );
        std::thread::sleep(LOOK);
    }
    let draft = checkpoints.draft(
        &plugin.name,
        &plugin.shards,
        (plugin.state, &plugin.streams),
    )?;
    // It may have been made anew meanwhile.
    let level = names
        .iter()
        .all(|(name, at)| draft.positions.get(&**name).is_some_and(|p| p >= at));
    ensure!(
        level,
        "it does not stand where those that it comes after stood"
    );
    Ok(draft)
}

/// What came of it; an error is logged and counted.
fn said<T>(plugin: &str, result: Result<T>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(error) => {
            tracing::error!(plugin, "no checkpoint: {error:#}");
            let name = plugin.to_owned();
            metrics::counter!("penstock_checkpoints_failed_total", "plugin" => name).increment(1);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_chains_with_operators_first() {
        let owned =
            |names: &[&str]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
        let all: Afters = [
            ("alone", &[][..]),
            ("dedupe", &[]),
            ("filter", &["dedupe"]),
            ("a-sink", &["filter"]),
            ("index", &["dedupe"]),
            ("other", &["second"]),
            ("second", &[]),
        ]
        .iter()
        .map(|(name, after)| (name.to_string(), owned(after)))
        .collect();
        let of = |due: &[&str]| linked(&owned(due), &all);
        assert_eq!(of(&["alone"]), [["alone"]]);
        assert_eq!(
            of(&["a-sink"]),
            [["a-sink"]],
            "nothing before it need be written"
        );
        assert_eq!(of(&["dedupe"]), [["dedupe", "filter", "index", "a-sink"]]);
        let both = of(&["second", "filter", "alone"]);
        assert_eq!(
            both,
            [
                owned(&["filter", "a-sink"]),
                owned(&["alone"]),
                owned(&["second", "other"])
            ]
        );
    }
}
