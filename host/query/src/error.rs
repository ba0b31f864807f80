//! What goes wrong, for callers in this process and for those outside.

use penstock_event::LookupError;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::PathBuf;

/// A door that cannot open, or a question that a client could not get answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A config value is out of range.
    #[error("query.{key}: expected {range}")]
    Config {
        /// The key.
        key: &'static str,
        /// What it may be.
        range: &'static str,
    },
    /// A socket could not be opened.
    #[error("{door}: cannot open {address}: {source}")]
    Open {
        /// `http`, `zmq` or `control`.
        door: &'static str,
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another process answers on the control socket.
    #[error("control: {path} is in use by another process")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The control path exists and is no socket; it is left alone.
    #[error("control: {path} exists and is not a socket")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// A thread could not be started.
    #[error("cannot start the {door} thread: {source}")]
    Thread {
        /// Whose.
        door: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Client: nobody there, or the connection broke.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Who was asked.
        address: String,
        /// Why not.
        why: String,
    },
    /// Client: no answer within the deadline.
    #[error("no answer from {address} within the deadline")]
    Timeout {
        /// Who was asked.
        address: String,
    },
    /// Client: the daemon refused, and says why.
    #[error("{0}")]
    Refused(ErrorBody),
    /// Client: what came back is not an answer.
    #[error("{address} sent something that is not an answer: {why}")]
    BadReply {
        /// Who was asked.
        address: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Why an operator's wish was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The request cannot be right. HTTP 400.
    #[error("{0}")]
    Invalid(String),
    /// No such source or plugin. HTTP 404.
    #[error("{0}")]
    NotFound(String),
    /// It contradicts what is there. HTTP 409.
    #[error("{0}")]
    Conflict(String),
    /// The daemon could not do it; what ran before still runs. HTTP 500.
    #[error("{0}")]
    Failed(String),
}

/// Why a request got no answer: a bounded set, for programs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Code {
    /// The request is malformed or has wrong types. HTTP 400.
    BadRequest,
    /// No plugin of that name answers. HTTP 404.
    NoPlugin,
    /// No source serves the model; the error lists those known. HTTP 404.
    NoModel,
    /// No such path, instance or source. HTTP 404.
    NotFound,
    /// The path does not take this method. HTTP 405.
    MethodNotAllowed,
    /// The body did not come in time. HTTP 408.
    SlowBody,
    /// It contradicts what is there. HTTP 409.
    Conflict,
    /// The body is above the limit. HTTP 413.
    TooLarge,
    /// The daemon failed. HTTP 500.
    Internal,
    /// The plugin is down or answered with an error. HTTP 502.
    Failed,
    /// The plugin is being loaded; ask again soon. HTTP 503.
    Loading,
    /// Too much in flight; ask again later. HTTP 503.
    Busy,
    /// The daemon is shutting down. HTTP 503.
    Closing,
    /// The deadline passed. HTTP 504.
    Deadline,
    /// A code of a later version.
    #[serde(other)]
    Unknown,
}

/// The body of every error, in JSON or msgpack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct ErrorBody {
    /// For people.
    pub error: Cow<'static, str>,
    /// For programs.
    pub code: Code,
    /// Models known, when the one asked for is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
}

// === impl Code ===

impl Code {
    /// Every code, in the order of their numbers.
    pub(crate) const ALL: [Self; 15] = [
        Self::BadRequest,
        Self::NoPlugin,
        Self::NoModel,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::SlowBody,
        Self::Conflict,
        Self::TooLarge,
        Self::Internal,
        Self::Failed,
        Self::Loading,
        Self::Busy,
        Self::Closing,
        Self::Deadline,
        Self::Unknown,
    ];

    /// The name in JSON and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NoPlugin => "no_plugin",
            Self::NoModel => "no_model",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::SlowBody => "slow_body",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Internal => "internal",
            Self::Failed => "failed",
            Self::Loading => "loading",
            Self::Busy => "busy",
            Self::Closing => "closing",
            Self::Deadline => "deadline",
            Self::Unknown => "unknown",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NoPlugin | Self::NoModel | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::SlowBody => 408,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Internal | Self::Unknown => 500,
            Self::Failed => 502,
            Self::Loading | Self::Busy | Self::Closing => 503,
            Self::Deadline => 504,
        }
    }
}

// === impl ErrorBody ===

impl ErrorBody {
    /// An error without a list of models.
    pub fn new(code: Code, error: impl Into<Cow<'static, str>>) -> Self {
        Self {
            error: error.into(),
            code,
            models: None,
        }
    }

    pub(crate) fn bad(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::BadRequest, error)
    }

    pub(crate) fn busy() -> Self {
        Self::new(Code::Busy, "busy: too many requests in flight")
    }
}

impl From<LookupError> for ErrorBody {
    fn from(e: LookupError) -> Self {
        let text = e.to_string();
        let code = match &e {
            LookupError::NoPlugin(_) | LookupError::NoRequests(_) => Code::NoPlugin,
            LookupError::Loading(_) => Code::Loading,
            LookupError::NoModel(_) => Code::NoModel,
            LookupError::Busy => Code::Busy,
            LookupError::Deadline => Code::Deadline,
            LookupError::Failed(_) => Code::Failed,
        };
        let models = match e {
            LookupError::NoModel(known) => Some(known),
            _ => None,
        };
        Self {
            error: text.into(),
            code,
            models,
        }
    }
}

impl From<ControlError> for ErrorBody {
    fn from(e: ControlError) -> Self {
        let code = match &e {
            ControlError::Invalid(_) => Code::BadRequest,
            ControlError::NotFound(_) => Code::NotFound,
            ControlError::Conflict(_) => Code::Conflict,
            ControlError::Failed(_) => Code::Internal,
        };
        Self::new(code, e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_json_and_numbers_those_of_the_table() {
        for (i, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, i);
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
        let later: Code = serde_json::from_str("\"teapot\"").unwrap();
        assert_eq!(later, Code::Unknown);
    }
}
