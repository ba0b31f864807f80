//! What engines publish on the whole path, made before anything is measured, and
//! what must be found afterwards.

use crate::payloads::{Engine, Shape};
use anyhow::Result;
use bytes::Bytes;
use penstock_peer::encode::{Style, encode_batch};
use penstock_peer::event::Event;
use penstock_peer::trace::{Trace, TraceConfig, TraceEngine, Workload as Requests, WorkloadConfig};
use std::sync::Arc;

/// Payloads and truth.
pub struct Workload {
    /// What it is.
    pub what: String,
    /// Payloads by engine.
    pub engines: Vec<Arc<Vec<Bytes>>>,
    /// Blocks stored, by engine.
    pub blocks: Vec<u64>,
    /// Blocks held in the end, all engines together.
    pub held: u64,
    /// Prompts to ask for in the end.
    pub probes: Vec<Probe>,
}

/// A prompt, and the blocks of it that engines hold.
pub struct Probe {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// Engine and blocks, for those that are known.
    pub held: Vec<(usize, u32)>,
}

/// Engines.
const ENGINES: usize = 2;

/// Synthetic batches an engine, below the daemon's high-water mark.
const BATCHES: usize = 30_000;

const SHAPE: Shape = Shape {
    events: 4,
    blocks: 8,
    tokens: 16,
    capacity: 65_536,
    style: Style::MAP,
};

/// Blocks that an engine on the trace stores at least.
const TRACE_BLOCKS: u64 = 600_000;

/// Prompts asked for.
const PROBES: usize = 200;

// === impl Workload ===

impl Workload {
    /// Batches of 4 x 8 blocks, a steady state.
    pub fn synthetic() -> Self {
        let mut engines: Vec<Engine> = (0..ENGINES).map(|n| Engine::new(n, SHAPE)).collect();
        let made = engines.iter_mut().map(|engine| engine.payloads(BATCHES));
        let (payloads, blocks): (Vec<_>, Vec<_>) = made.unzip();
        let probes = engines.iter().enumerate().flat_map(|(n, engine)| {
            let each = engine.conversations().count() / (PROBES / ENGINES);
            engine
                .conversations()
                .step_by(each.max(1))
                .map(move |conversation| Probe {
                    tokens: conversation.tokens(SHAPE),
                    held: vec![(n, conversation.answer())],
                })
        });
        Self {
            what: format!("{ENGINES} engines, 4 x 8 blocks a message"),
            probes: probes.collect(),
            held: engines.iter().map(|e| e.held() as u64).sum(),
            engines: payloads.into_iter().map(Arc::new).collect(),
            blocks,
        }
    }

    /// The Mooncake trace: prompts of thousands of tokens in large batches, their
    /// answers in small ones.
    pub fn trace() -> Result<Self> {
        let trace = Arc::new(Trace::load(&penstock_testkit::trace())?);
        let config = WorkloadConfig {
            engines: ENGINES,
            ..WorkloadConfig::default()
        };
        let requests = Arc::new(Requests::new(trace, config));
        let (mut engines, mut payloads, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
        for engine in 0..ENGINES {
            let config = TraceConfig {
                engine,
                ..TraceConfig::default()
            };
            let mut engine = TraceEngine::new(requests.clone(), config);
            let (mut of_engine, mut stored) = (Vec::new(), 0);
            while stored < TRACE_BLOCKS {
                let Some(batch) = engine.next() else {
                    break;
                };
                stored += batch.events.iter().map(Event::stored_blocks).sum::<usize>() as u64;
                let ts = 1_700_000_000.0 + batch.step as f64 * 0.01;
                let payload = encode_batch(ts, &batch.events, Some(0), Style::MAP);
                of_engine.push(Bytes::from(payload));
            }
            engines.push(engine);
            payloads.push(Arc::new(of_engine));
            blocks.push(stored);
        }
        // The newest requests, of which caches still hold something, and older ones.
        let newest = engines
            .iter()
            .map(TraceEngine::next_request)
            .max()
            .unwrap_or(0);
        let asked = (0..newest).rev().take(PROBES);
        let probes = asked.map(|request| {
            let prompt = requests.prompt(request);
            let hashes = requests.hashes(&prompt.tokens, prompt.adapter.as_ref());
            let held = engines.iter().enumerate();
            Probe {
                held: held
                    .map(|(n, e)| (n, e.longest_prefix(&hashes) as u32))
                    .collect(),
                tokens: prompt.tokens,
            }
        });
        Ok(Self {
            what: format!("{ENGINES} engines on the Mooncake trace"),
            probes: probes.collect(),
            held: engines.iter().map(|e| e.cached_blocks() as u64).sum(),
            engines: payloads,
            blocks,
        })
    }

    /// Messages of all engines.
    pub fn messages(&self) -> u64 {
        self.engines
            .iter()
            .map(|payloads| payloads.len() as u64)
            .sum()
    }

    /// Bytes of all frames: an empty topic, 8 bytes of sequence, the payload.
    pub fn bytes(&self) -> u64 {
        let payloads = self.engines.iter().flat_map(|payloads| payloads.iter());
        payloads.map(|payload| 8 + payload.len() as u64).sum()
    }
}
