//! Lookups over HTTP.

use super::{Shared, body};
use crate::wire::{Op, Request};
use crate::{AnswerBody, ErrorBody};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Json, Response};
use penstock_event::LookupError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub(super) async fn query(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<AnswerBody>, ErrorBody> {
    metered(&shared, lookup(&shared, Op::Query, &headers, body)).await
}

pub(super) async fn query_by_hash(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<AnswerBody>, ErrorBody> {
    metered(&shared, lookup(&shared, Op::QueryByHash, &headers, body)).await
}

/// A request in the plugin's own form: bytes in, bytes out.
pub(super) async fn request(
    State(shared): State<Arc<Shared>>,
    Path(plugin): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorBody> {
    let answer = async {
        let _place = shared
            .flights
            .try_acquire()
            .map_err(|_| ErrorBody::busy())?;
        let held = body::read(&shared, &headers, body).await?;
        let (reply, answer) = oneshot::channel();
        shared.lookups.request(
            &plugin,
            held.bytes,
            Box::new(move |result| drop(reply.send(result))),
        );
        wait(answer, shared.config.deadline()).await
    };
    let bytes = metered(&shared, answer).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

async fn lookup(
    shared: &Shared,
    op: Op,
    headers: &HeaderMap,
    body: Body,
) -> Result<Json<AnswerBody>, ErrorBody> {
    let _place = shared
        .flights
        .try_acquire()
        .map_err(|_| ErrorBody::busy())?;
    let held = body::read(shared, headers, body).await?;
    let lookup = Request::from_json(&held.bytes)?.into_lookup(op, &shared.config)?;
    drop(held);
    let deadline = lookup.query.deadline;
    let (reply, answer) = oneshot::channel();
    shared.lookups.ask(
        lookup.plugin.as_deref(),
        lookup.query,
        Box::new(move |result| drop(reply.send(result))),
    );
    wait(answer, deadline).await.map(|a| Json(a.into()))
}

/// The reply, or `deadline`: a late plugin does not hold the client.
async fn wait<T>(
    answer: oneshot::Receiver<Result<T, LookupError>>,
    deadline: Duration,
) -> Result<T, ErrorBody> {
    let result = match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(LookupError::Failed(
            "the plugin went away before it answered".to_owned(),
        )),
        Err(_) => Err(LookupError::Deadline),
    };
    result.map_err(ErrorBody::from)
}

async fn metered<T>(
    shared: &Shared,
    work: impl Future<Output = Result<T, ErrorBody>>,
) -> Result<T, ErrorBody> {
    let since = Instant::now();
    let result = work.await;
    shared
        .meter
        .ended(since, result.as_ref().err().map(|e| e.code));
    result
}
