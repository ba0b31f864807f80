//! Payloads of several engines in the order of their arrival, and what engines hold after them.

use crate::payloads::{Engine, Shape};
use crate::report::Work;
use crate::workload::{Probe, Workload};
use anyhow::{Result, anyhow};
use bytes::Bytes;
use penstock_peer::encode::Style;

/// What both sides of a comparison get.
pub struct Stream {
    /// Engine and payload.
    pub payloads: Vec<(usize, Bytes)>,
    /// So many of them fill caches; from then on as much is removed as is stored.
    pub fill: usize,
    /// Engines.
    pub engines: usize,
    /// Blocks that all of them store, and remove.
    pub work: Work,
    /// (block, engine) pairs held at the end.
    pub held: u64,
    /// Prompts to ask for at the end.
    pub probes: Vec<Probe>,
}

/// Prompts asked for.
const PROBES: usize = 200;

impl Stream {
    /// Stored events alone, of one engine.
    pub fn stored(style: &str, events: usize, blocks: usize) -> Result<Self> {
        let shape = Shape {
            events,
            blocks: 8,
            tokens: 16,
            capacity: usize::MAX,
            style: style.parse().map_err(|e| anyhow!("{style}: {e}"))?,
        };
        Ok(Self::of(shape, 1, blocks / (events * shape.blocks), 0))
    }

    /// Batches of 4 x 8 blocks: `engines` with `capacity` blocks each, of which each stores
    /// as many as it holds, and `steady` batches more.
    pub fn uniform(engines: usize, capacity: usize, steady: usize) -> Self {
        let shape = Shape {
            events: 4,
            blocks: 8,
            tokens: 16,
            capacity,
            style: Style::MAP,
        };
        let fill = capacity / (shape.events * shape.blocks);
        Self::of(shape, engines, fill, steady)
    }

    fn of(shape: Shape, engines: usize, fill: usize, steady: usize) -> Self {
        let mut all: Vec<Engine> = (0..engines).map(|n| Engine::new(n, shape)).collect();
        let made = all.iter_mut().map(|engine| engine.payloads(fill + steady));
        let (payloads, stored): (Vec<_>, Vec<u64>) = made.unzip();
        let (stored, held) = (
            stored.iter().sum::<u64>(),
            all.iter().map(|e| e.held() as u64).sum(),
        );
        let every = all.iter().map(|e| e.conversations().count()).sum::<usize>() / PROBES;
        let probes = all.iter().enumerate().flat_map(|(n, engine)| {
            engine
                .conversations()
                .step_by(every.max(1))
                .map(move |conversation| Probe {
                    tokens: conversation.tokens(shape),
                    held: vec![(n, conversation.answer())],
                })
        });
        let probes = probes.collect();
        Self::new(payloads, fill * engines, stored, held, probes)
    }

    /// Payloads that only store, in this order.
    pub fn of_stored(payloads: Vec<(usize, Bytes)>, engines: usize, stored: u64) -> Self {
        Self {
            fill: payloads.len(),
            engines,
            work: Work {
                blocks: stored,
                removes: 0,
                payload_digest: digest(&payloads),
            },
            held: stored,
            probes: Vec::new(),
            payloads,
        }
    }

    /// Mooncake's trace, on two engines.
    pub fn mooncake() -> Result<Self> {
        let made = Workload::trace()?;
        let payloads = made.engines.iter().map(|all| all.to_vec()).collect();
        let stored = made.blocks.iter().sum();
        Ok(Self::new(payloads, 0, stored, made.held, made.probes))
    }

    fn new(of: Vec<Vec<Bytes>>, fill: usize, stored: u64, held: u64, probes: Vec<Probe>) -> Self {
        let longest = of.iter().map(Vec::len).max().unwrap_or(0);
        let in_turn = (0..longest).flat_map(|at| {
            let engines = of.iter().enumerate();
            engines.filter_map(move |(n, all)| Some((n, all.get(at)?.clone())))
        });
        let payloads: Vec<(usize, Bytes)> = in_turn.collect();
        Self {
            fill,
            engines: of.len(),
            work: Work {
                blocks: stored,
                removes: stored - held,
                payload_digest: digest(&payloads),
            },
            held,
            probes,
            payloads,
        }
    }
}

fn digest(payloads: &[(usize, Bytes)]) -> String {
    let all = payloads.iter().fold(0u64, |digest, (_, payload)| {
        digest.rotate_left(7) ^ penstock_event::digest(payload)
    });
    format!("{all:016x}")
}
