//! The routes of the API's listeners.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{any, get, post};

use super::api::api;
use super::gateway::Gateway;
use super::origin::{FromFunction, OverTls};
use super::{download, monitoring, notifications};

/// Returns all routes.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let mut own = monitoring::routes();
    for receiver in &gateway.receivers {
        let (path, receiver) = (receiver.path(), receiver.clone());
        let notification = |State(gateway): State<Arc<Gateway>>, request: Request| async move {
            notifications::receive(&gateway, &*receiver, request).await
        };
        own = own.route(path, post(notification));
    }
    base_router(own, gateway)
}

/// Returns the routes of the TLS listener.
pub fn secure_router(gateway: Arc<Gateway>) -> Router {
    router(gateway).layer(axum::Extension(OverTls))
}

/// Returns the routes for functions, without the operator's monitoring endpoints.
pub fn inside_router(gateway: Arc<Gateway>) -> Router {
    base_router(Router::new(), gateway).layer(axum::Extension(FromFunction))
}

/// Returns the routes for functions over TLS.
pub fn secure_inside_router(gateway: Arc<Gateway>) -> Router {
    inside_router(gateway).layer(axum::Extension(OverTls))
}

fn base_router(own: Router<Arc<Gateway>>, gateway: Arc<Gateway>) -> Router {
    own.route("/healthz", get(monitoring::health))
        .route("/packages/{name}", get(package))
        .route("/", any(api))
        .fallback(|| async { (StatusCode::NOT_FOUND, "nothing is here; the API is at /\n") })
        .with_state(gateway)
}

async fn package(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    download::serve(&gateway, &name, query.as_deref().unwrap_or_default()).await
}
