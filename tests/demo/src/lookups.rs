//! Lookups while events flow: routers that ask for requests of the last seconds.
//!
//! Two askers use the ZeroMQ door and one the HTTP door. What each answer claims,
//! and at which position of which source, is kept for the check afterwards. A
//! prompt is kept as its request and length: the workload makes it again.

use crate::scene::{MODEL, NAMES, Scene};
use anyhow::{Context, Result};
use penstock_event::{By, Query};
use penstock_peer::trace::Workload;
use penstock_query::client::{HttpClient, ZmqClient};
use penstock_query::{AnswerBody, QueryError, Rank};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest prompt asked, in tokens.
const LONGEST: usize = 32_768;

/// Share of lookups that go through the HTTP door: one in so many.
const HTTP_EVERY: u32 = 10;

/// How long an asker waits for an answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Which door a lookup went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// ZeroMQ.
    Zmq,
    /// HTTP.
    Http,
}

/// What one answer says of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Index into [`NAMES`].
    pub source: usize,
    /// Position of the answer; none before the first batch.
    pub position: Option<(u32, u64)>,
    /// The answer says that nothing is missing.
    pub complete: bool,
    /// Tokens held.
    pub tokens: u32,
}

/// A lookup that was answered.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it was asked.
    pub at: Instant,
    /// How long the answer took.
    pub took: Duration,
    /// Through which door.
    pub door: Door,
    /// Engines were publishing.
    pub flowing: bool,
    /// The request whose prompt was asked for.
    pub request: u64,
    /// Tokens of it that were asked for.
    pub length: usize,
    /// Adapter asked for.
    pub adapter: Arc<str>,
    /// What was answered.
    pub claims: Vec<Claim>,
    /// Names in the answer that are no source of ours.
    pub strangers: usize,
}

/// All that was asked.
#[derive(Debug, Default)]
pub struct Answers {
    /// Answered.
    pub asked: Vec<Asked>,
    /// Not answered, by why.
    pub failed: BTreeMap<String, u64>,
}

/// Askers at work; they stop when this is dropped.
pub struct Lookups {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Answers>>>,
}

/// What askers and story share.
#[derive(Debug, Default)]
pub struct Shared {
    stop: AtomicBool,
    /// Engines publish.
    pub flowing: AtomicBool,
    /// The next request that an engine begins.
    pub next_request: AtomicU64,
    /// Lookups answered.
    pub asked: AtomicU64,
    /// Those that found something.
    pub hits: AtomicU64,
}

enum Client {
    Zmq(ZmqClient),
    Http(HttpClient),
}

/// One asker.
struct Asker {
    client: Client,
    workload: Workload,
    rng: StdRng,
    shared: Arc<Shared>,
    answers: Answers,
}

// === impl Lookups ===

impl Lookups {
    /// Starts asking, `rate` times a second in all.
    pub fn start(scene: &Scene, rate: u32, seed: u64) -> Result<Self> {
        let mut lookups = Self {
            shared: Arc::default(),
            threads: Vec::new(),
        };
        let http = (rate / HTTP_EVERY).max(1);
        let zmq = (rate - http).div_ceil(2).max(1);
        for (i, (door, rate)) in [(Door::Zmq, zmq), (Door::Zmq, zmq), (Door::Http, http)]
            .into_iter()
            .enumerate()
        {
            let shared = lookups.shared.clone();
            let mut asker = Asker::new(scene, door, seed.wrapping_add(i as u64), shared)?;
            let thread = std::thread::Builder::new()
                .name(format!("asker-{i}"))
                .spawn(move || {
                    asker.run(Duration::from_secs(1) / rate);
                    Ok(asker.answers)
                })
                .context("no thread for an asker")?;
            lookups.threads.push(thread);
        }
        Ok(lookups)
    }

    /// What askers and story share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Stops, and asks `more` lookups one after the other, over ZeroMQ.
    pub fn finish(mut self, scene: &Scene, more: usize, seed: u64) -> Result<Answers> {
        self.shared.stop.store(true, Relaxed);
        let mut all = Answers::default();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            all.add(ended.map_err(|_| anyhow::anyhow!("an asker panicked"))??);
        }
        let mut asker = Asker::new(scene, Door::Zmq, !seed, self.shared.clone())?;
        for _ in 0..more {
            asker.ask();
        }
        all.add(asker.answers);
        Ok(all)
    }
}

impl Drop for Lookups {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

// === impl Answers ===

impl Answers {
    fn add(&mut self, other: Self) {
        self.asked.extend(other.asked);
        for (why, count) in other.failed {
            *self.failed.entry(why).or_default() += count;
        }
    }
}

// === impl Asked ===

impl Asked {
    /// Tokens of the longest prefix that some source holds.
    pub fn longest(&self) -> u32 {
        self.claims.iter().map(|c| c.tokens).max().unwrap_or(0)
    }

    /// The prompt asked for.
    pub fn prompt(&self, workload: &Workload) -> Vec<u32> {
        let mut tokens = workload.prompt(self.request).tokens;
        tokens.truncate(self.length);
        tokens
    }
}

// === impl Asker ===

impl Asker {
    fn new(scene: &Scene, door: Door, seed: u64, shared: Arc<Shared>) -> Result<Self> {
        Ok(Self {
            client: match door {
                Door::Zmq => Client::Zmq(ZmqClient::connect(&scene.daemon.zmq)?),
                Door::Http => Client::Http(HttpClient::new(&scene.daemon.http)),
            },
            workload: scene.workload.clone(),
            rng: StdRng::seed_from_u64(seed),
            shared,
            answers: Answers::default(),
        })
    }

    fn run(&mut self, period: Duration) {
        let mut due = Instant::now();
        while !self.shared.stop.load(Relaxed) {
            if self.shared.flowing.load(Relaxed) {
                self.ask();
            }
            due += period;
            let now = Instant::now();
            // What was missed is not made up for.
            due = due.max(now - period);
            std::thread::park_timeout(due.saturating_duration_since(now));
        }
    }

    /// Which prompt next: half of the time one of the newest requests, otherwise
    /// an older one, which may have lost its end or all of it; now and then a part
    /// of the prompt, or the prompt under another adapter.
    fn choose(&mut self) -> (u64, usize, Arc<str>) {
        let next = self.shared.next_request.load(Relaxed);
        let reach = if self.rng.random_bool(0.5) { 24 } else { 240 };
        let request = next.saturating_sub(self.rng.random_range(1..=reach));
        let whole = self.workload.request(request).input_length.min(LONGEST);
        let length = match self.rng.random_bool(0.1) {
            true => self.rng.random_range(0..=whole),
            false => whole,
        };
        let own = self.workload.adapter_of(request).map(|a| a.name);
        let other = self.workload.config().adapters.first();
        let adapter = match (own, self.rng.random_bool(0.1)) {
            (Some(own), false) => own,
            (None, true) => other.cloned().unwrap_or_default(),
            _ => Arc::default(),
        };
        (request, length, adapter)
    }

    fn ask(&mut self) {
        let (request, length, adapter) = self.choose();
        let mut tokens = self.workload.prompt(request).tokens;
        tokens.truncate(length);
        let query = Query {
            model: MODEL.into(),
            adapter: adapter.to_string(),
            salt: String::new(),
            by: By::Tokens(tokens.into()),
            deadline: DEADLINE,
            include_stale: false,
        };
        let flowing = self.shared.flowing.load(Relaxed);
        let at = Instant::now();
        let (door, answer) = match &mut self.client {
            Client::Zmq(client) => (Door::Zmq, client.query(None, &query)),
            Client::Http(client) => (Door::Http, client.query(None, &query)),
        };
        let took = at.elapsed();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.failed(&error),
        };
        let (claims, strangers) = claims(&answer);
        let asked = Asked {
            at,
            took,
            door,
            // While it was on its way the engines may have paused.
            flowing: flowing && self.shared.flowing.load(Relaxed),
            request,
            length,
            adapter,
            claims,
            strangers,
        };
        self.shared.asked.fetch_add(1, Relaxed);
        let hit = u64::from(asked.longest() > 0);
        self.shared.hits.fetch_add(hit, Relaxed);
        self.answers.asked.push(asked);
    }

    fn failed(&mut self, error: &QueryError) {
        // Errors name ports and numbers; a few kinds are enough.
        let kind = match error {
            QueryError::Timeout { .. } => "timeout".to_string(),
            other => other.to_string(),
        };
        let failed = &mut self.answers.failed;
        let kind = match failed.len() {
            0..20 => kind,
            _ => "other".to_string(),
        };
        *failed.entry(kind).or_default() += 1;
    }
}

/// What an answer says of each of our sources.
fn claims(answer: &AnswerBody) -> (Vec<Claim>, usize) {
    let index = |name: &str| NAMES.iter().position(|n| *n == name);
    let mut strangers = 0;
    let mut claims = Vec::with_capacity(NAMES.len());
    for (name, at) in &answer.positions {
        let Some(source) = index(name) else {
            strangers += 1;
            continue;
        };
        let ranks = answer.scores.get(&at.instance);
        claims.push(Claim {
            source,
            position: at.epoch.zip(at.sequence),
            complete: at.complete,
            tokens: ranks.and_then(|r| r.get(&Rank(0))).copied().unwrap_or(0),
        });
    }
    let named = |name: &Arc<str>| answer.positions.values().any(|p| p.instance == *name);
    strangers += answer.scores.keys().filter(|name| !named(name)).count();
    (claims, strangers)
}
