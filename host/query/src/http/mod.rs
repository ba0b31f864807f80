//! The HTTP door: Dynamo's standalone indexer's paths, and an operator's.
//!
//! | path | |
//! |---|---|
//! | `POST /query`, `/query_by_hash` | lookups |
//! | `POST /register`, `/unregister`; `GET /workers` | sources by hand |
//! | `GET /health`, `/ready`, `/metrics` | probes |
//! | `GET /v1/status`, `/v1/plugins`, `/v1/sources` | what an operator sees |
//! | `POST /v1/plugins/NAME/request` | bytes to a plugin's own interface |
//!
//! Bodies are JSON whatever the content type says. Every error is a JSON object
//! with `error` for people and `code` for programs, 404 and 405 included. There
//! is no authentication and no TLS: the door is meant for loopback or a pod's
//! network. Reload is not here but on the Unix socket.

mod body;
mod query;
mod register;
mod serve;
mod status;

use crate::meter::Meter;
use crate::{Code, Control, DoorsConfig, ErrorBody, Heartbeats, Lookups};
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use tokio::sync::Semaphore;

pub(crate) use serve::serve;

/// What the handlers share.
pub(crate) struct Shared {
    lookups: Arc<dyn Lookups>,
    control: Arc<dyn Control>,
    config: DoorsConfig,
    beats: Heartbeats,
    /// Lookups in flight.
    flights: Semaphore,
    /// KiB of bodies being read or waiting.
    bodies: Semaphore,
    meter: Meter,
}

impl Shared {
    pub(crate) fn new(
        config: DoorsConfig,
        lookups: Arc<dyn Lookups>,
        control: Arc<dyn Control>,
        beats: Heartbeats,
    ) -> Self {
        Self {
            lookups,
            control,
            beats,
            flights: Semaphore::new(config.max_in_flight),
            bodies: Semaphore::new(config.max_bodies_bytes >> 10),
            meter: Meter::new("http"),
            config,
        }
    }
}

/// All paths.
pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/query", post(query::query))
        .route("/query_by_hash", post(query::query_by_hash))
        .route("/register", post(register::register))
        .route("/unregister", post(register::unregister))
        .route("/workers", get(register::workers))
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/v1/status", get(status::status))
        .route("/v1/plugins", get(status::plugins))
        .route("/v1/plugins/{name}/request", post(query::request))
        .route("/v1/sources", get(status::sources))
        .fallback(async || ErrorBody::new(Code::NotFound, "no such path"))
        .method_not_allowed_fallback(async || {
            ErrorBody::new(
                Code::MethodNotAllowed,
                "this path does not take that method",
            )
        })
        .with_state(shared)
}

impl IntoResponse for ErrorBody {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}

/// A call to the daemon that may take its time, away from the async threads.
async fn aside<T: Send + 'static>(
    shared: Arc<Shared>,
    call: impl FnOnce(&dyn Control) -> T + Send + 'static,
) -> Result<T, ErrorBody> {
    tokio::task::spawn_blocking(move || call(shared.control.as_ref()))
        .await
        .map_err(|_| ErrorBody::new(Code::Internal, "the daemon failed on this request"))
}
