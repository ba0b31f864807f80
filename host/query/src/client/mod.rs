//! The other side of the doors: for `penstock query`, `penstock ctl` and tests.
//!
//! ```no_run
//! use penstock_event::{By, Query};
//! use std::time::Duration;
//!
//! let query = Query {
//!     model: "m".into(),
//!     adapter: String::new(),
//!     salt: String::new(),
//!     by: By::Tokens([1, 2, 3].into()),
//!     deadline: Duration::from_secs(1),
//!     include_stale: false,
//! };
//! let answer = penstock_query::client::zmq("tcp://127.0.0.1:7781", None, &query)?;
//! println!("{:?}", answer.scores);
//! # Ok::<(), penstock_query::QueryError>(())
//! ```
//!
//! Everything here blocks, with a deadline on every wait: that of the query and
//! [`SLACK`] on top, so that the daemon's own word on a missed deadline arrives.

mod control;
mod http;
mod zeromq;

pub use control::ControlClient;
pub use http::HttpClient;
pub use zeromq::{ZmqClient, ZmqReply};

use crate::wire::HashKind;
use crate::{AnswerBody, QueryError};
use penstock_event::{By, Query};
use serde::{Serialize, Serializer};
use std::time::Duration;

/// What a client waits beyond the deadline that the daemon keeps.
pub const SLACK: Duration = Duration::from_millis(250);

/// Asks once over HTTP. `url` is the door's, such as `http://127.0.0.1:7780`.
///
/// # Errors
/// [`QueryError`]: unreachable, late, refused with a reason, or no answer at all.
pub fn http(url: &str, plugin: Option<&str>, query: &Query) -> Result<AnswerBody, QueryError> {
    HttpClient::new(url).query(plugin, query)
}

/// Asks once over ZeroMQ.
///
/// # Errors
/// As for [`http`]; a door that is not there shows as [`QueryError::Timeout`].
pub fn zmq(endpoint: &str, plugin: Option<&str>, query: &Query) -> Result<AnswerBody, QueryError> {
    ZmqClient::connect(endpoint)?.query(plugin, query)
}

/// A request as it goes out.
#[derive(Serialize)]
struct Outgoing<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<Tokens<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_hashes: Option<&'a [u64]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashes: Option<HashKind>,
    model_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lora_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cache_salt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<&'a str>,
    deadline_ms: u64,
    include_stale: bool,
}

/// Tokens: a list for people's formats, bytes for msgpack.
struct Tokens<'a>(&'a [u32]);

impl Serialize for Tokens<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_seq(self.0);
        }
        let bytes: Vec<u8> = self.0.iter().flat_map(|t| t.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'a> Outgoing<'a> {
    fn new(id: Option<u64>, plugin: Option<&'a str>, query: &'a Query) -> Self {
        let (op, token_ids, block_hashes, hashes) = match &query.by {
            By::Tokens(tokens) => ("query", Some(Tokens(tokens)), None, None),
            By::TokenHashes(hashes) => (
                "query_by_hash",
                None,
                Some(&**hashes),
                Some(HashKind::Token),
            ),
            By::EngineHashes(hashes) => (
                "query_by_hash",
                None,
                Some(&**hashes),
                Some(HashKind::Engine),
            ),
        };
        Self {
            id,
            op,
            token_ids,
            block_hashes,
            hashes,
            model_name: &query.model,
            lora_name: &query.adapter,
            cache_salt: &query.salt,
            plugin,
            deadline_ms: u64::try_from(query.deadline.as_millis())
                .unwrap_or(u64::MAX)
                .max(1),
            include_stale: query.include_stale,
        }
    }
}

fn bad_reply(address: &str, why: impl ToString) -> QueryError {
    QueryError::BadReply {
        address: address.to_owned(),
        why: why.to_string(),
    }
}

fn unreachable(address: &str, why: impl ToString) -> QueryError {
    QueryError::Unreachable {
        address: address.to_owned(),
        why: why.to_string(),
    }
}
