//! File events as hints: something happened in the directory, look.

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
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
        let watcher = notify::recommended_watcher(move |event| {
            if !tells(&event) {
                return;
            }
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

/// False for what a scan does itself: it opens and reads.
fn tells(event: &notify::Result<Event>) -> bool {
    match event {
        Ok(event) => match event.kind {
            EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
            _ => true,
        },
        // Events may have been lost.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    #[test]
    fn a_scan_is_no_event_and_a_written_file_is() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a.wasm");
        std::fs::write(&file, "x").unwrap();
        let (hint, hints) = sync_channel(100);
        let mut watch = Watch::new(hint);
        watch.follow(home.path());
        for _ in 0..50 {
            assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
            std::fs::read(&file).unwrap();
        }
        std::fs::write(&file, "y").unwrap();
        // Events come in order: with the write's, those of the scans would be there.
        hints.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(hints.try_iter().count() < 10);
    }
}
