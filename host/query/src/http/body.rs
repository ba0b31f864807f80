//! Reading request bodies within bounds: of one body, of all together, of time.

use super::Shared;
use crate::{Code, ErrorBody};
use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::sync::SemaphorePermit;

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(10);

/// A body, and its share of the memory for bodies.
pub(super) struct Held<'a> {
    pub bytes: Vec<u8>,
    _share: SemaphorePermit<'a>,
}

/// Reads the whole body.
pub(super) async fn read<'a>(
    shared: &'a Shared,
    headers: &HeaderMap,
    body: Body,
) -> Result<Held<'a>, ErrorBody> {
    let most = shared.config.max_body_bytes;
    let too_large = || {
        let error = format!("the body is above the limit of {most} bytes");
        ErrorBody::new(Code::TooLarge, error)
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|n| n > most) {
        return Err(too_large());
    }
    // Without a length, the body may grow to the limit.
    let kib = announced.unwrap_or(most).div_ceil(1 << 10).max(1);
    let share = shared
        .bodies
        .try_acquire_many(u32::try_from(kib).unwrap_or(u32::MAX))
        .map_err(|_| ErrorBody::busy())?;
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0));
    let reading = async {
        let mut body = body;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| ErrorBody::bad(format!("the body broke off: {e}")))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > most {
                    return Err(too_large());
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .map_err(|_| ErrorBody::new(Code::SlowBody, "the body did not come within 10 s"))??;
    Ok(Held {
        bytes,
        _share: share,
    })
}
