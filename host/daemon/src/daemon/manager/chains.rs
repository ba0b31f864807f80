//! Operators and those after them.

use super::Worker;
use crate::config::PluginFile;
use crate::daemon::chains::{Afters, fault, order, readers};
use crate::daemon::load;
use crate::daemon::plugins::Plugins;
use crate::daemon::scan::Scan;
use crate::daemon::shards::Shards;
use penstock_plugin::State;
use penstock_route::Filter;

impl Worker {
    /// What is to be looked at in a scan, operators before those after them.
    pub(super) fn untried(&mut self, scan: &Scan) -> Vec<String> {
        if std::mem::take(&mut self.moved) {
            for name in std::mem::take(&mut self.waits) {
                self.tried.remove(&name);
            }
        }
        let new =
            (scan.settled.iter()).filter(|(name, found)| self.tried.get(*name) != Some(found));
        let new: Vec<_> = new
            .map(|(name, found)| (name.clone(), load::glance(found)))
            .collect();
        let names: Vec<_> = new.iter().map(|(name, _)| name.clone()).collect();
        self.files.extend(new);
        self.files.retain(|name, _| scan.names.contains(name));
        order(names, &self.afters())
    }

    /// What the files of each plugin name in `after`.
    fn afters(&self) -> Afters {
        let files = self.files.iter();
        files
            .map(|(name, file)| (name.clone(), file.after.clone()))
            .collect()
    }

    /// Why a plugin cannot come after those that it names. It is tried again once
    /// something else changes.
    pub(super) fn cannot_follow(&mut self, name: &str, after: &[String]) -> Option<String> {
        // What runs counts, not what was refused to take its place.
        let mut all = self.afters();
        all.extend(self.plugins.afters());
        all.insert(name.into(), after.to_vec());
        let names = self.files.keys().map(String::as_str);
        let why = fault(name, &all, names).or_else(|| self.plugins.lacks(after));
        if why.is_some() {
            self.waits.insert(name.into());
        }
        why
    }

    /// Plugins that read what this one emits.
    pub(super) fn readers(&self, name: &str) -> Vec<String> {
        let all = self.plugins.afters();
        readers(name, &all).cloned().collect()
    }

    /// Plugins that will read what this one emits, by their files, and what each gets.
    pub(super) fn readers_to_be(&self, name: &str) -> Vec<(String, Filter)> {
        let reads = |(_, file): &(&String, &PluginFile)| {
            file.enabled && file.after.iter().any(|after| after == name)
        };
        let files = self.files.iter().filter(reads);
        files
            .map(|(name, file)| (name.clone(), Filter::new(&file.sources)))
            .collect()
    }

    /// An operator reads other sources than before: those that have several, and so
    /// perhaps another one for some source, are begun again.
    pub(super) fn deal_anew(&mut self) {
        let table = self.plugins.lock();
        // The newest one: it may warm up already.
        let newest = (table.iter())
            .filter_map(|(name, e)| Some((name, e.warming.as_ref().or(e.running.as_ref())?)));
        let several = newest.filter(|(_, r)| r.build.file.after.len() > 1);
        let several: Vec<_> = several
            .map(|(name, r)| (name.clone(), r.build.clone(), r.streams.clone()))
            .collect();
        drop(table);
        for (name, build, streams) in several {
            let ready = self.plugins.lacks(&build.file.after).is_none();
            if ready && self.plugins.streams_of(&build.file) != streams {
                self.tried.remove(&name);
                self.digests.remove(&name);
            }
        }
    }

    /// Those after an operator know the sources that it reads, and no others.
    pub(super) fn tend(&mut self) {
        let table = self.plugins.lock();
        let running = table
            .iter()
            .filter_map(|(name, e)| Some((name, e.running.as_ref()?)));
        let operators: Vec<_> = running
            .filter(|(_, r)| r.emits() && r.shards.status().state == State::Running)
            // What waits for it is still of sources that have gone since.
            .filter(|(_, r)| !r.shards.behind())
            .map(|(name, r)| (name.clone(), r.shards.clone()))
            .collect();
        drop(table);
        for (name, shards) in operators {
            announce(&self.plugins, &name, &shards);
            self.plugins.stream(&name).only(&shards.reads());
        }
    }
}

/// Those after an operator are to know what it reads.
pub(super) fn announce(plugins: &Plugins, operator: &str, shards: &Shards) {
    let stream = plugins.stream(operator);
    for source in shards.sources() {
        stream.join(&source, None);
    }
}
