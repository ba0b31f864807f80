use crate::EndpointError;
use std::sync::Arc;

/// Why ingest, or one source of it, did not start.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// An endpoint is not one.
    #[error("source {name:?}: {cause}")]
    Endpoint {
        /// The source.
        name: String,
        /// What is wrong.
        #[source]
        cause: EndpointError,
    },
    /// A source without endpoints.
    #[error("source {name:?} has no endpoint")]
    NoEndpoint {
        /// The source.
        name: String,
    },
    /// A source of this name is there already.
    #[error("source {name:?} is there already")]
    Duplicate {
        /// The name.
        name: Arc<str>,
    },
    /// A socket could not be opened, bound or connected.
    #[error("source {name:?}: {doing} {endpoint}: {cause}{hint}")]
    Socket {
        /// The source.
        name: Arc<str>,
        /// What was tried.
        doing: &'static str,
        /// Where.
        endpoint: String,
        /// What libzmq said.
        #[source]
        cause: zmq::Error,
        /// What to try, or nothing.
        hint: &'static str,
    },
    /// A thread could not be started, or its descriptors not be opened.
    #[error("cannot start an ingest thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Ingest was shut down.
    #[error("ingest is shut down")]
    Stopped,
}
