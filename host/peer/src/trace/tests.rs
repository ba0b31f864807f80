use super::*;
use crate::event::Event;
use std::path::PathBuf;
use std::sync::Arc;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/traces/mooncake_trace_1000.jsonl")
}

fn workload(change: impl FnOnce(&mut WorkloadConfig)) -> Arc<Workload> {
    let mut config = WorkloadConfig::default();
    change(&mut config);
    let trace = Trace::load(&file()).unwrap();
    Arc::new(Workload::new(Arc::new(trace), config))
}

/// A slow cache that applies events and checks each against the rules.
#[derive(Default)]
struct Model {
    held: HashSet<u64>,
    stored: usize,
    removed: usize,
    cleared: usize,
    highest: usize,
}

impl Model {
    fn apply(&mut self, workload: &Workload, events: &[Event]) {
        for event in events {
            match event {
                Event::Stored(e) => {
                    assert_eq!(e.tokens.len(), e.hashes.len() * e.block_size as usize);
                    assert!(!e.hashes.is_empty());
                    if let Some(parent) = e.parent {
                        assert!(self.held.contains(&parent), "a parent is not there");
                    } else {
                        let hashes = workload.hashes(
                            &e.tokens,
                            e.lora_name
                                .clone()
                                .map(|name| Adapter { id: 0, name })
                                .as_ref(),
                        );
                        assert_eq!(hashes, e.hashes, "hashes are not those of the tokens");
                    }
                    for hash in &e.hashes {
                        assert!(self.held.insert(*hash), "stored twice");
                    }
                    self.stored += e.hashes.len();
                }
                Event::Removed(e) => {
                    for hash in &e.hashes {
                        assert!(self.held.remove(hash), "removed, but not there");
                    }
                    self.removed += e.hashes.len();
                }
                Event::Cleared => {
                    self.held.clear();
                    self.cleared += 1;
                }
            }
        }
        self.highest = self.highest.max(self.held.len());
    }
}

#[test]
fn events_keep_the_rules_of_a_cache() {
    let workload = workload(|w| {
        w.adapter_share = 0.2;
        w.engines = 2;
    });
    let config = TraceConfig {
        capacity_blocks: 9_000,
        clear_every: Some(100),
        engine: 1,
        ..TraceConfig::default()
    };
    let mut engine = TraceEngine::new(workload.clone(), config);
    let mut model = Model::default();
    let mut adapters = 0;
    // Into the second round of the trace.
    while engine.next_request() < 1_300 {
        let batch = engine.next().unwrap();
        assert!(!batch.events.is_empty());
        model.apply(&workload, &batch.events);
        assert!(model.held.len() <= 9_000);
        let with_adapter = |e: &&Event| matches!(e, Event::Stored(s) if s.lora_id.is_some());
        adapters += batch.events.iter().filter(with_adapter).count();
    }
    assert_eq!(model.held, engine.cached().collect());
    assert_eq!(model.highest, 9_000, "the bound was never reached");
    assert!(model.removed > 50_000, "{}", model.removed);
    assert!(model.cleared >= 5, "{}", model.cleared);
    assert!(adapters > 100);
}

#[test]
fn a_seed_gives_the_same_batches_again() {
    let batches = |seed, count| -> Vec<TraceBatch> {
        let workload = workload(|w| w.seed = seed);
        TraceEngine::new(workload, TraceConfig::default())
            .take(count)
            .collect()
    };
    let first = batches(1, 40);
    assert_eq!(first, batches(1, 40));
    assert_ne!(first, batches(2, 40));
}

#[test]
fn prompts_share_prefixes_across_engines_and_rounds() {
    let one = workload(|w| w.engines = 2);
    let other = workload(|w| {
        w.engines = 2;
        w.seed = 99;
    });
    // Requests 0 and 1 of this trace share the first id, and no other.
    let (a, b) = (one.prompt(0), other.prompt(1));
    assert_eq!(a.tokens.len(), 6_755);
    assert_eq!(a.tokens[..512], b.tokens[..512]);
    assert_ne!(a.tokens[512..528], b.tokens[512..528]);
    let (x, y) = (one.hashes(&a.tokens, None), other.hashes(&b.tokens, None));
    assert_eq!(x.len(), 6_755 / 16);
    assert_eq!(x[..32], y[..32]);
    assert_ne!(x[32], y[32]);
    // A round later: shared ids stay, others are fresh.
    let later = one.prompt(1_000);
    assert_eq!(later.tokens[..512], a.tokens[..512]);
    assert_ne!(later.tokens[6_700..], a.tokens[6_700..]);
    assert_eq!(later.tokens.len(), a.tokens.len());
    // An adapter changes every hash.
    let adapter = Adapter {
        id: 1,
        name: "x".into(),
    };
    assert_ne!(one.hashes(&a.tokens, Some(&adapter))[0], x[0]);
}

#[test]
fn engines_share_requests_and_overlap() {
    let workload = workload(|w| w.engines = 2);
    let mine = (0..1_000).filter(|r| workload.engine_of(*r) == 0).count();
    assert!((400..600).contains(&mine), "{mine}");
    let mut engines = [0, 1].map(|engine| {
        let config = TraceConfig {
            engine,
            ..TraceConfig::default()
        };
        TraceEngine::new(workload.clone(), config)
    });
    for engine in &mut engines {
        while engine.next_request() < 100 {
            engine.next().unwrap();
        }
    }
    let [first, second] = engines;
    let held: HashSet<u64> = first.cached().collect();
    let both = second.cached().filter(|h| held.contains(h)).count();
    assert!(both >= 32, "{both} blocks in both");
    let prompt = workload.prompt(0);
    let hashes = workload.hashes(&prompt.tokens, None);
    let lengths = [
        first.longest_prefix(&hashes),
        second.longest_prefix(&hashes),
    ];
    let owner = workload.engine_of(0);
    assert_eq!(lengths[owner], hashes.len());
    assert!(
        (32..hashes.len()).contains(&lengths[1 - owner]),
        "{lengths:?}"
    );
}

#[test]
fn a_restart_empties_the_cache_and_goes_on() {
    let workload = workload(|_| {});
    let mut engine = TraceEngine::new(workload.clone(), TraceConfig::default());
    for _ in 0..20 {
        engine.next().unwrap();
    }
    let reached = engine.next_request();
    engine.restart();
    assert_eq!(engine.cached_blocks(), 0);
    let mut model = Model::default();
    for _ in 0..20 {
        model.apply(&workload, &engine.next().unwrap().events);
    }
    assert!(engine.next_request() > reached);
}

#[test]
fn an_engine_without_requests_ends() {
    let request = |id| Request {
        timestamp: 0,
        input_length: 512,
        output_length: 0,
        hash_ids: vec![id],
    };
    // Both requests share their id: a second round stores nothing.
    let trace = Trace::new(vec![request(1), request(1)]).unwrap();
    let workload = Arc::new(Workload::new(Arc::new(trace), WorkloadConfig::default()));
    let engine = TraceEngine::new(workload.clone(), TraceConfig::default());
    assert_eq!(engine.count(), 1);
    let stranger = TraceConfig {
        engine: 5,
        ..TraceConfig::default()
    };
    assert_eq!(TraceEngine::new(workload.clone(), stranger).next(), None);
    let bounded = TraceConfig {
        max_requests: Some(0),
        ..TraceConfig::default()
    };
    assert_eq!(TraceEngine::new(workload, bounded).next(), None);
}

#[test]
fn bad_lines_are_named() {
    for (text, line) in [
        ("{}\n", 1),
        ("\n\nnonsense\n", 3),
        (
            "{\"timestamp\":0,\"input_length\":513,\"output_length\":0,\"hash_ids\":[1]}\n",
            1,
        ),
    ] {
        match Trace::read(text.as_bytes(), Path::new("t.jsonl")) {
            Err(PeerError::Trace { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let empty = Trace::read(&b""[..], Path::new("t.jsonl"));
    assert!(matches!(empty, Err(PeerError::Config(_))));
}
