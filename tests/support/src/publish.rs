//! `penstock publish`: engines in a process of their own.

use crate::daemon::PATIENCE;
use crate::engine::{read_log, teach};
use crate::oracle::Oracle;
use crate::process::Process;
use crate::{binary, wait};
use std::path::Path;
use std::process::Command;

/// Engines at work in another process; killed when dropped.
pub struct Publish {
    /// The process.
    pub process: Process,
    /// Stream and replay of each engine.
    pub endpoints: Vec<(String, Option<String>)>,
}

/// What such engines published, each under its source's name, from the files that
/// `--log` and `--record` named.
///
/// # Panics
/// The files cannot be read.
#[must_use]
pub fn oracle(log: &Path, record: &Path, names: &[String]) -> Oracle {
    let mut oracle = Oracle::default();
    let log = read_log(log).unwrap();
    teach(&mut oracle, &log, record, names).unwrap();
    oracle
}

// === impl Publish ===

impl Publish {
    /// Starts it on free ports, replay included, unless the arguments say
    /// otherwise, and waits until its sockets are open.
    ///
    /// # Panics
    /// It ends, or takes longer than [`PATIENCE`].
    #[must_use]
    pub fn start(engines: usize, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(["publish", "--engines", &engines.to_string()]);
        for (name, value) in [
            ("--endpoint", "tcp://127.0.0.1:*"),
            ("--replay", "tcp://127.0.0.1:*"),
        ] {
            if !arguments.contains(&name) {
                command.args([name, value]);
            }
        }
        let mut process = Process::start(command.args(arguments));
        let endpoints = wait::until("the engines' sockets", PATIENCE, || {
            if let Some(status) = process.ended() {
                panic!("the engines ended with {status}:\n{}", process.output());
            }
            let output = process.output();
            let told: Vec<_> = output.lines().filter_map(endpoints).collect();
            (told.len() == engines).then_some(told)
        });
        Self { process, endpoints }
    }
}

/// `publishing at tcp://127.0.0.1:1 (replay tcp://127.0.0.1:2)`.
fn endpoints(line: &str) -> Option<(String, Option<String>)> {
    let rest = line.split_once("publishing at ")?.1;
    let (stream, rest) = rest.split_once(" (replay ")?;
    let replay = rest.split_once(')')?.0;
    let replay = (replay != "off").then(|| replay.to_string());
    Some((stream.to_string(), replay))
}
