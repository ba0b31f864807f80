use penstock_event::{Mode, SourceSpec};
use std::collections::BTreeMap;

/// A source that connects to `endpoints`.
pub(crate) fn spec(instance: &str, endpoints: &[&str]) -> SourceSpec {
    SourceSpec {
        instance: instance.to_owned(),
        rank: None,
        endpoints: endpoints.iter().map(|e| (*e).to_owned()).collect(),
        replay: None,
        topics: Vec::new(),
        mode: Mode::Connect,
        model: String::new(),
        first_sequence: 0,
        block_size: 0,
        labels: BTreeMap::new(),
    }
}
