//! Sequences of actions by chance: whatever happens, the promises hold. A failure
//! names its seed and tells the whole story.

use super::checker::{Terms, Verdict, demand};
use super::engine::World;
use super::{SECOND, config, shared};
use crate::Transition;
use crate::mutant::Mutant;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

pub(super) const SEQUENCES: u64 = 20_000;
const ACTIONS: std::ops::Range<u32> = 50..120;
const TIMES_EACH: u64 = 100;

/// One sequence, with what the machine did in it.
pub(super) fn run(seed: u64, mutant: Option<Mutant>, trace: bool) -> (Verdict, World) {
    if seed % 4 == 3 {
        return shared::run(seed, mutant, trace);
    }
    let mut rng = SmallRng::seed_from_u64(!seed);
    let mut config = config();
    let terms = Terms {
        reliable: rng.random_range(0..2) == 0,
        one_life_an_epoch: true,
    };
    config.replay = rng.random_range(0..4) > 0;
    config.first = rng.random_range(0..2);
    let mut keep = usize::MAX;
    if !terms.reliable {
        config.buffer_frames = rng.random_range(3..30);
        config.replay_attempts = rng.random_range(1..4);
        keep = rng.random_range(2..60);
    }
    let terms = Terms {
        reliable: terms.reliable && config.replay,
        ..terms
    };
    let has_replay = config.replay;
    let mut world = World::new(seed, config, terms, keep, mutant);
    world.keep_trace = trace;
    let actions = rng.random_range(ACTIONS);
    let verdict = act(&mut world, actions).and_then(|()| end(&mut world, has_replay));
    (verdict, world)
}

fn act(w: &mut World, actions: u32) -> Verdict {
    for _ in 0..w.rng.random_range(0..4) {
        w.publish(5);
    }
    if w.rng.random_range(0..4) > 0 {
        w.connect()?;
    }
    for _ in 0..actions {
        match w.rng.random_range(0..100) {
            0..25 => {
                let n = w.rng.random_range(1..6);
                w.publish(n);
            }
            25 => w.publish(90),
            26..48 => {
                let n = w.rng.random_range(1..8);
                w.arrive(n)?;
            }
            48..70 => {
                let n = w.rng.random_range(1..12);
                w.serve(n)?;
            }
            70..74 => w.serve(usize::MAX)?,
            74..78 => w.duplicate()?,
            78..82 => {
                let micros = w.rng.random_range(1..SECOND);
                w.pass(micros)?;
            }
            82..87 => w.pass_to_deadline()?,
            87..90 => w.stale()?,
            90..92 => w.disconnect()?,
            92..96 => w.connect_if_down()?,
            96 => w.reconnect_unheard()?,
            97 if w.one_in(2) => w.kill_and_resume()?,
            97 => w.restart()?,
            98 if w.one_in(3) => w.restart_behind_backlog()?,
            98 => w.restart()?,
            _ => w.restart_unseen()?,
        }
    }
    Ok(())
}

/// In the end, everything that can be known is.
fn end(w: &mut World, has_replay: bool) -> Verdict {
    w.quiesce()?;
    if !has_replay {
        // Without replay only a later frame shows what is missing.
        let batch = w.engine.publish();
        w.live(batch)?;
    }
    let status = w.machine.status();
    demand!(status.state == "live", "ends as {status:?}");
    demand!(w.check.judged(), "nothing was said of the checkpoint");
    demand!(status.buffered == 0, "frames still wait: {status:?}");
    demand!(
        w.check.next() == w.engine.next,
        "the engine is at {}, the consumer at {}",
        w.engine.next,
        w.check.next()
    );
    let life = w.check.life();
    demand!(
        life.is_none_or(|life| life == w.engine.life),
        "the consumer is with life {life:?}, the engine is life {}",
        w.engine.life
    );
    Ok(())
}

fn story(seed: u64) -> String {
    let (verdict, world) = run(seed, None, true);
    let story = world.trace.join("\n");
    format!("{story}\nseed {seed}: {}", verdict.unwrap_err())
}

#[test]
fn whatever_happens_the_promises_hold() {
    let mut counts = vec![0u64; Transition::ALL.len()];
    for seed in 0..SEQUENCES {
        let (verdict, world) = run(seed, None, false);
        assert!(verdict.is_ok(), "{}", story(seed));
        for (sum, n) in counts.iter_mut().zip(&world.machine.taps.counts) {
            *sum += u64::from(*n);
        }
    }
    let taken = Transition::ALL.iter().zip(counts);
    let rare: Vec<_> = taken.filter(|(_, n)| *n < TIMES_EACH).collect();
    assert!(rare.is_empty(), "hardly ever taken: {rare:?}");
}
