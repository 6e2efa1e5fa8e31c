//! Connections to the bucket server.

use std::sync::Arc;
use std::time::Instant;

use bucket::{Dialect, Peer, Serve, Signer};
use hyper::Request;
use model::AccountId;
use tokio::sync::watch;

use super::spelling::spelling;
use crate::listen::{self, Door, Http};
use crate::telemetry::Metrics;
use crate::traffic::{self, Inflow, Traffic};

/// Serves until the other end of `stopped` goes, and then until the requests under way are answered.
pub(crate) async fn serve(
    door: Door,
    http: Http,
    traffic: Traffic,
    serve: Serve,
    metrics: Arc<Metrics>,
    stopped: watch::Receiver<()>,
) {
    let spelt = spelling().await;
    let secure = door.tls.is_some();
    let answer = move |request: Request<Inflow>, from: traffic::Peer| {
        let (serve, metrics, spelt) = (serve.clone(), metrics.clone(), spelt.clone());
        let peer = Peer {
            from: from.address.to_canonical(),
            secure,
        };
        async move {
            let (begun, method) = (Instant::now(), request_method(&request));
            let mut response = serve.answer(request, peer).await;
            if let Some(signer) = response.extensions_mut().remove::<Signer>() {
                from.connection.verified(AccountId(signer.0));
            }
            response.extensions_mut().extend(spelt);
            let dialect = response.extensions().get::<Dialect>();
            let dialect = dialect.copied().map_or("none", Dialect::as_str);
            let status = response.status().as_u16();
            metrics.bucket_request(dialect, method, status, begun.elapsed());
            metrics.bucket_bytes(serve.used_bytes());
            response
        }
    };
    listen::serve(door, http.of_buckets(), traffic, answer, stopped).await;
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
