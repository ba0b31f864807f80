//! What lies in the directory against what runs.

use super::Worker;
use crate::daemon::load::read;
use crate::daemon::plugins::Entry;
use crate::daemon::scan::{Found, Scan};
use std::time::{Duration, Instant};

/// What a removed instance may still handle.
const LAST_WORDS: Duration = Duration::from_millis(200);

impl Worker {
    /// One scan's differences. Names of what changed.
    pub(super) fn reconcile(&mut self, scan: Scan) -> Vec<String> {
        let mut changed = Vec::new();
        loop {
            let untried = self.untried(&scan);
            for name in &untried {
                let Some(found) = scan.settled.get(name) else {
                    continue;
                };
                self.tried.insert(name.clone(), found.clone());
                if self.consider(name, found) {
                    changed.push(name.clone());
                }
            }
            if untried.is_empty() {
                break;
            }
        }
        for (name, why) in &scan.odd {
            // What it was loaded from has gone: that is a removal, of half of it.
            if self.tried.contains_key(name) {
                self.remove(name);
                changed.push(name.clone());
            }
            self.refuse(name, why.clone());
        }
        for (name, why) in &scan.doubtful {
            self.tried.remove(name);
            self.refuse(name, why.clone());
        }
        let known: Vec<String> = self.plugins.lock().keys().cloned().collect();
        for name in known {
            if !scan.names.contains(&name) && !scan.odd.contains_key(&name) {
                self.remove(&name);
                changed.push(name);
            }
        }
        changed
    }

    /// Takes files that lie still: true if something changed.
    fn consider(&mut self, name: &str, found: &Found) -> bool {
        let begun = Instant::now();
        let load = match read(found) {
            Ok(load) => load,
            Err(why) => return self.refuse(name, why),
        };
        if self.digests.get(name) == Some(&load.digest) {
            // Touched, or put back as it was: an earlier refusal is void.
            if let Some(entry) = self.plugins.lock().get_mut(name) {
                entry.refused = None;
            }
            return false;
        }
        let quarantined = {
            let table = self.plugins.lock();
            let entry = table.get(name);
            entry.and_then(|e| e.quarantine.get(&load.digest).cloned())
        };
        if let Some(why) = quarantined {
            return self.refuse(
                name,
                format!("in quarantine, since it was rolled back: {why}; change it to try again"),
            );
        }
        if !load.file.enabled {
            self.remove(name);
            // Known, so that it is neither read again nor missing in the status.
            self.tried.insert(name.into(), found.clone());
            let entry = Entry {
                disabled: true,
                ..Entry::default()
            };
            self.plugins.lock().insert(name.into(), entry);
            return true;
        }
        self.waits.remove(name);
        if let Some(why) = self.cannot_follow(name, &load.file.after) {
            return self.refuse(name, why);
        }
        let digest = load.digest;
        (self.plugins.lock().entry(name.into()).or_default()).loading = true;
        begin_counters(name);
        let loaded = self.load(name, found, load);
        if let Some(entry) = self.plugins.lock().get_mut(name) {
            entry.loading = false;
        }
        match loaded {
            Ok(()) => {
                self.digests.insert(name.into(), digest);
                self.moved = true;
                self.deal_anew();
                tracing::info!(plugin = name, "loaded in {:?}", begun.elapsed());
                true
            }
            Err(why) => self.refuse(name, why),
        }
    }

    pub(super) fn refuse(&mut self, name: &str, why: String) -> bool {
        let mut table = self.plugins.lock();
        let entry = table.entry(name.into()).or_default();
        if entry.refused.as_ref() == Some(&why) {
            return false;
        }
        let stays = if entry.running.is_some() {
            "; what ran before goes on"
        } else {
            ""
        };
        tracing::error!(plugin = name, "not loaded: {why}{stays}");
        metrics::counter!("penstock_plugin_refused_total", "plugin" => name.to_string())
            .increment(1);
        entry.refused = Some(why);
        true
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.tried.remove(name);
        self.waits.remove(name);
        self.digests.remove(name);
        self.warming_since.remove(name);
        self.moved = true;
        let entry = self.plugins.lock().remove(name);
        if let Some(checkpoints) = &self.plugins.checkpoints {
            checkpoints.forget(name);
        }
        for running in entry
            .into_iter()
            .flat_map(|e| [e.running, e.warming, e.before])
            .flatten()
        {
            tracing::info!(plugin = name, "removed");
            let outlets = running.outlets.clone();
            self.plugins.retire(running, LAST_WORDS);
            outlets.retire(&[]);
        }
        // Those after it have nothing of it any more.
        self.plugins.silence(name);
    }
}

/// What alerts look at begins at 0, or the first of a kind would go unnoticed.
fn begin_counters(plugin: &str) {
    metrics::counter!(
        "penstock_plugin_rollbacks_total", "plugin" => plugin.to_string(), "reason" => "failed"
    )
    .increment(0);
    for name in [
        "penstock_plugin_refused_total",
        "penstock_lane_missed_batches_total",
        "penstock_lane_dropped_batches_total",
    ] {
        metrics::counter!(name, "plugin" => plugin.to_string()).increment(0);
    }
}
