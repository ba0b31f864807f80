//! Probes and what an operator sees.

use super::{Shared, aside};
use crate::{ErrorBody, Health, PluginStatus, Readiness, SourceStatus, Status};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use std::sync::Arc;

/// 200 while every loop turns, the doors' own included; else 503 and which.
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Health>) {
    let mut health = shared.control.health();
    let doors = shared.beats.health();
    health.ok &= doors.ok;
    health.stuck.extend(doors.stuck);
    (good(health.ok), Json(health))
}

/// 200 once ready; 503 with the reasons until then.
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Readiness>) {
    let readiness = shared.control.ready();
    (good(readiness.ready), Json(readiness))
}

pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
) -> Result<impl IntoResponse, ErrorBody> {
    let text = aside(shared, |control| control.metrics()).await?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text))
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Result<Json<Status>, ErrorBody> {
    aside(shared, |control| control.status()).await.map(Json)
}

pub(super) async fn plugins(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Vec<PluginStatus>>, ErrorBody> {
    aside(shared, |control| control.plugins()).await.map(Json)
}

pub(super) async fn sources(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Vec<SourceStatus>>, ErrorBody> {
    aside(shared, |control| control.sources()).await.map(Json)
}

fn good(yes: bool) -> StatusCode {
    if yes {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
