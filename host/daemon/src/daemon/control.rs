//! What an operator sees and does, put together from every room.

use super::Parts;
use crate::config;
use penstock_event::{Link, SourceState};
use penstock_query::{
    Control, ControlError, Health, PluginStatus, Readiness, Register, Reloaded, SourceStatus,
    Status, Turn, Turned, Unregister,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A reload waits this long for plugins to be compiled.
const RELOAD: Duration = Duration::from_secs(25);
const STILL: &str = "plugins are still being compiled";

impl Control for Parts {
    fn status(&self) -> Status {
        let (queued, queued_limit) = self.router.queued();
        let (kept, kept_limit) = self.router.kept();
        let more = BTreeMap::from([
            ("queued_bytes_limit".to_string(), queued_limit.into()),
            ("ring_bytes".to_string(), kept.into()),
            ("ring_bytes_limit".to_string(), kept_limit.into()),
        ]);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            ready: self.ready(),
            health: self.health(),
            queued_bytes: queued as u64,
            plugins: self.plugins(),
            sources: self.sources(),
            more,
        }
    }

    fn plugins(&self) -> Vec<PluginStatus> {
        self.plugins.status()
    }

    fn sources(&self) -> Vec<SourceStatus> {
        let all = self.ingest.sources();
        let mut sources: Vec<_> = all.snapshot().iter().map(source).collect();
        sources.extend(all.listeners().iter().map(source));
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        sources
    }

    fn register(&self, register: Register) -> Result<(), ControlError> {
        self.discovery.register(register)
    }

    fn unregister(&self, which: Unregister) -> Result<usize, ControlError> {
        self.discovery.unregister(&which)
    }

    fn reload(&self) -> Result<Reloaded, ControlError> {
        let Some(file) = self.file.as_deref() else {
            let why = "the daemon was started without a config file, so there is none to read \
                       again; start it with --config FILE. plugins_dir is watched all the time";
            return Err(ControlError::Invalid(why.into()));
        };
        let loaded = config::load(Some(file), config::environment())
            .map_err(|e| ControlError::Invalid(e.to_string()))?;
        let mut reloaded =
            (self.bell.reload(RELOAD)).ok_or_else(|| ControlError::Failed(STILL.into()))?;
        let sources = self.discovery.configure(loaded.sources);
        reloaded.changed.extend(sources);
        reloaded.next_start = needs_restart(&self.config, &loaded.config);
        Ok(reloaded)
    }

    fn turn(&self, plugin: &str, turn: Turn) -> Result<Turned, ControlError> {
        if !self.plugins.lock().contains_key(plugin) {
            let names: Vec<_> = self.plugins.lock().keys().cloned().collect();
            let names = names.join(", ");
            return Err(ControlError::NotFound(format!(
                "no plugin is called {plugin:?}; there are: {names}"
            )));
        }
        let done = self.bell.turn(plugin, turn, RELOAD);
        let done = done.ok_or_else(|| ControlError::Failed(STILL.into()))?;
        let generation = done.map_err(ControlError::Conflict)?;
        Ok(Turned {
            plugin: plugin.into(),
            generation,
        })
    }

    fn ready(&self) -> Readiness {
        self.latch.readiness()
    }

    fn health(&self) -> Health {
        let mut health = self.beats.health();
        if !self.ingest.healthy() {
            health.ok = false;
            health.stuck.push("ingest: a thread has ended".into());
        }
        health
    }

    fn metrics(&self) -> String {
        self.gauge();
        self.recorder.render()
    }
}

impl Parts {
    /// Values that are read when somebody asks, not when they change.
    fn gauge(&self) {
        metrics::gauge!("penstock_lanes_bytes").set(self.router.queued().0 as f64);
        metrics::gauge!("penstock_rings_bytes").set(self.router.kept().0 as f64);
        let links = self.ingest.sources().snapshot();
        for link in ["connecting", "live", "down", "stale", "left"] {
            let many = links.iter().filter(|s| name(s.link()) == link).count();
            metrics::gauge!("penstock_sources", "link" => link).set(many as f64);
        }
        self.plugins.gauge();
    }
}

/// Keys that changed and that only a start reads: all but the sources.
fn needs_restart(old: &config::Config, new: &config::Config) -> Vec<String> {
    let old = config::keys(old);
    let new = config::keys(new).into_iter();
    new.filter(|(key, value)| key != "sources" && old.get(key) != Some(value))
        .map(|(key, _)| key)
        .collect()
}

fn name(link: Link) -> &'static str {
    match link {
        Link::Connecting => "connecting",
        Link::Live => "live",
        Link::Down => "down",
        Link::Stale => "stale",
        Link::Left => "left",
    }
}

fn source(state: &Arc<SourceState>) -> SourceStatus {
    let spec = &state.info.spec;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let last = state.last_message_us();
    let age = (now.as_micros() as i64).saturating_sub(last).max(0);
    SourceStatus {
        name: state.info.name.to_string(),
        instance: spec.instance.clone(),
        rank: spec.rank,
        model: spec.model.clone(),
        endpoints: spec.endpoints.clone(),
        replay: spec.replay.clone(),
        link: name(state.link()).into(),
        verified: state.verified(),
        complete: state.complete(),
        position: state.position().map(Into::into),
        order_state: state.order_state().into(),
        last_message_age_s: (last > 0).then(|| age as f64 / 1e6),
        totals: state
            .totals
            .read()
            .into_iter()
            .map(|(k, v)| (k.to_string(), v))
            .collect(),
        incidents: state.incidents(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_wait_for_a_restart_are_named_one_by_one() {
        let old = config::Config::default();
        let mut new = old.clone();
        new.sources.push(config::Source::default());
        assert_eq!(needs_restart(&old, &new), [""; 0]);
        new.query.deadline_ms = 5;
        new.query.lookup = Some("index".into());
        new.log = "debug".into();
        let keys = ["log", "query.deadline_ms", "query.lookup"];
        assert_eq!(needs_restart(&old, &new), keys);
    }
}
