use super::*;
use crate::lookups::Door;
use crate::options::Options;
use crate::scene;
use clap::Parser;
use penstock_event::{Epoch, Incident};
use penstock_peer::engine::Engines;
use penstock_peer::trace::{Trace, TraceConfig, TraceEngine};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FIRST: usize = 0;

fn batch(run: u32, sequence: u64) -> LogBatch {
    LogBatch {
        engine: FIRST,
        run,
        sequence,
        digest: u64::from(run) * 1_000 + sequence,
        sent: true,
        hidden: false,
    }
}

fn delivered(batches: &[LogBatch]) -> Delivered {
    let mut all = Delivered::default();
    for b in batches {
        all.note(b.engine, b.run, b.sequence, b.digest);
    }
    all
}

fn source(incidents: &[(&str, u32, u64, u64)]) -> Vec<SourceStatus> {
    let incidents = incidents.iter().map(|(kind, epoch, first, last)| Incident {
        kind: (*kind).into(),
        epoch: Epoch(*epoch),
        first: *first,
        last: *last,
        reason: String::new(),
    });
    vec![SourceStatus {
        name: NAMES[FIRST].into(),
        incidents: incidents.collect(),
        ..SourceStatus::default()
    }]
}

fn judge(came: &[LogBatch], sources: &[SourceStatus]) -> (u64, u64, u64, u64) {
    // Five batches, and after a restart three.
    let log: Vec<_> = (0..5)
        .map(|s| batch(0, s))
        .chain((0..3).map(|s| batch(1, s)))
        .collect();
    let mut verdict = Verdict::default();
    delivered(came).judge(&log, sources, &mut verdict);
    assert_eq!(verdict.published, 8);
    (
        verdict.delivered,
        verdict.covered,
        verdict.lost,
        verdict.doubled,
    )
}

#[test]
fn a_batch_is_delivered_reported_or_lost() {
    let all: Vec<_> = (0..5)
        .map(|s| batch(0, s))
        .chain((0..3).map(|s| batch(1, s)))
        .collect();
    let reset = ("reset", 1, 0, 0);
    assert_eq!(judge(&all, &source(&[reset])), (8, 0, 0, 0));

    // The end of the first run is covered by the reset, its middle is not.
    let came: Vec<_> = all
        .iter()
        .filter(|b| b.run == 1 || ![1, 3, 4].contains(&b.sequence))
        .cloned()
        .collect();
    assert_eq!(judge(&came, &source(&[reset])), (5, 2, 1, 0));
    assert_eq!(judge(&came, &source(&[])), (5, 0, 3, 0));
    assert_eq!(
        judge(&came, &source(&[reset, ("gap", 0, 1, 1)])),
        (5, 3, 0, 0)
    );
    // A gap of another epoch covers nothing.
    assert_eq!(
        judge(&came, &source(&[reset, ("gap", 1, 1, 1)])),
        (5, 2, 1, 0)
    );
    // Nor does what another source reports.
    let mut other = source(&[reset, ("gap", 0, 1, 1)]);
    other[0].name = NAMES[1].into();
    assert_eq!(judge(&came, &other), (5, 0, 3, 0));
}

#[test]
fn content_and_epoch_count() {
    let mut came: Vec<_> = (0..5).map(|s| batch(0, s)).collect();
    came[2].digest += 1;
    // After a restart that went unnoticed, batches come under the old epoch.
    came.extend((0..3).map(|s| LogBatch {
        run: 0,
        ..batch(1, s)
    }));
    assert_eq!(judge(&came, &source(&[])), (4, 0, 4, 3));
}

/// What engines log and record, read back by the oracle, agrees with the engines'
/// own caches; and one claim that does not is found.
#[test]
fn answers_are_judged_by_what_engines_published() {
    const BATCHES: u64 = 400;
    let home = tempfile::tempdir().unwrap();
    let (log, record) = (home.path().join("log"), home.path().join("record.frames"));
    let options = Options::parse_from(["demo"]);
    let mut config = scene::engines(&options, &log, &record);
    config.rate = 0.0;
    config.batches = Some(BATCHES);
    config.wait_subscribers = 0;
    config.stay = false;
    let engines = Engines::start(config).unwrap();
    assert!(engines.wait(Duration::from_secs(60), |s| s.batches == 2 * BATCHES));
    engines.stop().unwrap();

    let (requests, cache) = scene::trace(&options);
    let trace = Trace::load(&penstock_testkit::trace()).unwrap();
    let workload = Workload::new(Arc::new(trace), requests);
    let mut answers = Answers::default();
    let mut found = [0; 2];
    for source in 0..NAMES.len() {
        let cache = TraceConfig {
            engine: source,
            ..cache.clone()
        };
        let mut engine = TraceEngine::new(Arc::new(workload.clone()), cache);
        for sequence in 0..BATCHES {
            engine.next().unwrap();
            if sequence % 8 != 0 {
                continue;
            }
            let request = engine.next_request().saturating_sub(sequence % 60 + 1);
            let prompt = workload.prompt(request);
            let hashes = workload.hashes(&prompt.tokens, prompt.adapter.as_ref());
            let blocks = engine.longest_prefix(&hashes);
            found[usize::from(blocks < hashes.len())] += 1;
            answers.asked.push(Asked {
                at: Instant::now(),
                took: Duration::ZERO,
                door: Door::Zmq,
                flowing: sequence > 0,
                request,
                length: prompt.tokens.len(),
                adapter: prompt.adapter.map(|a| a.name).unwrap_or_default(),
                claims: vec![Claim {
                    source,
                    position: Some((0, sequence)),
                    complete: sequence != 8,
                    tokens: blocks as u32 * 16,
                }],
                strangers: 0,
            });
        }
    }
    // Whole prompts and parts of prompts were found, so that both are judged.
    assert!(found.iter().all(|n| *n > 5), "{found:?}");
    // The newest claim that found something is falsified by one block.
    let last = answers
        .asked
        .iter_mut()
        .rev()
        .find(|a| a.longest() > 0)
        .unwrap();
    last.claims[0].tokens -= 16;

    let interrupted = AtomicBool::new(false);
    let log = read_log(&log).unwrap();
    let evidence = Evidence {
        log: Path::new("unused"),
        record: &record,
        forwarded: Path::new("unused"),
        sources: &[],
        answers: &answers,
        workload: &workload,
        interrupted: &interrupted,
    };
    let each = BATCHES / 8;
    let verdicts: Vec<_> = (0..2)
        .map(|e| super::answers(e, &log, evidence).unwrap())
        .collect();
    for verdict in &verdicts {
        assert_eq!((verdict.checked, verdict.incomplete), (each - 1, 1));
        assert_eq!(verdict.checked_live, each - 2);
    }
    assert_eq!(
        (verdicts[0].wrong, verdicts[1].wrong),
        (0, 1),
        "{verdicts:?}"
    );
}
