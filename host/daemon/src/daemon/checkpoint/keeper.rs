use super::Checkpoints;
use super::chain::{groups, write};
use crate::daemon::plugins::{Keep, Plugins};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The thread that writes checkpoints, one plugin after the other.
pub struct Keeper {
    end: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

/// How long a plugin may take to stand where an operator before it stood.
const WAIT: Duration = Duration::from_secs(5);
/// The same at the end, when nothing new comes.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// How often it looks whether a plugin's time has come.
const LOOK: Duration = Duration::from_millis(250);

// === impl Keeper ===

impl Keeper {
    pub fn start(plugins: Arc<Plugins>, checkpoints: Arc<Checkpoints>) -> std::io::Result<Self> {
        let (end, ended) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || run(&plugins, &checkpoints, &ended))?;
        Ok(Self {
            end,
            thread: Some(thread),
        })
    }

    /// Writes all once more, and ends; at `until` it is left behind.
    pub fn finish(mut self, until: Instant) {
        // Full: it is told already.
        let _ = self.end.try_send(());
        let Some(thread) = self.thread.take() else {
            return;
        };
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !thread.is_finished() {
            tracing::warn!("a last checkpoint is not waited for; the one before it counts");
        } else if thread.join().is_err() {
            tracing::error!("the writer of checkpoints panicked");
        }
    }
}

fn run(plugins: &Plugins, checkpoints: &Checkpoints, ended: &Receiver<()>) {
    let mut last: HashMap<String, Instant> = HashMap::new();
    loop {
        let ending = !matches!(ended.recv_timeout(LOOK), Err(RecvTimeoutError::Timeout));
        let all = plugins.to_keep();
        let mut is_due = |plugin: &Keep| {
            let since = last.entry(plugin.name.clone()).or_insert_with(Instant::now);
            (plugin.every).is_some_and(|every| ending || since.elapsed() >= every)
        };
        let due: Vec<String> = (all.iter().filter(|p| is_due(p)))
            .map(|plugin| plugin.name.clone())
            .collect();
        let patience = if ending { LAST_WAIT } else { WAIT };
        for group in groups(&due, &all) {
            for plugin in &group {
                last.insert(plugin.name.clone(), Instant::now());
            }
            write(checkpoints, &group, &all, patience);
        }
        if ending {
            return;
        }
    }
}
