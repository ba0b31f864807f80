//! What is asked of a daemon.

use anyhow::Result;
use penstock_event::{By, Query};
use penstock_testkit::daemon::Daemon;

/// A question that leaves nothing out.
pub fn query(by: By) -> Query {
    Query {
        include_stale: true,
        ..penstock_testkit::ask::query(by)
    }
}

/// What an engine is called.
pub fn name(engine: usize) -> String {
    format!("engine-{engine}")
}

/// All so many engines are connected and in order.
pub fn all_live(daemon: &Daemon, engines: usize) -> Result<bool> {
    let sources = daemon.control().sources()?;
    let live = sources
        .iter()
        .filter(|s| s.link == "live" && s.order_state == "live");
    Ok(live.count() == engines)
}
