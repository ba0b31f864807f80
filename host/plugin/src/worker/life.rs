//! Instances come and go.

use super::role::Part;
use super::{Phase, Worker, up};
use crate::runner::Candidate;
use crate::status::LastError;
use crate::{CallError, State};
use penstock_event::{Position, SourceId};
use std::time::{Duration, Instant};

/// Batches set aside that are remembered.
const MAX_ASIDE: usize = 64;

impl Worker {
    /// A batch killed the instance, or something else did (none).
    pub(super) fn suspect(&mut self, key: Option<(SourceId, Position)>) {
        if let Some(key) = key
            && self.suspect == Some(key)
        {
            if self.aside.len() >= MAX_ASIDE {
                self.aside.pop_front();
            }
            self.aside.push_back(key);
            self.suspect = None;
        } else {
            self.suspect = key;
        }
    }

    /// Another instance, which knows nothing yet.
    fn take(&mut self, candidate: Candidate) {
        // Whatever waited comes again.
        self.moving = None;
        self.parked.clear();
        // What those before it published is not published again.
        if self.part.speaks() {
            self.part = Part::leads(self.applied.marks().collect());
        }
        self.phase = up(candidate);
        self.applied.lose();
        self.feed.rewind();
        self.refresh();
    }

    /// What an error of a call means for the instance.
    pub(super) fn after(&mut self, error: &CallError, call: &'static str) {
        let plugin = &self.kit.setup.name;
        if error.is_fatal() {
            tracing::warn!(%plugin, call, code = error.code(), "plugin failed: {error}");
            self.fail(LastError::of(error, call));
        } else {
            tracing::debug!(%plugin, call, code = error.code(), "{error}");
            self.meter.now.last_error = Some(LastError::of(error, call));
        }
    }

    fn fail(&mut self, error: LastError) {
        let now = Instant::now();
        let lived = match &self.phase {
            Phase::Up { since, .. } => now.saturating_duration_since(*since),
            Phase::Down(_) => Duration::ZERO,
        };
        let wait = self.backoff.failed(lived, rand::random());
        let state = match wait {
            Some(_) => State::Backoff,
            None => State::Failed,
        };
        if wait.is_none() {
            tracing::error!(
                plugin = %self.kit.setup.name, code = error.code,
                "plugin failed too often in a row: it stays down until it is replaced"
            );
        }
        self.phase = Phase::Down(wait.map(|wait| now + wait));
        self.applied.lose();
        self.meter.failed(error, state);
    }

    /// Makes another instance once the wait is over.
    pub(super) fn rebuild(&mut self) {
        let Phase::Down(Some(when)) = self.phase else {
            return;
        };
        if Instant::now() < when {
            return;
        }
        self.meter.now.restarts += 1;
        let kit = &self.kit;
        match Candidate::prepare(&kit.host, &kit.compiled, &kit.setup) {
            Ok(candidate) => {
                candidate.describe_in(&mut self.meter.now);
                self.take(candidate);
            }
            Err(error) => {
                self.fail(LastError::new(error.code(), "start", error.to_string()));
            }
        }
    }
}
