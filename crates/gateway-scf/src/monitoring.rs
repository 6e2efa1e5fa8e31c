//! The monitoring endpoints: health, readiness and metrics.
//!
//! Health and readiness are public. Metrics are for loopback clients, for clients with the token, or on a separate listener.
//! Functions can only read health.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::gateway::Gateway;
use super::metrics_access::MetricsCaller;

/// Returns the endpoints for the API's listeners.
pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_on_api_listener))
}

/// Returns the endpoints for the separate metrics listener.
pub fn metrics_router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_on_own_listener))
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "not found; /healthz, /readyz and /metrics are served here\n",
            )
        })
        .with_state(gateway)
}

pub(super) async fn health() -> &'static str {
    "ok\n"
}

async fn ready(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    if gateway.worker.interpreters().preferred().is_some() {
        return "ready\n".into_response();
    }
    let message = match gateway.monitoring.caller(&request) {
        MetricsCaller::Trusted => {
            "no Python was found; install python3, or set its path with --python\n"
        }
        MetricsCaller::Unauthenticated | MetricsCaller::Untrusted => "not ready\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
}

async fn metrics_on_api_listener(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Response {
    if gateway.monitoring.separate_listener {
        let message = "metrics are served on the address of --metrics-listen only\n";
        return (StatusCode::NOT_FOUND, message).into_response();
    }
    match gateway.monitoring.caller(&request) {
        MetricsCaller::Trusted => metrics(&gateway).await,
        MetricsCaller::Unauthenticated => refused(),
        MetricsCaller::Untrusted => {
            let message = "metrics are served to loopback clients only; --metrics-token admits clients with a token, and \
                           --metrics-listen sets a separate address\n";
            (StatusCode::FORBIDDEN, message).into_response()
        }
    }
}

async fn metrics_on_own_listener(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Response {
    // Without a token, the listener's address restricts access.
    match gateway.monitoring.caller(&request) {
        MetricsCaller::Trusted | MetricsCaller::Untrusted => metrics(&gateway).await,
        MetricsCaller::Unauthenticated => refused(),
    }
}

fn refused() -> Response {
    let mut reply = (
        StatusCode::UNAUTHORIZED,
        "metrics need the token as Authorization: Bearer\n",
    )
        .into_response();
    let headers = reply.headers_mut();
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    reply
}

async fn metrics(gateway: &Gateway) -> Response {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        gateway.exporter.page().await,
    )
        .into_response()
}
