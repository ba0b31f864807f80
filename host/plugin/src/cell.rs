use crate::ctx::{Ctx, Current, Ended};
use crate::{CallError, Host, Limits, Setup};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::component::ResourceTableError;
use wasmtime::{Store, Trap, UpdateDeadline};

/// A Store, and the one way to call into it: with a deadline, and with every bad
/// end given its name.
pub(crate) struct Cell {
    pub(crate) store: Store<Ctx>,
    /// How long the last call took.
    pub(crate) last_call: Duration,
    setup: Arc<Setup>,
    dead: bool,
    /// The ticker of its deadlines must live as long as it does.
    _host: Arc<Host>,
}

// === impl Cell ===

impl Cell {
    pub(crate) fn new(host: &Arc<Host>, setup: &Arc<Setup>) -> Self {
        let mut store = Store::new(
            host.engine(),
            Ctx::new(setup.clone(), host.hash_seed(&setup.name)),
        );
        store.limiter(|ctx| ctx);
        store.epoch_deadline_callback(|mut ctx| {
            let ctx = ctx.data_mut();
            Ok(match ctx.setup.is_cut() {
                true => UpdateDeadline::Interrupt,
                false => ctx.clock.look(),
            })
        });
        store.set_hostcall_fuel(setup.limits.hostcall_bytes);
        Self {
            store,
            last_call: Duration::ZERO,
            setup: setup.clone(),
            dead: false,
            _host: host.clone(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.setup.limits
    }

    /// Says what the next call is about.
    pub(crate) fn about(&mut self, current: Current) {
        self.store.data_mut().current = Some(current);
    }

    /// Calls. An error kills: the Store is in an unknown state.
    pub(crate) fn call<R>(
        &mut self,
        limit: Duration,
        call: impl FnOnce(&mut Store<Ctx>) -> wasmtime::Result<R>,
    ) -> Result<R, CallError> {
        if self.dead {
            return Err(CallError::Dead);
        }
        let begun = Instant::now();
        self.store.data_mut().begin(limit, begun);
        let ticks = self.store.data_mut().clock.begin(limit);
        self.store.set_epoch_deadline(ticks);
        let result = call(&mut self.store);
        self.last_call = begun.elapsed();
        self.store.data_mut().end();
        result.map_err(|error| {
            self.dead = true;
            self.name(&error, limit)
        })
    }

    fn name(&mut self, error: &wasmtime::Error, limit: Duration) -> CallError {
        let limits = &self.setup.limits;
        let ctx = self.store.data_mut();
        let words = std::mem::take(&mut ctx.words);
        if self.setup.is_cut() {
            let message = "it was still at work when it had to end".into();
            return CallError::Trap { message, words };
        }
        match error.downcast_ref::<Ended>() {
            Some(Ended::Deadline) => return CallError::Deadline { limit, words },
            Some(Ended::Exit) => return CallError::Exit(words),
            Some(Ended::Inert(what)) => return CallError::Inert(what.clone()),
            None => {}
        }
        if let Some(ResourceTableError::Full) = error.downcast_ref() {
            return CallError::Resources(limits.resources);
        }
        let trap = error.downcast_ref::<Trap>();
        if trap == Some(&Trap::Interrupt) {
            return CallError::Deadline { limit, words };
        }
        if ctx.starved {
            let limit = limits.memory_bytes;
            return CallError::Memory { limit, words };
        }
        let message = format!("{error:#}");
        // wasmtime has no type for this one.
        if message.contains("allocated for hostcalls has been exhausted") {
            return CallError::Output(limits.hostcall_bytes);
        }
        // The first line is the backtrace's; the trap's own words come last.
        let message = trap.map_or_else(|| last_line(&message), ToString::to_string);
        CallError::Trap { message, words }
    }
}

fn last_line(message: &str) -> String {
    let line = message.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("unknown").trim().to_owned()
}
