use penstock_event::SourceInfo;
use std::sync::Arc;
use wildmatch::WildMatch;

/// Which sources a plugin gets: name patterns with `*` and `?`, any of which
/// matches the source's name or its instance. Without patterns: every source. Of
/// those, one of the plugin's shards gets its part.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    patterns: Arc<[WildMatch]>,
    /// Which part, of how many; none: all.
    part: Option<(u32, u32)>,
}

impl Filter {
    /// A filter of these patterns.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Self {
        Self {
            patterns: patterns
                .iter()
                .map(|p| WildMatch::new(p.as_ref()))
                .collect(),
            part: None,
        }
    }

    /// What the shard `number`, from 0, of so many gets: each source is one shard's,
    /// by its number.
    #[must_use]
    pub fn shard(&self, number: u32, of: u32) -> Self {
        Self {
            patterns: self.patterns.clone(),
            part: (of > 1).then_some((number, of)),
        }
    }

    /// True when the plugin, or this shard of it, gets this source.
    #[must_use]
    pub fn matches(&self, info: &SourceInfo) -> bool {
        let named = self.patterns.is_empty()
            || self
                .patterns
                .iter()
                .any(|p| p.matches(&info.name) || p.matches(&info.spec.instance));
        named && (self.part).is_none_or(|(number, of)| info.id.0 % of == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_event::{SourceId, SourceSpec};

    fn source(id: u32) -> SourceInfo {
        let spec = SourceSpec {
            instance: format!("vllm-{id}"),
            ..SourceSpec::default()
        };
        SourceInfo {
            id: SourceId(id),
            name: spec.name().into(),
            spec,
        }
    }

    #[test]
    fn each_source_is_of_one_shard() {
        let all = Filter::new(&["vllm-*"]);
        for of in [1, 2, 3, 64] {
            let shards: Vec<_> = (0..of).map(|i| all.shard(i, of)).collect();
            for id in 0..200 {
                let source = source(id);
                let gets = shards.iter().filter(|shard| shard.matches(&source));
                assert_eq!(gets.count(), 1, "source {id}, {of} shards");
            }
        }
        let none = Filter::new(&["other"]);
        assert!((0..3).all(|i| !none.shard(i, 3).matches(&source(1))));
        assert!(Filter::default().shard(1, 2).matches(&source(7)));
        assert!(!Filter::default().shard(0, 2).matches(&source(7)));
    }
}
