//! The control socket's client.

use super::{bad_reply, unreachable};
use crate::{ErrorBody, PluginStatus, QueryError, Reloaded, SourceStatus, Status, Turned};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Talks to the daemon on this machine. Each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct ControlClient {
    path: PathBuf,
    timeout: Duration,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line<T> {
    Good { ok: T },
    Bad(ErrorBody),
}

/// Largest reply read, bytes.
const MAX_REPLY: u64 = 256 << 20;

impl ControlClient {
    /// A client of the socket at `path`. `timeout` bounds each call as a whole.
    #[must_use]
    pub fn new(path: &Path, timeout: Duration) -> Self {
        Self {
            path: path.to_owned(),
            timeout,
        }
    }

    /// All there is to see.
    ///
    /// # Errors
    /// [`QueryError`]: no daemon there, late, refused, or not a reply.
    pub fn status(&self) -> Result<Status, QueryError> {
        self.call("status")
    }

    /// The plugins.
    ///
    /// # Errors
    /// As for [`ControlClient::status`].
    pub fn plugins(&self) -> Result<Vec<PluginStatus>, QueryError> {
        self.call("plugins")
    }

    /// The sources.
    ///
    /// # Errors
    /// As for [`ControlClient::status`].
    pub fn sources(&self) -> Result<Vec<SourceStatus>, QueryError> {
        self.call("sources")
    }

    /// Reconciles config and plugins now.
    ///
    /// # Errors
    /// As for [`ControlClient::status`]; refused when what ran before was kept.
    pub fn reload(&self) -> Result<Reloaded, QueryError> {
        self.call("reload")
    }

    /// Brings the build of a plugin that ran before back.
    ///
    /// # Errors
    /// As for [`ControlClient::status`]; refused when there is none.
    pub fn roll_back(&self, plugin: &str) -> Result<Turned, QueryError> {
        self.call(&format!("rollback {plugin}"))
    }

    /// Starts a plugin that is down again.
    ///
    /// # Errors
    /// As for [`ControlClient::status`]; refused when it runs.
    pub fn restart(&self, plugin: &str) -> Result<Turned, QueryError> {
        self.call(&format!("restart {plugin}"))
    }

    fn call<T: DeserializeOwned>(&self, word: &str) -> Result<T, QueryError> {
        let address = self.path.display().to_string();
        let until = Instant::now() + self.timeout;
        let reply = self.exchange(word, until).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => QueryError::Timeout {
                address: address.clone(),
            },
            _ => unreachable(&address, e),
        })?;
        match serde_json::from_slice(&reply) {
            Ok(Line::Good { ok }) => Ok(ok),
            Ok(Line::Bad(error)) => Err(QueryError::Refused(error)),
            Err(e) => Err(bad_reply(&address, e)),
        }
    }

    /// One line out, all that comes back until the daemon closes: the client
    /// has closed its own side, so one line comes.
    fn exchange(&self, word: &str, until: Instant) -> io::Result<Vec<u8>> {
        let left = || {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                Err(io::Error::from(io::ErrorKind::TimedOut))
            } else {
                Ok(Some(left))
            }
        };
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_write_timeout(left()?)?;
        stream.write_all(format!("{word}\n").as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut reply = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        loop {
            stream.set_read_timeout(left()?)?;
            let n = stream.read(&mut chunk)?;
            let Some(read) = chunk.get(..n).filter(|read| !read.is_empty()) else {
                return Ok(reply);
            };
            reply.extend_from_slice(read);
            if reply.len() as u64 > MAX_REPLY {
                return Err(io::Error::other("the reply is too long"));
            }
        }
    }
}
