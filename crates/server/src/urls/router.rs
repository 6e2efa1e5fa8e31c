//! The first to see a request: it goes to the function that its host or path leads to, or else to the other routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tower_service::Service;

use super::Urls;
use crate::clock;

/// Functions' requests, before a router's. They are many, so that they do not go through the router as a layer's would.
pub(crate) struct UrlRouter {
    urls: Arc<Urls>,
    listener: ListenerKind,
    routes: Router,
}

/// How a listener's requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerKind {
    Plain,
    Tls,
    /// From functions, whose packets do not leave the host.
    Inside,
}

impl UrlRouter {
    pub(crate) fn new(urls: Arc<Urls>, listener: ListenerKind, routes: Router) -> Self {
        Self {
            urls,
            listener,
            routes,
        }
    }

    pub(crate) async fn answer(&self, request: Request) -> Response {
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
