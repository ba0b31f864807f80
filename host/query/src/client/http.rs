//! The HTTP door's client. Keeps its connections.

use super::{Outgoing, SLACK, bad_reply, unreachable};
use crate::{AnswerBody, ErrorBody, QueryError};
use penstock_event::Query;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body};

/// Asks one HTTP door, as often as wanted.
#[derive(Clone, Debug)]
pub struct HttpClient {
    agent: Agent,
    url: String,
}

/// How long a status page may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest reply read, bytes.
const MAX_REPLY: u64 = 256 << 20;

impl HttpClient {
    /// A client of the door at `url`; nothing is connected yet.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .no_delay(true)
            .build();
        Self {
            agent: config.into(),
            url: url.trim_end_matches('/').to_owned(),
        }
    }

    /// Asks a lookup.
    ///
    /// # Errors
    /// [`QueryError`]: unreachable, late, refused, or not an answer.
    pub fn query(&self, plugin: Option<&str>, query: &Query) -> Result<AnswerBody, QueryError> {
        let body = Outgoing::new(None, plugin, query);
        self.post(&format!("/{}", body.op), &body, query.deadline + SLACK)
    }

    /// Posts JSON to any path and reads JSON.
    ///
    /// # Errors
    /// As for [`HttpClient::query`].
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, QueryError> {
        let url = format!("{}{path}", self.url);
        let sent = self
            .agent
            .post(&url)
            .config()
            .timeout_global(Some(timeout))
            .build()
            .send_json(body);
        self.read(sent)
    }

    /// Gets JSON from any path.
    ///
    /// # Errors
    /// As for [`HttpClient::query`]. `/health` and `/ready` answer 503 with a
    /// body that is no error: ask them with another client.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, QueryError> {
        let url = format!("{}{path}", self.url);
        let sent = self
            .agent
            .get(&url)
            .config()
            .timeout_global(Some(PATIENCE))
            .build()
            .call();
        self.read(sent)
    }

    fn read<T: DeserializeOwned>(
        &self,
        sent: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, QueryError> {
        let mut response = sent.map_err(|e| self.failed(e))?;
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_REPLY)
            .read_to_vec()
            .map_err(|e| self.failed(e))?;
        if response.status().is_success() {
            return serde_json::from_slice(&bytes).map_err(|e| bad_reply(&self.url, e));
        }
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(error) => Err(QueryError::Refused(error)),
            Err(_) => Err(bad_reply(
                &self.url,
                format!("HTTP status {}", response.status()),
            )),
        }
    }

    fn failed(&self, e: ureq::Error) -> QueryError {
        match e {
            ureq::Error::Timeout(_) => QueryError::Timeout {
                address: self.url.clone(),
            },
            e => unreachable(&self.url, e),
        }
    }
}
