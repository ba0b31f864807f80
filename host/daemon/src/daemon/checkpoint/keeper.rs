use super::Checkpoints;
use crate::daemon::plugins::Plugins;
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
        let due = plugins.to_keep(|name, every| {
            let since = last.entry(name.to_owned()).or_insert_with(Instant::now);
            ending || since.elapsed() >= every
        });
        for (name, shards, state) in due {
            last.insert(name.clone(), Instant::now());
            let begun = Instant::now();
            match checkpoints.write(&name, &shards, &plugins.sources, state) {
                Ok(bytes) => {
                    let took = begun.elapsed();
                    tracing::debug!(plugin = name, bytes, "checkpoint written in {took:?}");
                    let gauge = metrics::gauge!("penstock_checkpoint_bytes", "plugin" => name);
                    gauge.set(bytes as f64);
                }
                Err(error) => {
                    tracing::error!(plugin = name, "no checkpoint: {error:#}");
                    let failed = metrics::counter!(
                        "penstock_checkpoints_failed_total", "plugin" => name
                    );
                    failed.increment(1);
                }
            }
        }
        if ending {
            return;
        }
    }
}
