use super::{Request, TOKENS_PER_ID, Trace};
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// How requests become tokens.
#[derive(Clone, Debug)]
pub struct WorkloadConfig {
    /// Tokens a block.
    pub block_size: usize,
    /// Token numbers are below it.
    pub vocabulary: u32,
    /// Engines that share the requests.
    pub engines: usize,
    /// Decides which engine serves a request, which requests have an adapter,
    /// and what is generated. Not what is in a prompt.
    pub seed: u64,
    /// Share of requests with an adapter, 0 to 1.
    pub adapter_share: f64,
    /// The adapters; each such request has one of them.
    pub adapters: Vec<Arc<str>>,
}

/// Request numbers to tokens, hashes and engines. Stateless: any two of the
/// same settings answer alike.
#[derive(Clone, Debug)]
pub struct Workload {
    trace: Arc<Trace>,
    config: WorkloadConfig,
}

/// An adapter (LoRA).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// From 1.
    pub id: i64,
    /// Its name.
    pub name: Arc<str>,
}

/// A request's prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// The adapter that answers it.
    pub adapter: Option<Adapter>,
}

// === impl WorkloadConfig ===

impl Default for WorkloadConfig {
    fn default() -> Self {
        Self {
            block_size: 16,
            vocabulary: 128_000,
            engines: 1,
            seed: 0,
            adapter_share: 0.0,
            adapters: vec!["adapter-a".into(), "adapter-b".into()],
        }
    }
}

// === impl Workload ===

impl Workload {
    /// Requests of `trace`. Zero engines, tokens a block or numbers in the
    /// vocabulary are taken for one.
    #[must_use]
    pub fn new(trace: Arc<Trace>, mut config: WorkloadConfig) -> Self {
        config.block_size = config.block_size.max(1);
        config.vocabulary = config.vocabulary.max(1);
        config.engines = config.engines.max(1);
        Self { trace, config }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &WorkloadConfig {
        &self.config
    }

    /// Requests in one round of the trace.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.trace.requests().len() as u64
    }

    /// The line of the trace behind a request.
    #[must_use]
    pub fn request(&self, request: u64) -> &Request {
        // A trace has at least one request, see `Trace::new`.
        &self.trace.requests()[(request % self.round()) as usize]
    }

    /// The engine that serves a request, from 0.
    #[must_use]
    pub fn engine_of(&self, request: u64) -> usize {
        let roll = xxh3_64_with_seed(&request.to_le_bytes(), self.config.seed);
        (roll % self.config.engines as u64) as usize
    }

    /// The adapter that answers a request.
    #[must_use]
    pub fn adapter_of(&self, request: u64) -> Option<Adapter> {
        let adapters = &self.config.adapters;
        let seed = self.config.seed.wrapping_add(1);
        let roll = xxh3_64_with_seed(&request.to_le_bytes(), seed);
        let share = (roll >> 11) as f64 / (1u64 << 53) as f64;
        if adapters.is_empty() || share >= self.config.adapter_share {
            return None;
        }
        let at = roll as usize % adapters.len();
        Some(Adapter {
            id: at as i64 + 1,
            name: adapters[at].clone(),
        })
    }

    /// A request's prompt.
    #[must_use]
    pub fn prompt(&self, request: u64) -> Prompt {
        let mut tokens = Vec::new();
        self.prompt_tokens(request, &mut tokens);
        Prompt {
            tokens,
            adapter: self.adapter_of(request),
        }
    }

    fn prompt_tokens(&self, request: u64, tokens: &mut Vec<u32>) {
        let round = request / self.round();
        let line = self.request(request);
        for id in &line.hash_ids {
            // Shared ids mean the same in every round, others are fresh.
            let round = if self.trace.is_shared(*id) { 0 } else { round };
            let mut generator = Generator::new(&[0, *id, round]);
            let left = line.input_length - tokens.len().min(line.input_length);
            for _ in 0..left.min(TOKENS_PER_ID) {
                tokens.push(generator.token(self.config.vocabulary));
            }
        }
    }

    /// Prompt and generated tokens of a request: what its engine caches.
    #[must_use]
    pub fn tokens_with_output(&self, request: u64) -> Vec<u32> {
        let line = self.request(request);
        let mut tokens = Vec::with_capacity(line.input_length + line.output_length);
        self.prompt_tokens(request, &mut tokens);
        let mut generator = Generator::new(&[1, request, self.config.seed]);
        for _ in 0..line.output_length {
            tokens.push(generator.token(self.config.vocabulary));
        }
        tokens
    }

    /// Engine hashes of the full blocks of `tokens`, each over its parent's
    /// hash, its tokens and the adapter.
    #[must_use]
    pub fn hashes(&self, tokens: &[u32], adapter: Option<&Adapter>) -> Vec<u64> {
        let adapter = adapter.map_or(0, |a| xxh3_64(a.name.as_bytes()));
        let size = self.config.block_size;
        let mut buffer = Vec::with_capacity(16 + size * 4);
        let mut parent = 0u64;
        let blocks = tokens.chunks_exact(size).map(|block| {
            buffer.clear();
            buffer.extend(parent.to_le_bytes());
            buffer.extend(adapter.to_le_bytes());
            for token in block {
                buffer.extend(token.to_le_bytes());
            }
            parent = xxh3_64(&buffer);
            parent
        });
        blocks.collect()
    }
}

/// SplitMix64: a long enough stream of tokens from a few words.
struct Generator(u64);

impl Generator {
    fn new(words: &[u64]) -> Self {
        let mut bytes = Vec::with_capacity(words.len() * 8);
        for word in words {
            bytes.extend(word.to_le_bytes());
        }
        Self(xxh3_64(&bytes))
    }

    fn token(&mut self, below: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (((z >> 32) * u64::from(below)) >> 32) as u32
    }
}
