//! Samples, their middle and their spread, and CPU times.

use anyhow::{Context, Result};
use std::time::Duration;

/// What several rounds gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; the mean of two middle ones.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// Length of a tick in `/proc/PID/stat`: Linux gives user space 100 a second on
/// every machine.
const TICK: Duration = Duration::from_millis(10);

// === impl Spread ===

impl Spread {
    /// Of at least one sample; all zeroes without any.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
            return Self {
                median: 0.0,
                min: 0.0,
                max: 0.0,
            };
        };
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self {
            median,
            min: *min,
            max: *max,
        }
    }
}

/// Both sides of a comparison, round by round. Who goes first takes turns too.
pub fn in_turn<T>(
    rounds: usize,
    mut ours: impl FnMut() -> Result<T>,
    mut theirs: impl FnMut() -> Result<T>,
) -> Result<(Vec<T>, Vec<T>)> {
    let mut samples = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (one, other) = if round % 2 == 0 {
            let one = ours()?;
            (one, theirs()?)
        } else {
            let other = theirs()?;
            (ours()?, other)
        };
        samples.0.push(one);
        samples.1.push(other);
    }
    Ok(samples)
}

/// As [`in_turn`], after a round that only warms memory.
pub fn warmed<T>(
    rounds: usize,
    ours: impl FnMut() -> Result<T>,
    theirs: impl FnMut() -> Result<T>,
) -> Result<(Vec<T>, Vec<T>)> {
    let (mut ours, mut theirs) = in_turn(rounds + 1, ours, theirs)?;
    ours.remove(0);
    theirs.remove(0);
    Ok((ours, theirs))
}

/// CPU time of the calling thread.
pub fn thread_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    // Linux always has this clock.
    time.map_or(Duration::ZERO, Duration::from)
}

/// CPU time that all threads of a process have used, user and system. In steps
/// of 10 ms.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    ticks(&stat)
        .map(|n| TICK * n)
        .with_context(|| format!("{path} is not understood"))
}

/// `utime` and `stime`: the 12th and 13th field after the name, which stands in
/// parentheses and may itself hold some.
fn ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Nanoseconds for each of `many`.
pub fn ns_each(time: Duration, many: u64) -> f64 {
    time.as_nanos() as f64 / many.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_counts() {
        assert_eq!(
            Spread::of([3.0, 1.0, 2.0]),
            Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            }
        );
        assert_eq!(Spread::of([4.0, 1.0]).median, 2.5);
    }

    #[test]
    fn ticks_are_found_behind_an_odd_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 21 9 0 0 20 0 1 0 5";
        assert_eq!(ticks(stat), Some(30));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let pid = std::process::id();
        let (before, thread) = (cpu_time(pid).unwrap(), thread_time());
        let mut x = 1u64;
        while cpu_time(pid).unwrap() == before {
            for i in 0..1_000_000u64 {
                x = std::hint::black_box(x.wrapping_mul(i | 1));
            }
        }
        assert!(thread_time() > thread);
    }
}
