//! What is asked of a daemon.

use penstock_event::{By, Query};
use std::time::Duration;

/// A question about the model of the engines in tests, with enough time for its answer.
#[must_use]
pub fn query(by: By) -> Query {
    Query {
        model: "m".into(),
        adapter: String::new(),
        salt: String::new(),
        by,
        deadline: Duration::from_secs(10),
        include_stale: false,
    }
}
