//! The router in front of the API's routes: requests to functions first, all others to the routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tower_service::Service;

use super::target::ListenerKind;
use super::urls::Urls;

/// Routes requests to functions before the API's routes. Not a layer of the router, since requests to functions are
/// frequent.
pub struct UrlRouter {
    urls: Arc<Urls>,
    listener: ListenerKind,
    routes: Router,
}

impl std::fmt::Debug for UrlRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UrlRouter").finish_non_exhaustive()
    }
}

impl UrlRouter {
    /// Creates the router of a listener.
    pub fn new(urls: Arc<Urls>, listener: ListenerKind, routes: Router) -> Self {
        Self {
            urls,
            listener,
            routes,
        }
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request) -> Response {
        match self.urls.find(self.listener, &request) {
            Some(Ok(target)) => self.urls.serve(target, self.listener, request).await,
            Some(Err(refused)) => refused.reply(clock::new_request_id()),
            None => {
                let answered = self.routes.clone().call(request).await;
                answered.unwrap_or_else(|never| match never {})
            }
        }
    }
}
