//! Connections to the bucket server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::serve::Listener;
use bucket::{Dialect, Peer, Serve};
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::spelling::spelling;
use crate::listen::{self, Http};
use crate::telemetry::Metrics;

/// Serves until the other end of `stopped` goes, and then until the requests under way are answered.
pub(crate) async fn serve<L>(
    listener: L,
    http: Http,
    serve: Serve,
    secure: bool,
    metrics: Arc<Metrics>,
    stopped: watch::Receiver<()>,
) where
    L: Listener<Addr = SocketAddr>,
{
    let spelt = spelling().await;
    let answer = move |request: Request<Incoming>, from: SocketAddr| {
        let (serve, metrics, spelt) = (serve.clone(), metrics.clone(), spelt.clone());
        let peer = Peer {
            from: from.ip().to_canonical(),
            secure,
        };
        async move {
            let (begun, method) = (Instant::now(), request_method(&request));
            let mut response = serve.answer(request, peer).await;
            response.extensions_mut().extend(spelt);
            let dialect = response.extensions().get::<Dialect>();
            let dialect = dialect.copied().map_or("none", Dialect::as_str);
            let status = response.status().as_u16();
            metrics.bucket_request(dialect, method, status, begun.elapsed());
            metrics.bucket_bytes(serve.used_bytes());
            response
        }
    };
    listen::serve(listener, http.spelt(), answer, stopped).await;
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
