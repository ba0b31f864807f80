//! File events as hints: something happened in the directory, look.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

/// Watches the plugin directory, and its parent while it is not there.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: Option<PathBuf>,
}

// === impl Watch ===

impl Watch {
    /// Each event sends one hint; a full channel has hints enough. Where the system
    /// gives no events, the scans every few seconds do alone.
    pub fn new(hint: SyncSender<()>) -> Self {
        let watcher = notify::recommended_watcher(move |_| {
            // Full means that a scan is due anyway.
            let _ = hint.try_send(());
        });
        let watcher = watcher
            .inspect_err(|e| tracing::warn!("no file events, scanning alone: {e}"))
            .ok();
        Self {
            watcher,
            watched: None,
        }
    }

    /// Called with every scan: a directory that was replaced is watched anew.
    pub fn follow(&mut self, directory: &Path) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        if !directory.is_dir() {
            self.watched = None;
            return;
        }
        if self.watched.as_deref() == Some(directory) {
            return;
        }
        match watcher.watch(directory, RecursiveMode::Recursive) {
            Ok(()) => self.watched = Some(directory.to_path_buf()),
            Err(error) => tracing::debug!("cannot watch {}: {error}", directory.display()),
        }
    }
}
