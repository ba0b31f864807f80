use penstock_event::SourceInfo;
use wildmatch::WildMatch;

/// Which sources a plugin gets: name patterns with `*` and `?`, any of which
/// matches the source's name or its instance. Without patterns: every source.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    patterns: Vec<WildMatch>,
}

impl Filter {
    /// A filter of these patterns.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Self {
        Self {
            patterns: patterns
                .iter()
                .map(|p| WildMatch::new(p.as_ref()))
                .collect(),
        }
    }

    /// True when the plugin gets this source.
    #[must_use]
    pub fn matches(&self, info: &SourceInfo) -> bool {
        self.patterns.is_empty()
            || self
                .patterns
                .iter()
                .any(|p| p.matches(&info.name) || p.matches(&info.spec.instance))
    }
}
