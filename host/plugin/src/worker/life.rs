//! Instances come and go.

use super::role::Part;
use super::{Phase, Worker, up};
use crate::runner::Candidate;
use crate::status::LastError;
use crate::{Bundle, CallError, OnFailure, State};
use penstock_event::Batch;
use std::time::{Duration, Instant};

/// Batches set aside that are remembered.
const MAX_ASIDE: usize = 64;

impl Worker {
    /// A batch killed the instance, or something else did (none).
    pub(super) fn suspect(&mut self, batch: Option<&Batch>, error: &CallError) {
        let key = batch.map(|batch| (batch.source, batch.position()));
        if let (Some(batch), Some(key)) = (batch, key)
            && self.suspect == Some(key)
        {
            self.meter.now.set_aside += 1;
            self.keep(batch, error);
            if self.aside.len() >= MAX_ASIDE {
                self.aside.pop_front();
            }
            self.aside.push_back(key);
            self.suspect = None;
        } else {
            self.suspect = key;
        }
    }

    /// Writes a batch that is set aside to a file, to be looked into.
    fn keep(&mut self, batch: &Batch, error: &CallError) {
        let plugin = &self.kit.setup.name;
        let source = self.applied.state(batch.source);
        let (Some(directory), Some(source)) = (&self.set_aside, source) else {
            return;
        };
        let wasm = &self.kit.compiled.wasm;
        let why = error.to_string();
        let bundle = Bundle::of(&self.kit.setup, wasm, &source, &*self.feed, batch, why);
        match bundle.write(directory) {
            Ok(Some(path)) => tracing::error!(
                %plugin, file = %path.display(),
                "a batch that killed two instances in a row is set aside; \
                 `penstock plugin test --bundle FILE` shows it again"
            ),
            Ok(None) => tracing::error!(
                %plugin, directory = %directory.display(),
                "a batch is set aside, and no more of them are kept: remove some files"
            ),
            Err(e) => tracing::error!(%plugin, "a batch is set aside and cannot be kept: {e}"),
        }
    }

    /// Somebody wants it to run again.
    pub(super) fn revive(&mut self) {
        if let Phase::Down(when) = &mut self.phase {
            *when = Some(Instant::now());
            self.backoff.forgive();
        }
    }

    /// Another instance, which knows nothing yet.
    fn take(&mut self, candidate: Candidate) {
        // Whatever waited comes again.
        self.moving = None;
        self.parked.clear();
        // What those before it published is not published again.
        if self.part.speaks() {
            let mut had = self.part.had();
            for (source, mark) in self.applied.marks() {
                let known = had.entry(source).or_insert(mark);
                *known = (*known).max(mark);
            }
            self.part = Part::leads(had);
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
        let wait = match self.on_failure {
            OnFailure::Restart => self.backoff.failed(lived, rand::random()),
            OnFailure::Disable | OnFailure::Hold => None,
        };
        let (state, why) = match (wait, self.on_failure) {
            (Some(_), _) => (State::Backoff, ""),
            (None, OnFailure::Hold) => (State::Held, "plugin failed and is held, as its file says"),
            (None, OnFailure::Disable) => (
                State::Failed,
                "plugin failed and is disabled, as its file says",
            ),
            (None, OnFailure::Restart) => (
                State::Failed,
                "plugin failed too often in a row and is disabled",
            ),
        };
        if wait.is_none() {
            let plugin = &self.kit.setup.name;
            let then = "`penstock ctl restart`, or another file, starts it again";
            tracing::error!(%plugin, code = error.code, "{why}; {then}");
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
