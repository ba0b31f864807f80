//! `metrics`: a plugin's own numbers, as `penstock_plugin_custom_NAME`, labelled
//! with the plugin's name.

use crate::bindings::base::penstock::plugin::metrics::Host;
use crate::ctx::Ctx;
use metrics::{Counter, Gauge};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The series of one plugin, over all of its instances.
pub(crate) struct Series {
    name: Arc<str>,
    /// Which of a plugin's instances sets its gauges: those of others would be hidden.
    shard: Option<String>,
    limit: usize,
    known: Mutex<HashMap<String, Kind>>,
}

/// Series that this instance has used, so that a call is one look-up.
#[derive(Default)]
pub(crate) struct Handles {
    of: HashMap<String, Handle>,
}

#[derive(Clone)]
enum Handle {
    Counter(Counter),
    Gauge(Gauge),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// Longest name of a series, in bytes.
const MAX_NAME: usize = 64;

impl Host for Ctx {
    fn add(&mut self, name: String, value: u64) {
        if let Some(Handle::Counter(counter)) = self.series(name, Kind::Counter) {
            counter.increment(value);
        }
    }

    fn set(&mut self, name: String, value: f64) {
        if let Some(Handle::Gauge(gauge)) = self.series(name, Kind::Gauge) {
            gauge.set(value);
        }
    }
}

impl Ctx {
    /// None when the series was dropped, or while the instance is tried out.
    fn series(&mut self, name: String, kind: Kind) -> Option<&Handle> {
        if !self.effects {
            return None;
        }
        let all = &self.setup.series;
        let handles = &mut self.metrics.of;
        if !handles.contains_key(&name) {
            if let Err(why) = all.admit(&name, kind) {
                all.dropped(why);
                return None;
            }
            handles.insert(name.clone(), all.handle(&name, kind));
        }
        let handle = handles.get(&name)?;
        match (handle, kind) {
            (Handle::Counter(_), Kind::Counter) | (Handle::Gauge(_), Kind::Gauge) => Some(handle),
            _ => {
                all.dropped("kind");
                None
            }
        }
    }
}

// === impl Series ===

impl Series {
    pub(crate) fn new(plugin: &str, shard: Option<usize>, limit: usize) -> Self {
        Self {
            name: plugin.into(),
            shard: shard.map(|number| number.to_string()),
            limit,
            known: Mutex::default(),
        }
    }

    fn admit(&self, name: &str, kind: Kind) -> Result<(), &'static str> {
        if !valid(name) {
            return Err("name");
        }
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        match known.get(name) {
            Some(as_was) if *as_was == kind => Ok(()),
            Some(_) => Err("kind"),
            None if known.len() >= self.limit => Err("series"),
            None => {
                known.insert(name.to_owned(), kind);
                Ok(())
            }
        }
    }

    fn handle(&self, name: &str, kind: Kind) -> Handle {
        let name = format!("penstock_plugin_custom_{name}");
        let plugin = self.name.to_string();
        match kind {
            Kind::Counter => Handle::Counter(metrics::counter!(name, "plugin" => plugin)),
            Kind::Gauge => Handle::Gauge(match self.shard.clone() {
                Some(shard) => metrics::gauge!(name, "plugin" => plugin, "shard" => shard),
                None => metrics::gauge!(name, "plugin" => plugin),
            }),
        }
    }

    fn dropped(&self, reason: &'static str) {
        metrics::counter!(
            "penstock_plugin_metrics_dropped_total",
            "plugin" => self.name.to_string(), "reason" => reason
        )
        .increment(1);
    }
}

/// `[a-z_][a-z0-9_]*`, at most [`MAX_NAME`] bytes.
fn valid(name: &str) -> bool {
    let rest = |b: u8| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit();
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| rest(b) && !b.is_ascii_digit());
    first && name.len() <= MAX_NAME && name.bytes().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_prometheus_takes() {
        for good in ["a", "_x1", "hits_total"] {
            assert!(valid(good), "{good}");
        }
        for bad in ["", "1a", "A", "a-b", "é", &"a".repeat(65)] {
            assert!(!valid(bad), "{bad}");
        }
    }

    #[test]
    fn series_are_bounded_and_keep_their_kind() {
        let series = Series::new("p", None, 2);
        assert_eq!(series.admit("a", Kind::Counter), Ok(()));
        assert_eq!(series.admit("b", Kind::Gauge), Ok(()));
        assert_eq!(series.admit("c", Kind::Gauge), Err("series"));
        assert_eq!(series.admit("a", Kind::Gauge), Err("kind"));
        assert_eq!(series.admit("a", Kind::Counter), Ok(()));
    }
}
