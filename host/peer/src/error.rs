use std::path::PathBuf;

/// Why a peer could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// A file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A `.frames` file ends inside a message. All messages before it are good.
    #[error("{}: message {message} at byte {offset} is cut short (half written?)", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where the message begins, in bytes.
        offset: u64,
        /// Its number, from 0.
        message: u64,
    },
    /// A file whose very beginning cannot be that of a `.frames` file.
    #[error("{}: not a .frames file; `penstock capture` writes them", path.display())]
    NotFrames {
        /// The file.
        path: PathBuf,
    },
    /// A length in a `.frames` file is above the limit: it is damaged.
    #[error("{}: message {message} at byte {offset}: {found} {what}, more than {limit}", path.display())]
    Limit {
        /// The file.
        path: PathBuf,
        /// Where the message begins, in bytes.
        offset: u64,
        /// Its number, from 0.
        message: u64,
        /// What there is too much of.
        what: &'static str,
        /// How much the file says there is.
        found: u64,
        /// How much is accepted.
        limit: u64,
    },
    /// A recorded message is not `[topic][sequence][payload]`.
    #[error("{}: message {message} is not a batch: {why}", path.display())]
    NotABatch {
        /// The file.
        path: PathBuf,
        /// Its number, from 0.
        message: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A line of a trace is not a request.
    #[error("{}:{line}: {why}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// An endpoint could not be bound or connected.
    #[error("cannot {action} {endpoint}: {source}")]
    Endpoint {
        /// `bind` or `connect`.
        action: &'static str,
        /// The endpoint as given.
        endpoint: String,
        /// What libzmq said.
        source: zmq::Error,
    },
    /// An operation on an open socket failed.
    #[error("{action}: {source}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// What libzmq said.
        source: zmq::Error,
    },
    /// Subscribers were waited for and did not come.
    #[error("{endpoint}: {found} of {wanted} subscribers after {waited:?}")]
    NoSubscribers {
        /// The publisher's endpoint.
        endpoint: String,
        /// How many came.
        found: usize,
        /// How many were wanted.
        wanted: usize,
        /// How long they were waited for.
        waited: std::time::Duration,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// A thread of the engine panicked.
    #[error("the thread of engine {0} panicked")]
    Panicked(usize),
}

impl PeerError {
    pub(crate) fn socket(action: &'static str) -> impl FnOnce(zmq::Error) -> Self {
        move |source| Self::Socket { action, source }
    }

    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
