//! Connections to the bucket server: bounded in number, and none may send its requests as slowly as it likes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::serve::Listener;
use bucket::{Dialect, Peer, Serve};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::debug;

use super::spelling::spelling;
use crate::telemetry::Metrics;

/// Connections of one listener; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 4096;
/// How long a request's head may take, and a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a request's head, and of what is read at a time.
const BUFFER: usize = 256 << 10;

/// Serves until the other end of `stopped` goes, and then until the requests under way are answered.
pub(crate) async fn serve<L>(
    mut listener: L,
    serve: Serve,
    secure: bool,
    metrics: Arc<Metrics>,
    mut stopped: watch::Receiver<()>,
) where
    L: Listener<Addr = SocketAddr>,
{
    let spelt = spelling().await;
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let place = room.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, (io, from)) = tokio::select! {
            accepted = accept => accepted,
            _ = stopped.changed() => break,
        };
        // Those that have ended are forgotten.
        while connections.try_join_next().is_some() {}
        let (serve, metrics, mut stopped) = (serve.clone(), metrics.clone(), stopped.clone());
        let spelt = spelt.clone();
        connections.spawn(async move {
            let _place = place;
            let peer = Peer {
                from: from.ip().to_canonical(),
                secure,
            };
            let answer = service_fn(|request| {
                let (serve, metrics, spelt) = (serve.clone(), metrics.clone(), spelt.clone());
                async move {
                    let (begun, method) = (Instant::now(), request_method(&request));
                    let mut response = serve.answer(request, peer).await;
                    response.extensions_mut().extend(spelt.clone());
                    let dialect = response.extensions().get::<Dialect>();
                    let dialect = dialect.copied().map_or("none", Dialect::as_str);
                    let status = response.status().as_u16();
                    metrics.bucket_request(dialect, method, status, begun.elapsed());
                    metrics.bucket_bytes(serve.used_bytes());
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .preserve_header_case(true)
                .max_buf_size(BUFFER)
                .serve_connection(TokioIo::new(io), answer);
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                debug!(%from, %error, "a connection to the buckets broke off");
            }
        });
    }
    while connections.join_next().await.is_some() {}
}

/// The method, as a label of a closed list.
fn request_method<B>(request: &hyper::Request<B>) -> &'static str {
    match request.method().as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
