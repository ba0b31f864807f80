//! What an operator sees and does, put together from every room.

use super::Parts;
use crate::config;
use penstock_event::{Link, SourceState};
use penstock_query::{
    Control, ControlError, Health, PluginStatus, Readiness, Register, Reloaded, SourceStatus,
    Status, Unregister,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A reload waits this long for plugins to be compiled.
const RELOAD: Duration = Duration::from_secs(25);

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
        let file = self.file.as_deref();
        let loaded = config::load(file, config::environment())
            .map_err(|e| ControlError::Invalid(e.to_string()))?;
        let mut reloaded = (self.bell.reload(RELOAD))
            .ok_or_else(|| ControlError::Failed("plugins are still being compiled".into()))?;
        let sources = self.discovery.configure(loaded.sources);
        reloaded.changed.extend(sources);
        for key in self.needs_restart(&loaded.config) {
            let why = "changed in the file; takes effect at the next start".to_string();
            reloaded.refused.insert(key.into(), why);
        }
        Ok(reloaded)
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

    /// Sections that only a start reads.
    fn needs_restart(&self, new: &config::Config) -> Vec<&'static str> {
        let old = &self.config;
        let pairs = [
            ("ingest", old.ingest == new.ingest),
            ("route", old.route == new.route),
            ("query", old.query == new.query),
            ("plugins_dir", old.plugins_dir == new.plugins_dir),
            ("scan_ms", old.scan_ms == new.scan_ms),
            ("drain_ms", old.drain_ms == new.drain_ms),
            (
                "log",
                old.log == new.log && old.log_format == new.log_format,
            ),
        ];
        pairs
            .into_iter()
            .filter(|(_, same)| !same)
            .map(|(key, _)| key)
            .collect()
    }
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
