//! Connections: bounded in number, and none may send its requests as slowly as it likes.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::debug;

/// Connections of one listener; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 16_384;
/// Bytes of a request's head, and of what is read at a time.
const BUFFER: usize = 256 << 10;

/// How HTTP is spoken, where a request's head may take so long, and a connection be idle.
pub(crate) fn http(head_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(BUFFER);
    http
}

/// Serves until the other end of `stopped` goes, and then until the requests under way are answered.
pub(crate) async fn serve<L, A, F, B>(
    mut listener: L,
    http: http1::Builder,
    answer: A,
    mut stopped: watch::Receiver<()>,
) where
    L: Listener<Addr = SocketAddr>,
    A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
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
        let (http, answer, mut stopped) = (http.clone(), answer.clone(), stopped.clone());
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let answered = answer(request, from);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let connection = http
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                debug!(%from, %error, "a connection broke off");
            }
        });
    }
    while connections.join_next().await.is_some() {}
}
