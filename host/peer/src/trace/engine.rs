use super::cache::{Cache, Taken};
use super::workload::{Adapter, Workload};
use crate::event::{Event, Removed, Stored};
use std::collections::VecDeque;
use std::sync::Arc;

/// How an engine schedules and caches.
#[derive(Clone, Debug)]
pub struct TraceConfig {
    /// Which of the workload's engines this is, from 0.
    pub engine: usize,
    /// Blocks the cache holds.
    pub capacity_blocks: usize,
    /// Prompt tokens computed in one scheduler step.
    pub step_tokens: usize,
    /// Requests worked on at a time.
    pub max_running: usize,
    /// Generated tokens are cached as well, a block a step.
    pub outputs: bool,
    /// Empties the cache after every so many requests.
    pub clear_every: Option<u64>,
    /// Where events say the blocks are.
    pub medium: Option<Arc<str>>,
    /// KV cache group that events name.
    pub group: Option<u32>,
    /// The engine stops by itself after so many requests; none: never.
    pub max_requests: Option<u64>,
}

/// The events of one scheduler step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceBatch {
    /// Scheduler steps before this one, those without events included.
    pub step: u64,
    /// Removes before the store that needed their room, as engines send them.
    pub events: Vec<Event>,
    /// The last request that this step began.
    pub request: u64,
}

/// One engine's cache, fed with its share of a workload. Yields a batch a
/// scheduler step that has events.
///
/// Every stored event carries only blocks that were not in the cache, in a
/// chain, and its parent is in the cache. Only blocks in the cache are removed,
/// leaves first. The cache never holds more than its capacity.
#[derive(Debug)]
pub struct TraceEngine {
    workload: Arc<Workload>,
    config: TraceConfig,
    cache: Cache,
    running: VecDeque<Running>,
    /// Blocks that running requests may come to need.
    reserved: usize,
    next_request: u64,
    last_request: u64,
    begun: u64,
    until_clear: Option<u64>,
    step: u64,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Running {
    tokens: Vec<u32>,
    hashes: Vec<u64>,
    adapter: Option<Adapter>,
    /// Blocks of the prompt; the rest is generated.
    prompt_blocks: usize,
    /// Blocks pinned so far.
    done: usize,
}

// === impl TraceConfig ===

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            engine: 0,
            capacity_blocks: 32_768,
            step_tokens: 8_192,
            max_running: 8,
            outputs: true,
            clear_every: None,
            medium: Some("GPU".into()),
            group: None,
            max_requests: None,
        }
    }
}

// === impl TraceEngine ===

impl TraceEngine {
    /// An engine with an empty cache.
    #[must_use]
    pub fn new(workload: Arc<Workload>, mut config: TraceConfig) -> Self {
        config.capacity_blocks = config.capacity_blocks.max(2);
        config.max_running = config.max_running.max(1);
        config.clear_every = config.clear_every.filter(|n| *n > 0);
        config.step_tokens = config.step_tokens.max(workload.config().block_size);
        Self {
            cache: Cache::new(config.capacity_blocks),
            running: VecDeque::new(),
            reserved: 0,
            next_request: 0,
            last_request: 0,
            begun: 0,
            until_clear: config.clear_every,
            step: 0,
            events: Vec::new(),
            workload,
            config,
        }
    }

    /// What its requests are made from.
    #[must_use]
    pub fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// Blocks in the cache.
    #[must_use]
    pub fn cached_blocks(&self) -> usize {
        self.cache.len()
    }

    /// Hashes of the blocks in the cache, in no order.
    pub fn cached(&self) -> impl Iterator<Item = u64> {
        self.cache.hashes()
    }

    /// The next request to begin.
    #[must_use]
    pub fn next_request(&self) -> u64 {
        self.next_request
    }

    /// Restarts: the cache is empty, what ran is lost, requests go on.
    pub fn restart(&mut self) {
        self.cache.clear();
        self.running.clear();
        self.reserved = 0;
        self.until_clear = self.config.clear_every;
    }

    fn admit(&mut self) {
        // A round without a request of this engine's: it will never have one.
        let mut looked = 0;
        while self.running.len() < self.config.max_running
            && looked <= self.workload.round()
            && self.until_clear != Some(0)
            && self.config.max_requests.is_none_or(|max| self.begun < max)
        {
            let request = self.next_request;
            if self.workload.engine_of(request) != self.config.engine {
                self.next_request += 1;
                looked += 1;
                continue;
            }
            let needed = self.blocks_of(request);
            if self.reserved + needed > self.config.capacity_blocks {
                break;
            }
            self.next_request += 1;
            self.begin(request);
        }
    }

    /// Blocks that a request comes to need. More than half the cache is cut
    /// off, so that two requests always fit.
    fn blocks_of(&self, request: u64) -> usize {
        let line = self.workload.request(request);
        let output = if self.config.outputs {
            line.output_length
        } else {
            0
        };
        let blocks = (line.input_length + output) / self.workload.config().block_size;
        blocks.min(self.config.capacity_blocks / 2)
    }

    fn begin(&mut self, request: u64) {
        let size = self.workload.config().block_size;
        let blocks = self.blocks_of(request);
        let mut tokens = self.workload.tokens_with_output(request);
        tokens.truncate(blocks * size);
        let adapter = self.workload.adapter_of(request);
        let hashes = self.workload.hashes(&tokens, adapter.as_ref());
        let prompt = self.workload.request(request).input_length / size;
        let mut done = 0;
        while done < blocks && self.cache.pin(hashes[done]) {
            done += 1;
        }
        self.reserved += blocks;
        self.last_request = request;
        self.begun += 1;
        if let Some(left) = &mut self.until_clear {
            *left = left.saturating_sub(1);
        }
        self.running.push_back(Running {
            tokens,
            hashes,
            adapter,
            prompt_blocks: prompt.min(blocks),
            done,
        });
    }

    /// One scheduler step; its events are left in `self.events`.
    fn advance(&mut self) {
        if self.until_clear == Some(0) && self.running.is_empty() {
            self.cache.clear();
            self.until_clear = self.config.clear_every;
            self.events.push(Event::Cleared);
            return;
        }
        self.admit();
        let mut budget = self.config.step_tokens / self.workload.config().block_size;
        for _ in 0..self.running.len() {
            let Some(mut request) = self.running.pop_front() else {
                break;
            };
            let upto = if request.done < request.prompt_blocks {
                let upto = request.prompt_blocks.min(request.done + budget);
                budget -= upto - request.done;
                upto
            } else {
                request.hashes.len().min(request.done + 1)
            };
            self.compute(&mut request, upto);
            if request.done == request.hashes.len() {
                self.cache.give_back(&request.hashes);
                self.reserved -= request.hashes.len();
            } else {
                self.running.push_back(request);
            }
        }
    }

    /// Computes a request's blocks up to `upto`, and says so in events.
    fn compute(&mut self, request: &mut Running, upto: usize) {
        let mut first = None;
        while request.done < upto {
            match self.cache.take(request.hashes[request.done]) {
                // Another request computed it meanwhile. Nothing before it is
                // new then: blocks leave after their children only.
                Taken::Hit => {}
                Taken::Stored(evicted) => {
                    first.get_or_insert(request.done);
                    if let Some(hash) = evicted {
                        self.events.push(Event::Removed(Removed {
                            hashes: vec![hash],
                            medium: self.config.medium.clone(),
                            group: self.config.group,
                        }));
                    }
                }
                // Cannot be: what may be needed was reserved.
                Taken::Full => break,
            }
            request.done += 1;
        }
        let Some(first) = first else {
            return;
        };
        let size = self.workload.config().block_size;
        self.events.push(Event::Stored(Stored {
            hashes: request.hashes[first..request.done].to_vec(),
            parent: first.checked_sub(1).map(|at| request.hashes[at]),
            tokens: request.tokens[first * size..request.done * size].to_vec(),
            block_size: size as u32,
            lora_id: request.adapter.as_ref().map(|a| a.id),
            lora_name: request.adapter.as_ref().map(|a| a.name.clone()),
            medium: self.config.medium.clone(),
            group: self.config.group,
            ..Stored::default()
        }));
    }

    /// How many blocks of a prompt the cache holds, from its start.
    #[must_use]
    pub fn longest_prefix(&self, hashes: &[u64]) -> usize {
        hashes
            .iter()
            .take_while(|h| self.cache.contains(**h))
            .count()
    }
}

impl Iterator for TraceEngine {
    type Item = TraceBatch;

    /// The next batch. None when no request of this engine's yields events any
    /// more, which a trace with enough output tokens never comes to.
    fn next(&mut self) -> Option<TraceBatch> {
        let mut idle = 0;
        let start = self.next_request;
        while self.events.is_empty() {
            self.advance();
            self.step += 1;
            // A whole round served from the cache: the next will be as well.
            if self.events.is_empty() && self.running.is_empty() {
                idle += 1;
                let round = self.workload.round();
                if (idle > 2 && self.next_request - start > 2 * round)
                    || self
                        .config
                        .max_requests
                        .is_some_and(|max| self.begun >= max)
                {
                    return None;
                }
            }
        }
        Some(TraceBatch {
            step: self.step - 1,
            events: std::mem::take(&mut self.events),
            request: self.last_request,
        })
    }
}
