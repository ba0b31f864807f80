use crate::config::SinkConfig;
use crate::error::SinkError;
use crate::file::Lines;
use crate::push::Push;
use crate::queue::{FinishOnDrop, Queue};
use crate::status::{SinkStatus, Stats};
use crate::xpub::Xpub;
use penstock_event::Publish;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// What a thread may take to notice that its deadline passed. One that hangs
/// for longer (in a write to a dead network disk) is left behind.
const GRACE: Duration = Duration::from_millis(250);

/// An open sink: a queue, and a thread that empties it.
///
/// Dropping it closes it without draining.
pub struct Sink {
    kind: &'static str,
    endpoint: String,
    replay_endpoint: Option<String>,
    queue: Arc<Queue>,
    stats: Arc<Stats>,
    thread: Option<JoinHandle<()>>,
}

// === impl Sink ===

impl Sink {
    /// Checks the config, opens sockets or the file, and starts the thread.
    /// `inproc` endpoints join those of the same context.
    ///
    /// # Errors
    /// [`SinkError`]; nothing stays open then.
    pub fn open(name: &str, config: &SinkConfig, ctx: &zmq::Context) -> Result<Self, SinkError> {
        config.check().map_err(|reason| SinkError::Config {
            name: name.to_owned(),
            reason,
        })?;
        let no_thread = |source: io::Error| SinkError::Thread {
            name: name.to_owned(),
            source,
        };
        let kind = config.kind();
        let stats = Arc::new(Stats::new(name, kind));
        let queue = Queue::new(config.limits(), Arc::clone(&stats)).map_err(no_thread)?;
        let queue = Arc::new(queue);

        let mut replay_endpoint = None;
        let (endpoint, work): (String, Box<dyn FnOnce() + Send>) = match config {
            SinkConfig::ZmqPub(c) => {
                let (xpub, endpoint) = Xpub::open(ctx, c, &queue, &stats)?;
                replay_endpoint = xpub.replay_endpoint();
                (endpoint, Box::new(move || xpub.run()))
            }
            SinkConfig::ZmqPush(c) => {
                let (push, endpoint) = Push::open(ctx, c, &queue, &stats)?;
                (endpoint, Box::new(move || push.run()))
            }
            SinkConfig::File(c) => {
                let lines = Lines::open(c, &queue, &stats).map_err(|source| SinkError::File {
                    name: name.to_owned(),
                    path: c.path.clone(),
                    source,
                })?;
                let path = c.path.display().to_string();
                (path, Box::new(move || lines.run()))
            }
        };
        let finish = FinishOnDrop(Arc::clone(&queue));
        // The kernel keeps 15 bytes of a thread's name.
        let thread = Builder::new()
            .name(format!("sink-{name}"))
            .spawn(move || {
                let _finish = finish;
                work();
            })
            .map_err(no_thread)?;
        tracing::info!(sink = name, kind, %endpoint, replay = replay_endpoint.as_deref(), "sink open");
        Ok(Self {
            kind,
            endpoint,
            replay_endpoint,
            queue,
            stats,
            thread: Some(thread),
        })
    }

    /// Where plugins publish. Stays valid, and answers "closed", after the
    /// sink is gone.
    #[must_use]
    pub fn publisher(&self) -> Arc<dyn Publish> {
        self.queue.clone()
    }

    /// The sink as it stands.
    #[must_use]
    pub fn status(&self) -> SinkStatus {
        let (queued, queued_bytes, running) = self.queue.standing();
        SinkStatus {
            kind: self.kind,
            endpoint: self.endpoint.clone(),
            replay_endpoint: self.replay_endpoint.clone(),
            running,
            queued: queued as u64,
            queued_bytes: queued_bytes as u64,
            ..self.stats.status()
        }
    }

    /// Refuses new messages, sends what is queued until `deadline`, and counts
    /// the rest as unsent. Returns by `deadline` and a quarter of a second.
    ///
    /// libzmq may still hold what it was given: it goes on sending for the rest
    /// of the time to `deadline`, `linger_ms` at most, and the end of its
    /// context waits for that.
    #[must_use = "it says what was not sent"]
    pub fn shutdown(mut self, deadline: Instant) -> SinkStatus {
        self.stop(deadline);
        let status = self.status();
        if status.unsent_at_exit > 0 {
            tracing::error!(sink = %status.name, messages = status.unsent_at_exit, "the sink could not send everything before its deadline");
        }
        status
    }

    fn stop(&mut self, deadline: Instant) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.queue.close(deadline);
        if self.queue.wait_finished(deadline + GRACE) {
            // A panic was reported by the thread itself.
            let _ = thread.join();
        } else {
            self.stats
                .error("the sink's thread hangs; left behind".into());
            self.queue.finish();
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sink").field(&self.status()).finish()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop(Instant::now());
    }
}
