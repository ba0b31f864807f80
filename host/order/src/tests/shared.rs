//! Shared streams by chance: one publisher that restarts, or two at once.

use super::checker::{Terms, Verdict, demand};
use super::engine::{Engine, World};
use super::{SECOND, config};
use crate::mutant::Mutant;
use crate::suspects::FEW;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

pub(super) fn run(seed: u64, mutant: Option<Mutant>, trace: bool) -> (Verdict, World) {
    let mut rng = SmallRng::seed_from_u64(!seed);
    let mut config = config();
    config.shared = true;
    config.replay = rng.random_range(0..3) == 0;
    let two = rng.random_range(0..2) == 0;
    let terms = Terms {
        reliable: false,
        one_life_an_epoch: false,
    };
    let mut world = World::new(seed, config, terms, 1000, mutant);
    world.keep_trace = trace;
    let actions = rng.random_range(50..120);
    let verdict = if two {
        two_publishers(&mut world, actions)
    } else {
        one_publisher(&mut world, actions)
    };
    (verdict, world)
}

/// Two interleaved tracks are never restarts.
fn two_publishers(w: &mut World, actions: u32) -> Verdict {
    let mut other = Engine::new(0, 1000, 1);
    w.engine = Engine::new(5000, 1000, 0);
    let batch = w.engine.publish();
    w.live(batch)?;
    let mut seconds = 0;
    for _ in 0..actions {
        for _ in 0..w.rng.random_range(0..FEW / 2) {
            let batch = other.publish();
            seconds += 1;
            w.live(batch)?;
        }
        for _ in 0..w.rng.random_range(1..FEW / 2) {
            if w.one_in(20) {
                w.engine.publish();
            }
            let batch = w.engine.publish();
            w.live(batch)?;
        }
        let micros = w.rng.random_range(1..SECOND / 2);
        w.pass(micros)?;
        w.serve(10)?;
    }
    demand!(w.check.resets == 0, "two publishers taken for a restart");
    demand!(
        w.check.two_publishers == seconds,
        "{} of {seconds} frames counted",
        w.check.two_publishers
    );
    Ok(())
}

/// A restart is noticed by its sequences, and none is reported without one.
fn one_publisher(w: &mut World, actions: u32) -> Verdict {
    let mut restarts = 0;
    let mut since = 0;
    for _ in 0..actions {
        match w.rng.random_range(0..20) {
            0 if since > 2 * FEW as u64 => {
                w.restart_unseen()?;
                restarts += 1;
                since = 0;
                if w.one_in(2) {
                    // It says one thing and falls silent.
                    w.pass(SECOND)?;
                } else {
                    for _ in 0..FEW {
                        let batch = w.engine.publish();
                        w.live(batch)?;
                    }
                }
            }
            1..12 => {
                let batch = w.engine.publish();
                w.live(batch)?;
                since += 1;
            }
            // Later, a loss where the new track meets the old one's number would hide it.
            12 if restarts == 0 => {
                w.publish(3);
                w.arrive(3)?;
                since += 3;
            }
            13 => w.duplicate()?,
            14 => w.pass_to_deadline()?,
            _ => w.serve(20)?,
        }
    }
    w.quiesce()?;
    let batch = w.engine.publish();
    w.live(batch)?;
    w.quiesce()?;
    demand!(
        w.check.resets == restarts,
        "{} resets, {restarts} restarts",
        w.check.resets
    );
    demand!(
        w.check.next() == w.engine.next,
        "the engine is at {}, the consumer at {}",
        w.engine.next,
        w.check.next()
    );
    Ok(())
}
