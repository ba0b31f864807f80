use crate::answers::Applied;
use crate::clock::on_processor;
use crate::error::TrialError;
use crate::handover::{self, HandoverError, Moved, Past};
use crate::mailbox::{Lookup, Mailbox, Request};
use crate::meter::{Board, Meter};
use crate::trail::{Pen, Trail};
use crate::worker::{Role, Worker};
use crate::{
    CallError, Compiled, Description, Feed, Host, Instance, LoadError, OnFailure, Reply, Restarts,
    Setup, State, Status,
};
use bytes::Bytes;
use penstock_event::{Answer, ColumnSet, Emit, Item, LookupError, Query};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an ended call may take to come back.
const CUT: Duration = Duration::from_millis(500);

/// An instance that is described and set up, and has not seen an event yet.
/// Made on any thread; start and reload share this path.
pub struct Candidate {
    pub(crate) instance: Instance,
    pub(crate) kit: Kit,
    /// What the plugin says of itself.
    pub description: Description,
    pub(crate) interval: Option<Duration>,
    /// What it has of other instances.
    pub(crate) applied: Applied,
}

/// What an instance is made of, to make another one.
#[derive(Clone)]
pub(crate) struct Kit {
    pub(crate) host: Arc<Host>,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) setup: Arc<Setup>,
}

/// How a runner runs.
#[derive(Clone)]
pub struct RunnerConfig {
    /// Lookups that may wait; more are answered `Busy`.
    pub max_lookups: usize,
    /// What a failure means.
    pub on_failure: OnFailure,
    /// When a plugin that failed starts again.
    pub restarts: Restarts,
    /// Where batches that are set aside are written; none: they are counted alone.
    pub set_aside: Option<PathBuf>,
    /// Where what it emits goes; none: it is no operator.
    pub emits: Option<Arc<dyn Emit>>,
}

/// One instance on a thread of its own: batches and changes from its feed, and
/// between them lookups, requests and ticks.
///
/// ```text
///            fatal error                 wait over, instance made
/// Running --------------> Backoff (wait) ------------------------> Running
///                            | too often in a row
///                            v
///                         Failed
/// ```
///
/// A build that replaces another one [follows](Role::Follow) it until it may
/// [lead](Role::Lead), and the other one follows in turn while the new one is on
/// probation. At most one leads.
///
/// Guarantees: at most 64 lookups or 500 µs of them before the next waiting
/// batch; an expired lookup is not run; every asker is answered. A batch that
/// kills the instance twice in a row is set aside: the plugin is told of a gap
/// instead, and the batch is counted. A new instance joins every source again
/// and is fed anew, since the state of the old one is lost.
pub struct Runner {
    mailbox: Arc<Mailbox>,
    board: Board,
    trail: Arc<Trail>,
    thread: Option<JoinHandle<()>>,
}

// === impl Candidate ===

impl Candidate {
    /// Makes, describes and sets up an instance, its effects off.
    ///
    /// # Errors
    /// Why it is not to run.
    pub fn prepare(
        host: &Arc<Host>,
        compiled: &Arc<Compiled>,
        setup: &Arc<Setup>,
    ) -> Result<Self, LoadError> {
        let died = |call| move |source| LoadError::Start { call, source };
        let mut instance = Instance::new(host, compiled, setup)?;
        let description = instance.describe().map_err(died("describe"))?;
        instance.init(&setup.config).map_err(|error| match error {
            CallError::Refused(why) => LoadError::Init(why),
            source => LoadError::Start {
                call: "init",
                source,
            },
        })?;
        let interval = instance.interval().map_err(died("interval"))?;
        Ok(Self {
            instance,
            kit: Kit {
                host: host.clone(),
                compiled: compiled.clone(),
                setup: setup.clone(),
            },
            description,
            interval,
            applied: Applied::default(),
        })
    }

    /// Columns it asked for.
    #[must_use]
    pub fn wants(&self) -> ColumnSet {
        self.instance.wants()
    }

    /// Handles items, its effects off, to see whether it can. It is of no use
    /// afterwards.
    ///
    /// # Errors
    /// What it failed on, or a call took more than half of its deadline.
    pub fn try_out(mut self, items: &[Item]) -> Result<(), TrialError> {
        let half = self.kit.setup.limits.deadline() / 2;
        for item in items {
            let begun = on_processor();
            let (call, result) = match item {
                Item::Batch(batch) => ("on-batch", self.instance.on_batch(batch).map(drop)),
                Item::Change(change) => ("on-source", self.instance.on_source(change)),
            };
            result?;
            let took = on_processor().saturating_sub(begun);
            if took > half {
                return Err(TrialError::Slow { call, took, half });
            }
        }
        Ok(())
    }

    /// Bytes of linear memory that it holds.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.instance.memory_bytes()
    }

    /// The instance alone, for whoever calls it without a thread of its own.
    #[must_use]
    pub fn into_instance(self) -> Instance {
        self.instance
    }

    pub(crate) fn describe_in(&self, status: &mut Status) {
        let limits = &self.kit.setup.limits;
        status.name = self.kit.setup.name.to_string();
        status.state = State::Running;
        status.digest.clone_from(&self.kit.compiled.summary.digest);
        status.features = self.kit.compiled.summary.features;
        status.description = self.description.clone();
        status.deadline_us = limits.deadline().as_micros() as u64;
        status.memory_limit = limits.memory_bytes;
        status.memory_bytes = self.instance.memory_bytes();
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate")
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

// === impl RunnerConfig ===

impl Default for RunnerConfig {
    fn default() -> Self {
        Self {
            max_lookups: 1_024,
            on_failure: OnFailure::Restart,
            restarts: Restarts::default(),
            set_aside: None,
            emits: None,
        }
    }
}

// === impl Runner ===

impl Runner {
    /// Starts the thread. The candidate has effects from now on if it leads. What it
    /// handles is written to a trail, which the other instances of the plugin that have
    /// their own sources write too.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        candidate: Candidate,
        feed: Box<dyn Feed>,
        config: RunnerConfig,
        role: Role,
        pen: Pen,
    ) -> std::io::Result<Self> {
        let trail = pen.trail().clone();
        let mailbox = Arc::new(Mailbox::new(config.max_lookups));
        let board = Board::default();
        let mut status = Status {
            generation: 1,
            ..Status::default()
        };
        candidate.describe_in(&mut status);
        let name = match pen.number() {
            (_, 1) => format!("plugin-{}", status.name),
            (number, _) => format!("plugin-{}/{}", status.name, number + 1),
        };
        let meter = Meter::new(&candidate.kit.setup.name, board.clone(), status);
        let worker = Worker::new(candidate, feed, mailbox.clone(), meter, config, pen);
        let thread = std::thread::Builder::new().name(name).spawn({
            let (mailbox, board) = (mailbox.clone(), board.clone());
            move || {
                let run = std::panic::AssertUnwindSafe(|| worker.run(role));
                if std::panic::catch_unwind(run).is_err() {
                    // A bug of the host, not of the plugin; the others go on.
                    tracing::error!("a plugin's thread panicked; the plugin is down");
                }
                board.lock().unwrap_or_else(|e| e.into_inner()).state = State::Stopped;
                mailbox.close();
            }
        })?;
        Ok(Self {
            mailbox,
            board,
            trail,
            thread: Some(thread),
        })
    }

    /// Asks who holds a prefix. `reply` is called once, on the plugin's thread
    /// or on this one; it must not block. Errors: `NoModel`, `Busy`, `Deadline`,
    /// `Failed`. While the instance is down, its sources are `unavailable`.
    pub fn find(&self, query: Query, reply: Reply<Result<Answer, LookupError>>) {
        let expires = Instant::now() + query.deadline;
        self.mailbox.ask(Lookup {
            query,
            expires,
            reply,
        });
    }

    /// Hands over a request in the plugin's own form. `reply` as for
    /// [`find`](Self::find).
    pub fn request(
        &self,
        body: Bytes,
        deadline: Duration,
        reply: Reply<Result<Vec<u8>, LookupError>>,
    ) {
        let expires = Instant::now() + deadline;
        self.mailbox.request(Request {
            body,
            expires,
            reply,
        });
    }

    /// Changes its role at the next batch boundary. False: that did not come within
    /// `limit`; the role is changed when it does.
    pub fn play(&self, role: Role, limit: Duration) -> bool {
        self.cast(role).recv_timeout(limit).is_ok()
    }

    /// The same for instances that share a plugin's sources: all are told first, then
    /// awaited, so that the limit is one for all of them.
    pub fn play_all<'a>(
        runners: impl IntoIterator<Item = &'a Self>,
        role: &Role,
        limit: Duration,
    ) -> bool {
        let until = Instant::now() + limit;
        let cast = |runner: &Self| runner.cast(role.clone());
        let waits: Vec<_> = runners.into_iter().map(cast).collect();
        waits.iter().all(|wait| {
            let left = until.saturating_duration_since(Instant::now());
            wait.recv_timeout(left).is_ok()
        })
    }

    /// Something comes once the role is taken up.
    fn cast(&self, role: Role) -> Receiver<()> {
        let (done, wait) = std::sync::mpsc::channel();
        let taken = Reply::new(
            // Whoever asked may not wait any more.
            move |()| {
                let _ = done.send(());
            },
            || (),
        );
        self.mailbox.role(role, taken);
        wait
    }

    /// Starts it again now, if it is down: after a wait, or held.
    pub fn revive(&self) {
        self.mailbox.revive();
    }

    /// What it has handled, for those that follow it.
    #[must_use]
    pub fn trail(&self) -> &Arc<Trail> {
        &self.trail
    }

    /// Moves the state of the running instance into a candidate, source by source,
    /// while it goes on; where there is none, its positions. Blocks the caller, not
    /// the instance. Both must export `state`, or neither.
    ///
    /// # Errors
    /// [`HandoverError`]: the candidate is of no use any more; the running instance
    /// is as it was.
    pub fn hand_over(&self, to: &mut Candidate, limit: Duration) -> Result<Past, HandoverError> {
        let (out, inbox) = handover::channel();
        self.mailbox.hand_over(out);
        to.inherit(&inbox, limit)
    }

    /// Hands state and positions out, step by step, while the instance goes on. Blocks
    /// the caller. False: the instance ended or was too slow, and not all was said.
    ///
    /// # Errors
    /// The taker's own; nothing more is handed out then.
    pub fn copy<E>(
        &self,
        limit: Duration,
        mut take: impl FnMut(Moved) -> Result<(), E>,
    ) -> Result<bool, E> {
        let until = Instant::now() + limit;
        let (out, inbox) = handover::channel();
        self.mailbox.hand_over(out);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match inbox.recv_timeout(left) {
                Ok(Moved::End) => return Ok(true),
                Ok(moved) => take(moved)?,
                Err(_) => return Ok(false),
            }
        }
    }

    /// What it is doing, some milliseconds ago at most when it is idle or its calls
    /// are slow, 256 batches ago at most when it is busy.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = self.board.lock().unwrap_or_else(|e| e.into_inner()).clone();
        status.queue_lookups = self.mailbox.lookups();
        status
    }

    /// Ends the thread, once its feed is empty or `drain` is over, whichever is
    /// first, and the call that runs then has ended, by its own deadline at the
    /// latest. Whoever still waits for an answer gets an error.
    pub fn stop(mut self, drain: Duration) {
        self.mailbox.stop(Instant::now() + drain);
        if let Some(thread) = self.thread.take() {
            // Its panics were caught and said inside.
            drop(thread.join());
        }
    }

    /// The same, but a call that goes on for `patience` after the drain is ended.
    pub fn cut(mut self, drain: Duration, patience: Duration) {
        self.end(drain, patience);
    }

    fn end(&mut self, drain: Duration, patience: Duration) {
        let until = Instant::now() + drain;
        self.mailbox.stop(until);
        let Some(thread) = self.thread.take() else {
            return;
        };
        let wait = |until: Instant| {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        wait(until + patience);
        self.mailbox.cut();
        wait(until + patience + CUT);
        if thread.is_finished() {
            drop(thread.join());
        } else {
            tracing::error!("a plugin's thread hangs in the host; left behind");
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.end(Duration::ZERO, Duration::ZERO);
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}
