//! The listener of the bucket server.

use std::sync::Arc;
use std::time::Instant;

use access::{Access, Transport};
use bucket::{BucketServer, Client, Dialect};
use hyper::Request;
use telemetry::{Gauges, Metrics};
use tokio::sync::watch;
use traffic::listen::{self, Http, Listener};
use traffic::{RequestBody, Traffic};

use super::connection::BucketConnection;
use super::header_case::header_case;

/// The clients of a listener.
#[derive(Clone, Debug)]
pub struct Callers {
    /// Authentication.
    pub access: Access,
    /// Whether they are functions.
    pub inside: bool,
}

/// Registers the size of all buckets.
pub fn register_gauges(buckets: &BucketServer, gauges: &Gauges) {
    let buckets = buckets.clone();
    gauges.register(move |metrics| {
        metrics.bucket_bytes(buckets.used_bytes());
        std::future::ready(())
    });
}

/// Serves until the sender of `stopped` is dropped, and then until running requests have finished.
pub async fn serve(
    listener: Listener,
    http: Http,
    traffic: Traffic,
    (serve, callers): (BucketServer, Callers),
    metrics: Arc<Metrics>,
    stopped: watch::Receiver<()>,
) {
    let header_case_extensions = header_case().await;
    let secure = listener.tls.is_some();
    let answer = move |request: Request<RequestBody>, from: traffic::Peer| {
        let (serve, metrics, header_case_extensions) = (
            serve.clone(),
            metrics.clone(),
            header_case_extensions.clone(),
        );
        let address = from.address.to_canonical();
        let transport = Transport {
            from: from.hop,
            private: secure || callers.inside,
        };
        let access = callers.access.clone();
        let client = Client {
            from: address,
            secure,
            connection: Arc::new(BucketConnection::new(
                access,
                address,
                transport,
                from.connection,
            )),
        };
        async move {
            let (begun, method) = (Instant::now(), request_method(&request));
            let mut response = serve.answer(request, client).await;
            response.extensions_mut().extend(header_case_extensions);
            let dialect = response.extensions().get::<Dialect>();
            let dialect = dialect.copied().map_or("none", Dialect::as_str);
            let status = response.status().as_u16();
            metrics.bucket_request(dialect, method, status, begun.elapsed());
            response
        }
    };
    listen::serve(
        listener,
        http.preserving_header_case(),
        traffic,
        answer,
        stopped,
    )
    .await;
}

/// Returns the method as a metric label, from a closed set.
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
