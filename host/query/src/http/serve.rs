//! Connections: accepted within a bound, closed when they say nothing, drained
//! at the end.

use crate::doors::told;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How long a connection may wait between requests, or take to send a head.
const IDLE: Duration = Duration::from_secs(60);

/// Pause after an accept that failed: for want of descriptors, as a rule.
const BREATH: Duration = Duration::from_millis(100);

/// Serves until `stop` turns true, then until the connections are done. Whoever
/// drops this future cuts what is left.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    most: usize,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(most));
    let graceful = GracefulShutdown::new();
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (stream, place) = tokio::select! {
            () = told(&mut stop) => break,
            accepted = accepted => match accepted {
                Some((Ok((stream, _)), place)) => (stream, place),
                Some((Err(e), _)) => {
                    tracing::warn!(error = %e, "HTTP: cannot accept a connection");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
                None => break,
            },
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(routes.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        open.spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "HTTP: connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}
