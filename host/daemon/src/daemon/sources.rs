//! From the wanted sources to the running ones.

use penstock_discovery::{Delta, Origin, SourceSet, bad_model, bad_name};
use penstock_event::{Mode, SourceSpec};
use penstock_ingest::{Ingest, Resume, Sources};
use penstock_query::{ControlError, Register, Unregister};
use std::sync::{Arc, Mutex, PoisonError};

/// Says where a daemon before this one left its sources: what its checkpoints hold, any
/// number a source. Sources added later, by config or by registering, go on there. To be
/// called before the first of them is added.
pub fn resume_points(sources: &Sources, saved: Vec<Resume>) {
    if !saved.is_empty() {
        tracing::info!(points = saved.len(), "sources go on from checkpoints");
    }
    sources.resume_from(saved);
}

/// The set of sources, applied to ingest under one lock.
pub struct Discovery {
    set: Mutex<SourceSet>,
    ingest: Arc<Ingest>,
}

// === impl Discovery ===

impl Discovery {
    pub fn new(ingest: Arc<Ingest>) -> Self {
        Self {
            set: Mutex::default(),
            ingest,
        }
    }

    /// Takes the config's sources, at start and at reload. Names of what changed.
    pub fn configure(&self, specs: Vec<SourceSpec>) -> Vec<String> {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let delta = set.replace(Origin::Static, specs);
        let mut changed = delta.remove.clone();
        changed.extend(delta.add.iter().map(SourceSpec::name));
        changed.sort();
        changed.dedup();
        for (name, why) in self.apply(&mut set, delta) {
            tracing::error!(source = name, "source not started: {why}");
        }
        changed
    }

    /// `POST /register`.
    pub fn register(&self, register: Register) -> Result<(), ControlError> {
        let spec = SourceSpec {
            instance: register.instance,
            rank: register.rank,
            endpoints: vec![register.endpoint],
            replay: register.replay,
            topics: register.topics,
            mode: Mode::Connect,
            model: register.model,
            first_sequence: 0,
            block_size: register.block_size,
            labels: register.labels,
        };
        let spec = checked(spec)?;
        let name = spec.name();
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let delta = set.insert(Origin::Registered, spec);
        if delta.conflicts.contains(&name) {
            set.remove(Origin::Registered, |s| s.name() == name);
            let why = format!("{name} is in the config file, with other endpoints");
            return Err(ControlError::Conflict(why));
        }
        match self
            .apply(&mut set, delta)
            .into_iter()
            .find(|(n, _)| *n == name)
        {
            None => Ok(()),
            Some((_, why)) => {
                set.remove(Origin::Registered, |s| s.name() == name);
                Err(ControlError::Failed(why))
            }
        }
    }

    /// `POST /unregister`.
    pub fn unregister(&self, which: &Unregister) -> Result<usize, ControlError> {
        let matches = |spec: &SourceSpec| {
            spec.instance == which.instance
                && which.rank.is_none_or(|rank| spec.rank == Some(rank))
                && which
                    .model
                    .as_ref()
                    .is_none_or(|model| *model == spec.model)
        };
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let delta = set.remove(Origin::Registered, matches).ok_or_else(|| {
            let fixed = set.wanted(Origin::Static).any(matches);
            let why = match fixed {
                true => "it is in the config file; remove it there",
                false => "nothing of that name is registered",
            };
            ControlError::NotFound(format!("{}: {why}", which.instance))
        })?;
        let removed = delta.remove.len();
        self.apply(&mut set, delta);
        Ok(removed)
    }

    fn apply(&self, set: &mut SourceSet, delta: Delta) -> Vec<(String, String)> {
        for name in &delta.conflicts {
            tracing::warn!(
                source = name,
                "registered otherwise than in the config file, which wins"
            );
        }
        let sources = self.ingest.sources();
        for name in &delta.remove {
            let listener = sources
                .listeners()
                .into_iter()
                .find(|s| *s.info.name == **name);
            if let Some(state) = sources.by_name(name).or(listener) {
                self.ingest.remove(state.info.id);
            }
        }
        let mut failed = Vec::new();
        for spec in delta.add {
            let name = spec.name();
            if let Err(error) = self.ingest.add(spec) {
                set.failed(&name);
                failed.push((name, error.to_string()));
            }
        }
        failed
    }
}

fn checked(mut spec: SourceSpec) -> Result<SourceSpec, ControlError> {
    let invalid = |e: penstock_ingest::EndpointError| ControlError::Invalid(e.to_string());
    for endpoint in &mut spec.endpoints {
        *endpoint = penstock_ingest::check_endpoint(endpoint, spec.mode).map_err(invalid)?;
    }
    if let Some(replay) = &mut spec.replay {
        *replay = penstock_ingest::check_endpoint(replay, Mode::Connect).map_err(invalid)?;
    }
    let named = [
        ("instance_id", bad_name(&spec.instance)),
        ("model_name", bad_model(&spec.model)),
    ];
    for (key, why) in named {
        if let Some(why) = why {
            return Err(ControlError::Invalid(format!("{key} {why}")));
        }
    }
    Ok(spec)
}
