//! Who is there: every source of the process, by number and by name.

use crate::{IngestError, Resume};
use penstock_event::{Identity, Position, Sequence, SourceId, SourceInfo, SourceSpec, SourceState};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The sources of this process. Ingest writes it, everybody reads it. A number is
/// never used again for another source; a name is free again once its source was
/// removed.
#[derive(Debug, Default)]
pub struct Sources {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u32,
    by_id: HashMap<SourceId, Arc<SourceState>>,
    by_name: HashMap<Arc<str>, SourceId>,
    /// Bound sockets: named and numbered like sources, but no stream of their own.
    listeners: Vec<SourceId>,
    /// Where sources of these names may go on.
    points: HashMap<String, Vec<Resume>>,
    snapshot: Arc<[Arc<SourceState>]>,
}

// === impl Sources ===

impl Sources {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A source, or a bound socket, by its number.
    #[must_use]
    pub fn get(&self, id: SourceId) -> Option<Arc<SourceState>> {
        self.read(|inner| inner.by_id.get(&id).cloned())
    }

    /// A source, or a bound socket, by its name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<Arc<SourceState>> {
        self.read(|inner| {
            let id = inner.by_name.get(name)?;
            inner.by_id.get(id).cloned()
        })
    }

    /// Every source, in the order of their numbers, bound sockets left out.
    #[must_use]
    pub fn snapshot(&self) -> Arc<[Arc<SourceState>]> {
        self.read(|inner| inner.snapshot.clone())
    }

    /// Those of them that were not removed, and are only about to end.
    pub(crate) fn named(&self) -> Vec<Arc<SourceState>> {
        self.read(|inner| {
            let named = |s: &&Arc<SourceState>| inner.by_name.get(&s.info.name) == Some(&s.info.id);
            inner.snapshot.iter().filter(named).cloned().collect()
        })
    }

    /// The bound sockets. Their link is live while an engine is connected, and
    /// their counters hold what belongs to no topic.
    #[must_use]
    pub fn listeners(&self) -> Vec<Arc<SourceState>> {
        self.read(|inner| {
            let states = inner.listeners.iter();
            states
                .filter_map(|id| inner.by_id.get(id).cloned())
                .collect()
        })
    }

    /// Number of sources.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read(|inner| inner.snapshot.len())
    }

    /// True without sources.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers a new source.
    pub(crate) fn register(
        &self,
        spec: SourceSpec,
        listener: bool,
    ) -> Result<Arc<SourceState>, IngestError> {
        let name: Arc<str> = spec.name().into();
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.by_name.contains_key(&name) {
            return Err(IngestError::Duplicate { name });
        }
        inner.last += 1;
        let id = SourceId(inner.last);
        let state = Arc::new(SourceState::new(SourceInfo {
            id,
            name: name.clone(),
            spec,
        }));
        inner.by_name.insert(name, id);
        inner.by_id.insert(id, state.clone());
        if listener {
            inner.listeners.push(id);
        }
        inner.refresh();
        Ok(state)
    }

    /// Where a daemon before this one left its sources. A source that comes under one
    /// of these names, from the same endpoints, goes on there; each point is used once.
    /// Where there are several for a source (one a plugin), the furthest of its last life
    /// counts. To be
    /// called before sources are added.
    pub fn resume_from(&self, points: impl IntoIterator<Item = Resume>) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for point in points {
            let Position { epoch, sequence } = point.mark.position;
            if sequence == Sequence::MAX || epoch.0 == u32::MAX {
                // No engine numbers so far; there would be nothing behind it.
                let source = &*point.source.name;
                tracing::warn!(source, "a checkpoint names an impossible place; left out");
                continue;
            }
            let of_name = inner.points.entry(point.source.name.clone());
            of_name.or_default().push(point);
        }
    }

    /// Takes the points of a name. None: there are none, or they are another stream's.
    pub(crate) fn point(&self, source: &Identity) -> Option<Resume> {
        if self.read(|inner| inner.points.is_empty()) {
            return None;
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let points = inner.points.remove(&source.name)?;
        let ours = |point: &&Resume| point.source == *source;
        // The last life that anybody knew of, and the furthest that anybody was in it.
        let newest = points.iter().filter(ours).max_by_key(|p| p.written_us)?;
        let life = |point: &&Resume| ours(point) && point.lineage == newest.lineage;
        let furthest = points.iter().filter(life).max_by_key(|p| p.mark.position)?;
        let names = points.iter().filter(life).map(|p| &p.names);
        Some(Resume {
            // It only grows: the longest holds the others.
            names: names.max_by_key(|names| names.len())?.clone(),
            ..furthest.clone()
        })
    }

    /// Frees the name at once; the number still leads to the state.
    pub(crate) fn retire(&self, id: SourceId) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.by_name.retain(|_, named| *named != id);
    }

    /// Forgets the source.
    pub(crate) fn forget(&self, id: SourceId) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.by_name.retain(|_, named| *named != id);
        inner.by_id.remove(&id);
        inner.listeners.retain(|listener| *listener != id);
        inner.refresh();
    }

    fn read<T>(&self, f: impl FnOnce(&Inner) -> T) -> T {
        f(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn refresh(&mut self) {
        let mut states: Vec<_> = self
            .by_id
            .iter()
            .filter(|(id, _)| !self.listeners.contains(id))
            .map(|(_, state)| state.clone())
            .collect();
        states.sort_by_key(|state| state.info.id.0);
        self.snapshot = states.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;

    #[test]
    fn numbers_are_never_used_again() {
        let sources = Sources::new();
        let a = sources.register(spec("a", &[]), false).unwrap();
        assert!(sources.register(spec("a", &[]), false).is_err());
        sources.retire(a.info.id);
        assert!(sources.by_name("a").is_none());
        assert!(sources.get(a.info.id).is_some());
        assert_eq!((sources.len(), sources.named().len()), (1, 0));
        let again = sources.register(spec("a", &[]), false).unwrap();
        sources.forget(a.info.id);
        assert_ne!(a.info.id, again.info.id);
        assert_eq!(sources.by_name("a").unwrap().info.id, again.info.id);
        assert_eq!(sources.len(), 1);
    }

    #[test]
    fn bound_sockets_are_no_sources() {
        let sources = Sources::new();
        sources.register(spec("bound", &[]), true).unwrap();
        assert!(sources.is_empty());
        assert_eq!(sources.listeners().len(), 1);
        assert!(sources.by_name("bound").is_some());
    }
}
