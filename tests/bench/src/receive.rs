//! The peer of the whole path: a process with one SUB socket that receives as
//! many messages as it is told, and does nothing with them.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What the process is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Messages to receive.
    #[arg(long)]
    messages: u64,
    /// Publishers.
    #[arg(required = true)]
    endpoints: Vec<String>,
}

/// What it received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Messages.
    pub messages: u64,
    /// Bytes of all their frames.
    pub bytes: u64,
}

/// That process, seen from here; killed when dropped.
pub struct Receiver {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Longest silence before a message counts as lost, in milliseconds.
const PATIENCE_MS: i32 = 30_000;

/// Messages that may wait in it, as in the daemon.
const HWM: i32 = 100_000;

/// Messages between two words about them.
const STEP: u64 = 1_024;

/// Receives, says how far it is, and stays until its input ends, so that its CPU time can
/// still be read.
pub fn run(args: &Args) -> Result<()> {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::SUB)?;
    socket.set_rcvhwm(HWM)?;
    socket.set_rcvtimeo(PATIENCE_MS)?;
    socket.set_subscribe(b"")?;
    for endpoint in &args.endpoints {
        socket.connect(endpoint)?;
    }
    let mut frame = zmq::Message::new();
    let mut got = Received {
        messages: 0,
        bytes: 0,
    };
    while got.messages < args.messages {
        loop {
            socket.recv(&mut frame, 0).context("no message came")?;
            got.bytes += frame.len() as u64;
            if !frame.get_more() {
                break;
            }
        }
        got.messages += 1;
        if got.messages.is_multiple_of(STEP) && got.messages < args.messages {
            say(&got)?;
        }
    }
    say(&got)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn say(got: &Received) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, got)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

// === impl Receiver ===

impl Receiver {
    /// Starts this program again as a receiver.
    pub fn start(messages: u64, endpoints: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["receive", "--messages", &messages.to_string()])
            .args(endpoints)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the receiver")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the receiver has no output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its next word: how far it is.
    pub fn received(&mut self) -> Result<Received> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).context("the receiver ended early")
    }

    /// Lets it end.
    pub fn stop(mut self) -> Result<()> {
        drop(self.input.take());
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the receiver ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
