//! Child processes that never outlive their test.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Lines of output kept of each stream.
const KEPT: usize = 20_000;

/// A running child; killed when dropped. Its output is kept, for messages.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

// === impl Process ===

impl Process {
    /// Starts a command.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{shown}: {e}"));
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|s| Box::new(s) as _),
            child.stderr.take().map(|s| Box::new(s) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let lines = lines.clone();
            readers.push(std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let mut lines = lines.lock().unwrap();
                    lines.push_back(line);
                    if lines.len() > KEPT {
                        lines.pop_front();
                    }
                }
            }));
        }
        Self {
            child,
            lines,
            readers,
        }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far, both streams.
    #[must_use]
    pub fn output(&self) -> String {
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .fold(String::new(), |all, line| all + line + "\n")
    }

    /// The first line so far that holds `text`.
    #[must_use]
    pub fn line(&self, text: &str) -> Option<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().find(|line| line.contains(text)).cloned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Kills it, at once.
    ///
    /// # Panics
    /// It cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Sends a signal by name: `TERM`, `KILL`, `STOP`, `CONT`, `HUP`.
    ///
    /// # Panics
    /// The signal cannot be sent.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "kill -{name} {}", self.pid());
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It goes on past `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        let status = crate::wait::until("end of a process", limit, || child.try_wait().unwrap());
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status
    }

    /// Peak resident memory so far, in bytes.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        self.status_kib("VmHWM:") * 1024
    }

    /// Resident memory now, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.status_kib("VmRSS:") * 1024
    }

    /// CPU time used so far, user and system.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let after = stat.rsplit(") ").next().unwrap_or_default();
        let ticks: u64 = after
            .split(' ')
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<u64>().ok())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    fn status_kib(&self, key: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<_> = output.lines().rev().take(60).collect();
            for line in tail.iter().rev() {
                // Long lines would bury what the test itself said.
                let line: String = line.chars().take(240).collect();
                eprintln!("  | {line}");
            }
        }
    }
}
