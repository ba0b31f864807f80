//! The reconciler: makes what runs be what lies in the plugin directory.
//!
//! ```text
//! hint or timer ─> scan ─> settled files ─> load ─┬─ refused: said in status
//!                                                 ├─ nobody runs: start
//!                                                 └─ else: warm up beside, then swap
//! ```
//! Start, reload and removal are this one path. Files are read once; those bytes
//! are hashed, checked and compiled. What fails leaves what ran before.

mod chains;
mod reconcile;
mod start;
mod swap;

use super::plugins::{Entry, Plugins};
use super::scan::{Directory, Found};
use super::watch::Watch;
use crate::config::PluginFile;
use anyhow::Result;
use penstock_query::{Beat, Heartbeats, Reloaded, Turn};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The reconciler's thread.
pub struct Manager {
    orders: SyncSender<()>,
    wishes: Sender<Wish>,
    /// Sources are known: plugins may be loaded.
    begin: SyncSender<()>,
    warm: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What an operator asks for, and who waits for it.
enum Wish {
    /// A complete scan.
    Reload(Sender<Reloaded>),
    /// A change of what runs under a name; its generation, or why not.
    Turn(String, Turn, Sender<Result<u64, String>>),
}

/// Files move, or a plugin warms up: look again this soon.
const SOON: Duration = Duration::from_millis(50);
/// A compilation may take this long before the loop counts as stuck.
const STUCK: Duration = Duration::from_secs(120);

struct Worker {
    plugins: Arc<Plugins>,
    directory: Directory,
    watch: Watch,
    /// Files that were taken or refused: they are not tried again.
    tried: BTreeMap<String, Found>,
    /// What each plugin's file says, whether it was taken or refused.
    files: BTreeMap<String, PluginFile>,
    /// Refused for those that they name there: tried again when others change.
    waits: BTreeSet<String>,
    /// Something began to run, or ended.
    moved: bool,
    digests: BTreeMap<String, u64>,
    warming_since: BTreeMap<String, Instant>,
    scan_every: Duration,
    beat: Beat,
}

// === impl Manager ===

impl Manager {
    /// Loads what lies there once it [begins](Self::begin), then watches.
    pub fn start(plugins: Arc<Plugins>, scan_every: Duration, beats: &Heartbeats) -> Result<Self> {
        let (orders, inbox) = sync_channel(1);
        let (wishes, wished) = channel();
        let (begin, begun) = sync_channel(1);
        let warm = Arc::new(AtomicBool::new(false));
        let stop = Arc::new(AtomicBool::new(false));
        let mut worker = Worker {
            directory: Directory::new(plugins.places.plugins.clone()),
            watch: Watch::new(orders.clone()),
            plugins,
            tried: BTreeMap::new(),
            files: BTreeMap::new(),
            waits: BTreeSet::new(),
            moved: false,
            digests: BTreeMap::new(),
            warming_since: BTreeMap::new(),
            scan_every,
            beat: beats.watch("plugin directory", STUCK),
        };
        let thread = std::thread::Builder::new()
            .name("reconcile".into())
            .spawn({
                let (warm, stop) = (warm.clone(), stop.clone());
                move || {
                    // Disconnected: the daemon ends before it began.
                    if begun.recv().is_ok() {
                        worker.run(&inbox, &wished, &warm, &stop);
                    }
                }
            })?;
        Ok(Self {
            orders,
            wishes,
            begin,
            warm,
            stop,
            thread: Some(thread),
        })
    }

    /// Sources are known: a plugin goes on where it was in each of them.
    pub fn begin(&self) {
        // Full: it was said before.
        let _ = self.begin.try_send(());
    }

    /// True once the plugins found at start run, or were refused.
    pub fn warm(&self) -> bool {
        self.warm.load(Relaxed)
    }

    /// A handle for those who want a scan now.
    pub fn bell(&self) -> Bell {
        Bell {
            orders: self.orders.clone(),
            wishes: self.wishes.clone(),
        }
    }

    /// Ends it; one that is still compiling by `until` is left behind.
    pub fn stop(mut self, until: Instant) {
        self.stop.store(true, Relaxed);
        self.begin();
        // Full means that it is about to wake anyway.
        let _ = self.orders.try_send(());
        let Some(thread) = self.thread.take() else {
            return;
        };
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !thread.is_finished() {
            tracing::warn!("a plugin is still being compiled; it is not waited for");
        } else if thread.join().is_err() {
            tracing::error!("the reconciler panicked");
        }
    }
}

/// Asks the reconciler for a scan.
#[derive(Clone)]
pub struct Bell {
    orders: SyncSender<()>,
    wishes: Sender<Wish>,
}

impl Bell {
    /// Scans now, and waits until everything found runs or was refused.
    pub fn reload(&self, limit: Duration) -> Option<Reloaded> {
        let (done, wait) = channel();
        self.ring(Wish::Reload(done))?;
        wait.recv_timeout(limit).ok()
    }

    /// Changes what runs under a name. Its generation, or why not.
    pub fn turn(&self, plugin: &str, turn: Turn, limit: Duration) -> Option<Result<u64, String>> {
        let (done, wait) = channel();
        self.ring(Wish::Turn(plugin.into(), turn, done))?;
        wait.recv_timeout(limit).ok()
    }

    fn ring(&self, wish: Wish) -> Option<()> {
        self.wishes.send(wish).ok()?;
        // Full means that it is about to wake anyway.
        let _ = self.orders.try_send(());
        Some(())
    }
}

// === impl Worker ===

impl Worker {
    fn run(
        &mut self,
        hints: &Receiver<()>,
        wished: &Receiver<Wish>,
        warm: &AtomicBool,
        stop: &AtomicBool,
    ) {
        let mut reloads: Vec<Sender<Reloaded>> = Vec::new();
        let mut changed: Vec<String> = Vec::new();
        while !stop.load(Relaxed) {
            self.beat.touch();
            self.watch.follow(self.directory.path());
            let first = !warm.load(Relaxed);
            for wish in wished.try_iter() {
                match wish {
                    Wish::Reload(done) => reloads.push(done),
                    Wish::Turn(name, turn, done) => {
                        let turned = match turn {
                            Turn::Back => self.roll_back_by_hand(&name),
                            Turn::Restart => self.restart_by_hand(&name),
                        };
                        // Whoever asked may have gone.
                        let _ = done.send(turned);
                    }
                }
            }
            let moving = match self.directory.scan(Instant::now(), first) {
                Ok(scan) => {
                    let moving = scan.moving;
                    changed.extend(self.reconcile(scan));
                    moving
                }
                Err(error) => {
                    let at = self.directory.path().display();
                    tracing::error!("the plugin directory {at} cannot be read: {error}");
                    false
                }
            };
            self.promote();
            self.prove();
            self.tend();
            let busy = moving || !self.warming_since.is_empty();
            if !busy || first {
                warm.store(true, Relaxed);
                self.plugins.starting.store(false, Relaxed);
            }
            if !busy {
                let reloaded = self.reloaded(&mut changed);
                for reload in reloads.drain(..) {
                    // Whoever asked may have gone.
                    let _ = reload.send(reloaded.clone());
                }
            }
            let wait = if busy || self.plugins.on_probation() {
                SOON
            } else {
                self.scan_every
            };
            match hints.recv_timeout(wait) {
                Ok(()) => drop(hints.try_iter().count()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn reloaded(&self, changed: &mut Vec<String>) -> Reloaded {
        let table = self.plugins.lock();
        let refused = |(name, e): (&String, &Entry)| Some((name.clone(), e.refused.clone()?));
        Reloaded {
            changed: std::mem::take(changed),
            refused: table.iter().filter_map(refused).collect(),
            ..Reloaded::default()
        }
    }
}
