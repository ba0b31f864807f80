//! The client that asks: one lookup after the other, over ZeroMQ, with a short rest
//! between them, so that it measures the daemon and does not fill the machine.

use crate::blocks::Load;
use crate::waits::{Phase, Waits, now};
use anyhow::{Context, Result, anyhow};
use penstock_event::{By, Query};
use penstock_query::client::ZmqClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Rest between two lookups.
const REST: Duration = Duration::from_millis(4);
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// At work until it is finished or dropped.
pub struct Asker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Asked>>,
}

#[derive(Default)]
struct Shared {
    phase: AtomicU64,
    stop: AtomicBool,
}

/// What came of it.
#[derive(Default)]
pub struct Asked {
    pub waits: Waits,
    pub hits: u64,
    /// Lookups without an answer, and the first reason.
    pub failed: u64,
    pub why: Option<String>,
}

// === impl Asker ===

impl Asker {
    pub fn start(endpoint: &str, load: Arc<Load>) -> Result<Self> {
        let mut client = ZmqClient::connect(endpoint)?;
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("asker".into())
            .spawn(move || ask(&mut client, &load, &of_thread))
            .context("no thread for the asker")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    pub fn phase(&self, phase: Phase) {
        self.shared.phase.store(phase as u64, Relaxed);
    }

    pub fn finish(mut self) -> Result<Asked> {
        self.shared.stop.store(true, Relaxed);
        let thread = self.thread.take().context("the asker has ended")?;
        thread.join().map_err(|_| anyhow!("the asker panicked"))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

fn ask(client: &mut ZmqClient, load: &Load, shared: &Shared) -> Asked {
    let mut asked = Asked::default();
    for number in 0.. {
        if shared.stop.load(Relaxed) {
            break;
        }
        let query = Query {
            model: "m".into(),
            adapter: String::new(),
            salt: String::new(),
            by: By::Tokens(load.prompt(number).into()),
            deadline: DEADLINE,
            include_stale: false,
        };
        let begun = now();
        let answer = client.query(None, &query);
        let ended = now();
        let phase = Phase::of(shared.phase.load(Relaxed));
        match answer {
            Ok(answer) => {
                let found = answer.scores.values().flat_map(|ranks| ranks.values());
                asked.hits += u64::from(found.max().is_some_and(|tokens| *tokens > 0));
                asked.waits.add(phase, begun, ended);
            }
            // While it fills there may be no sources yet.
            Err(_) if phase == Phase::Busy => {}
            Err(error) => {
                asked.waits.add(phase, begun, ended);
                asked.failed += 1;
                asked.why.get_or_insert_with(|| error.to_string());
            }
        }
        std::thread::sleep(REST);
    }
    asked
}
