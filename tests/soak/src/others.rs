//! What other programs take of the machine: pauses are those of penstock only where
//! they take little.

use std::time::Duration;

/// Length of a tick in /proc, in ms: Linux gives user space 100 a second on every
/// machine.
const TICK: u64 = 10;

/// CPU time since some start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// Of all CPUs, idle or not.
    all: Duration,
    /// Used by anybody.
    used: Duration,
    /// Used by the processes of the test.
    ours: Duration,
}

// === impl Cpu ===

impl Cpu {
    /// Up to now; what cannot be read counts as nothing.
    pub fn now(processes: &[u32]) -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let fields = first.split_whitespace().skip(1).take(8);
        let ticks: Vec<u64> = fields.map(|n| n.parse().unwrap_or(0)).collect();
        let all: u64 = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Self {
            all: Duration::from_millis(TICK * all),
            used: Duration::from_millis(TICK * (all - idle)),
            ours: processes.iter().map(|pid| of_process(*pid)).sum(),
        }
    }

    /// The share of all CPUs that others used between two times, 0 to 1.
    pub fn others(&self, until: &Self) -> f64 {
        let all = until.all.saturating_sub(self.all).as_secs_f64();
        let used = until.used.saturating_sub(self.used);
        let others = used.saturating_sub(until.ours.saturating_sub(self.ours));
        match all > 0.0 {
            true => others.as_secs_f64() / all,
            false => 0.0,
        }
    }
}

fn of_process(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything; then user and system time.
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let times = after.split(' ').skip(11).take(2);
    let ticks: u64 = times.filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(TICK * ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_of_others() {
        let s = Duration::from_secs;
        let at = |all, used, ours| Cpu {
            all: s(all),
            used: s(used),
            ours: s(ours),
        };
        assert_eq!(at(10, 5, 5).others(&at(20, 13, 8)), 0.5);
        assert_eq!(at(10, 5, 5).others(&at(20, 7, 8)), 0.0);
        assert_eq!(at(10, 5, 5).others(&at(10, 5, 5)), 0.0);
        assert!(Cpu::now(&[std::process::id()]).all > Duration::ZERO);
    }
}
