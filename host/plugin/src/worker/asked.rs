//! Lookups and requests, between two items.

use super::{Phase, Worker};
use crate::CallError;
use crate::mailbox::{Lookup, Request};
use penstock_event::{Answer, LookupError};
use std::time::{Duration, Instant};

/// Lookups before the next waiting batch, and the time they may take.
const LOOKUPS: usize = 64;
const LOOKUP_TIME: Duration = Duration::from_micros(500);

impl Worker {
    /// Answers lookups, within the budget; true if there were any.
    pub(super) fn lookups(&mut self) -> bool {
        if self.mailbox.lookups() == 0 {
            return false;
        }
        let end = Instant::now() + LOOKUP_TIME;
        for done in 0..LOOKUPS {
            let Some(lookup) = self.mailbox.next_lookup() else {
                return done > 0;
            };
            self.lookup(lookup);
            if Instant::now() >= end {
                break;
            }
        }
        true
    }

    fn lookup(&mut self, lookup: Lookup) {
        let answer = self.find(&lookup);
        // Nobody waits for a late answer; it is one nonetheless.
        self.meter.lookup(answer.as_ref().err().map(code));
        self.unpublished += 1;
        lookup.reply.send(answer);
    }

    fn find(&mut self, lookup: &Lookup) -> Result<Answer, LookupError> {
        let query = &lookup.query;
        if Instant::now() >= lookup.expires {
            return Err(LookupError::Deadline);
        }
        let name = &self.kit.setup.name;
        if !self.kit.compiled.summary.features.lookup {
            return Err(LookupError::NoPlugin(name.to_string()));
        }
        self.applied.serves(query)?;
        let Phase::Up { instance, .. } = &mut self.phase else {
            return Ok(self.applied.answer(query, Vec::new()));
        };
        instance.set_effects(self.part.speaks());
        match instance.find(query) {
            Ok(rows) => Ok(self.applied.answer(query, rows)),
            Err(CallError::Refused(why)) => Err(LookupError::Failed(why)),
            Err(error) => {
                let why = format!("plugin {name}: {error}");
                self.after(&error, "find");
                Err(LookupError::Failed(why))
            }
        }
    }

    pub(super) fn request(&mut self, request: Request) {
        let answer = if Instant::now() >= request.expires {
            Err(LookupError::Deadline)
        } else if let Phase::Up { instance, .. } = &mut self.phase {
            instance.set_effects(self.part.speaks());
            match instance.request(&request.body) {
                Ok(body) => {
                    self.meter.now.requests += 1;
                    Ok(body)
                }
                Err(error) => {
                    self.after(&error, "handle");
                    Err(LookupError::Failed(error.to_string()))
                }
            }
        } else {
            Err(LookupError::Failed("the plugin is down".to_owned()))
        };
        request.reply.send(answer);
    }
}

fn code(error: &LookupError) -> &'static str {
    match error {
        LookupError::NoPlugin(_) | LookupError::NoRequests(_) => "no_plugin",
        LookupError::Loading(_) => "loading",
        LookupError::NoModel(_) => "no_model",
        LookupError::Busy => "busy",
        LookupError::Deadline => "deadline",
        LookupError::Failed(_) => "failed",
    }
}
