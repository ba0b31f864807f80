use std::io;
use std::path::PathBuf;

/// Why a sink could not be opened. Once open, a sink reports failures by its
/// counters and its log only.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A value in the config cannot work.
    #[error("sink `{name}`: {reason}")]
    Config {
        /// Name of the sink.
        name: String,
        /// Which key, and what it must be.
        reason: String,
    },
    /// The endpoint could not be bound: in use, not an address of this host, or malformed.
    #[error("sink `{name}`: cannot bind {endpoint}: {source}")]
    Bind {
        /// Name of the sink.
        name: String,
        /// The endpoint as configured.
        endpoint: String,
        /// What libzmq said.
        source: zmq::Error,
    },
    /// The endpoint could not be connected to: malformed, or an unknown transport.
    #[error("sink `{name}`: cannot connect to {endpoint}: {source}")]
    Connect {
        /// Name of the sink.
        name: String,
        /// The endpoint as configured.
        endpoint: String,
        /// What libzmq said.
        source: zmq::Error,
    },
    /// A socket could not be created or set up: no descriptors left, or the
    /// context is closing.
    #[error("sink `{name}`: no socket for {endpoint}: {source}")]
    Socket {
        /// Name of the sink.
        name: String,
        /// The endpoint as configured.
        endpoint: String,
        /// What libzmq said.
        source: zmq::Error,
    },
    /// The file could not be opened for appending.
    #[error("sink `{name}`: cannot open {}: {source}", path.display())]
    File {
        /// Name of the sink.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No thread or wake-up descriptor could be had.
    #[error("sink `{name}`: cannot start its thread: {source}")]
    Thread {
        /// Name of the sink.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}
