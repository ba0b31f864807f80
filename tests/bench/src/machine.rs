//! What the figures were measured on.

use serde::Serialize;
use std::fmt;

/// The machine, and how this program was built.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Name of its processor.
    pub cpu: String,
    /// Processors that this program may use.
    pub cores: usize,
    /// Last-level cache as the system tells it, shared with other guests of a
    /// virtual machine.
    pub cache: String,
    /// Load average of the last minute before the start, of other programs.
    pub load: f64,
    /// Profile of this program and of the daemon.
    pub profile: &'static str,
}

// === impl Machine ===

impl Machine {
    /// Reads it from the system; what is not told stays `unknown` or 0.
    pub fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = field(&file("/proc/cpuinfo"), "model name");
        let cache = (0..4).rev().find_map(|n| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{n}/size");
            std::fs::read_to_string(path).ok()
        });
        let load = file("/proc/loadavg");
        Self {
            cpu: cpu.unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cache: cache.map_or_else(|| "unknown".into(), |c| c.trim().to_owned()),
            load: load
                .split(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0.0),
            profile: if cfg!(debug_assertions) {
                "dev (figures mean nothing)"
            } else {
                "release"
            },
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cpu,
            cores,
            cache,
            load,
            profile,
        } = self;
        write!(
            f,
            "{cpu}, {cores} cores, {cache} of cache; load before: {load}; built: {profile}"
        )
    }
}

/// The value of `name` in the form of `/proc/cpuinfo`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC: fast\nprocessor\t: 1\n";
        assert_eq!(field(text, "model name").as_deref(), Some("AMD EPYC: fast"));
        assert_eq!(field(text, "flags"), None);
        assert!(Machine::read().cores > 0);
    }
}
