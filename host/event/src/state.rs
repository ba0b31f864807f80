use crate::{Change, Dictionary, Epoch, Mark, Position, Sequence, SourceInfo};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// State of a source's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Link {
    /// Never connected yet.
    #[default]
    Connecting = 0,
    /// Connected.
    Live = 1,
    /// Disconnected, for less than the time that makes it stale.
    Down = 2,
    /// Disconnected for longer; left out of answers by default.
    Stale = 3,
    /// Disconnected past the grace period; its state was dropped.
    Left = 4,
}

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// A source's counters, since it joined.
        #[derive(Debug, Default)]
        pub struct Totals { $($(#[$doc])* pub $name: AtomicU64),* }

        impl Totals {
            /// Name and value of each counter.
            #[must_use]
            pub fn read(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Relaxed))),*]
            }
        }
    };
}

totals! {
    /// Messages received live.
    messages,
    /// Their bytes.
    bytes,
    /// Batches delivered to the router.
    batches,
    /// Events delivered.
    events,
    /// Blocks in stored events delivered.
    blocks,
    /// Events skipped as bad.
    skipped_events,
    /// Messages without three frames, or with a sequence that is not 8 bytes.
    malformed,
    /// Messages seen before.
    duplicates,
    /// Messages of an engine that was gone, left out: a reset makes them void.
    stale_frames,
    /// Restarts seen.
    restarts,
    /// Times a gap opened.
    gaps,
    /// Gaps closed by replay, nothing missing.
    gaps_filled,
    /// Batches reported missing.
    missing,
    /// Batches that came by replay.
    replayed,
    /// Replays begun.
    replays,
    /// Times the connection was lost.
    disconnects,
    /// Messages of a second publisher on the same topic.
    two_publishers,
    /// Batches lost in this daemon with their reason already reported as gaps.
    undecodable,
}

/// A gap or a reset that was reported: what an operator reads afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// `gap` or `reset`.
    pub kind: String,
    /// The epoch that misses batches, or that begins.
    pub epoch: Epoch,
    /// First sequence missing; 0 for a reset.
    pub first: Sequence,
    /// Last sequence missing; 0 for a reset.
    pub last: Sequence,
    /// Why.
    pub reason: String,
}

/// Incidents kept of each source; older ones are in the log alone.
const INCIDENTS: usize = 1_000;

/// Where a source's stream begins in this process, counted since it joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// Drawn by chance when the source first joined, and kept by all who go on from
    /// there: epochs of different lineages cannot be compared.
    pub lineage: u64,
    /// The epoch then.
    pub epoch: Epoch,
    /// The stream goes on behind this batch, once the engine has shown that it is the
    /// one that published it. None: it comes from its first sequence.
    pub resumed: Option<Sequence>,
}

/// A live source as the whole process sees it: ingest writes, all others read.
#[derive(Debug)]
pub struct SourceState {
    /// Who it is.
    pub info: SourceInfo,
    /// Its names.
    pub dictionary: Arc<Dictionary>,
    /// Counters.
    pub totals: Totals,
    link: AtomicU8,
    verified: AtomicBool,
    complete: AtomicBool,
    contested: AtomicBool,
    last_message_us: AtomicI64,
    mark: Mutex<Option<Mark>>,
    beginning: Mutex<Beginning>,
    incidents: Mutex<VecDeque<Incident>>,
    order_state: Mutex<&'static str>,
    /// The stream that an operator made this one of. What becomes of the engine is known
    /// there alone.
    origin: Option<Arc<SourceState>>,
}

impl SourceState {
    /// A source that has not connected yet.
    #[must_use]
    pub fn new(info: SourceInfo) -> Self {
        let verified = info.spec.replay.is_some();
        Self {
            info,
            dictionary: Arc::default(),
            totals: Totals::default(),
            link: AtomicU8::new(Link::Connecting as u8),
            verified: AtomicBool::new(verified),
            complete: AtomicBool::new(true),
            contested: AtomicBool::new(false),
            last_message_us: AtomicI64::new(0),
            mark: Mutex::new(None),
            beginning: Mutex::default(),
            incidents: Mutex::default(),
            order_state: Mutex::new("new"),
            origin: None,
        }
    }

    /// What an operator makes of a source: the same names and numbers, and a stream of
    /// its own, of which no engine can be asked for more.
    #[must_use]
    pub fn derived(origin: &Arc<Self>, beginning: Beginning) -> Self {
        let mut info = origin.info.clone();
        info.spec.replay = None;
        let state = Self {
            dictionary: origin.dictionary.clone(),
            origin: Some(origin.clone()),
            ..Self::new(info)
        };
        state.set_beginning(beginning);
        state
    }

    /// True for what an operator made.
    #[must_use]
    pub fn is_derived(&self) -> bool {
        self.origin.is_some()
    }

    /// State of the connection.
    #[must_use]
    pub fn link(&self) -> Link {
        if let Some(origin) = &self.origin {
            return origin.link();
        }
        match self.link.load(Relaxed) {
            0 => Link::Connecting,
            1 => Link::Live,
            2 => Link::Down,
            3 => Link::Stale,
            _ => Link::Left,
        }
    }

    /// Says what became of the connection.
    pub fn set_link(&self, link: Link) {
        self.link.store(link as u8, Relaxed);
    }

    /// True when the end of its stream can be checked by replay.
    #[must_use]
    pub fn verified(&self) -> bool {
        if let Some(origin) = &self.origin {
            return origin.verified();
        }
        self.verified.load(Relaxed)
    }

    /// Says whether the stream's end can be checked.
    pub fn set_verified(&self, yes: bool) {
        self.verified.store(yes, Relaxed);
    }

    /// True while nothing is known to be missing since the engine's last restart or
    /// clear. A source never reached is not complete: nothing is known of it.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.complete.load(Relaxed) && self.knowable()
    }

    /// False while nothing that is held of the source can be called complete: it was
    /// never reached, or two publishers share its topic.
    #[must_use]
    pub fn knowable(&self) -> bool {
        if let Some(origin) = &self.origin {
            return origin.knowable();
        }
        self.link() != Link::Connecting && !self.contested.load(Relaxed)
    }

    /// Says whether two publishers were seen since the last reset.
    pub fn set_contested(&self, yes: bool) {
        self.contested.store(yes, Relaxed);
    }

    /// Says whether something is known to be missing.
    pub fn set_complete(&self, yes: bool) {
        self.complete.store(yes, Relaxed);
    }

    /// When the last message came, µs since 1970; 0 before the first.
    #[must_use]
    pub fn last_message_us(&self) -> i64 {
        if let Some(origin) = &self.origin {
            return origin.last_message_us();
        }
        self.last_message_us.load(Relaxed)
    }

    /// Notes a message's time.
    pub fn set_last_message_us(&self, us: i64) {
        self.last_message_us.store(us, Relaxed);
    }

    /// The last batch delivered to the router.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.mark().map(|mark| mark.position)
    }

    /// The same with its digest: what a checkpoint of the source itself would hold.
    /// Plugins may be behind; what each has applied is in [`Batch::mark`](crate::Batch::mark).
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        *self.mark.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Notes the last batch delivered.
    pub fn set_mark(&self, mark: Mark) {
        *self.mark.lock().unwrap_or_else(|e| e.into_inner()) = Some(mark);
    }

    /// Where its stream begins.
    #[must_use]
    pub fn beginning(&self) -> Beginning {
        *self.beginning.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Says where its stream begins. To be said before it joins.
    pub fn set_beginning(&self, beginning: Beginning) {
        *self.beginning.lock().unwrap_or_else(|e| e.into_inner()) = beginning;
    }

    /// What the order machine is doing.
    #[must_use]
    pub fn order_state(&self) -> &'static str {
        *self.order_state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Says what the order machine is doing.
    pub fn set_order_state(&self, state: &'static str) {
        *self.order_state.lock().unwrap_or_else(|e| e.into_inner()) = state;
    }

    /// Notes a change that was reported.
    pub fn note(&self, change: &Change) {
        let incident = match *change {
            Change::Gap {
                epoch,
                first,
                last,
                reason,
                ..
            } => Incident {
                kind: "gap".into(),
                epoch,
                first,
                last,
                reason: reason.name().into(),
            },
            Change::Reset { epoch, reason, .. } => Incident {
                kind: "reset".into(),
                epoch,
                first: 0,
                last: 0,
                reason: reason.name().into(),
            },
            Change::Joined(_) | Change::Left(_) => return,
        };
        let mut incidents = self.incidents.lock().unwrap_or_else(|e| e.into_inner());
        if incidents.len() == INCIDENTS {
            incidents.pop_front();
        }
        incidents.push_back(incident);
    }

    /// Changes reported, oldest first, at most the last thousand.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        let incidents = self.incidents.lock().unwrap_or_else(|e| e.into_inner());
        incidents.iter().cloned().collect()
    }
}
