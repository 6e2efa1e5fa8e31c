//! The first to see a request: it goes to the function that its host or path leads to, or else to the other routes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use model::RequestId;
use tower_service::Service;

use super::Urls;

/// Functions' requests, before a router's. They are many, so that they do not go through the router as a layer's would.
#[derive(Clone)]
pub(crate) struct Front {
    urls: Arc<Urls>,
    /// Whether its callers are functions.
    inside: bool,
    routes: Router,
}

impl Front {
    pub(crate) fn new(urls: Arc<Urls>, inside: bool, routes: Router) -> Self {
        Self {
            urls,
            inside,
            routes,
        }
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.urls.find(&request) {
            Some(Ok(target)) => {
                let (urls, inside) = (self.urls.clone(), self.inside);
                Box::pin(async move { Ok(urls.serve(target, inside, request).await) })
            }
            Some(Err(refused)) => {
                let id = RequestId::from_bytes(*uuid::Uuid::now_v7().as_bytes());
                let reply = refused.reply(id);
                Box::pin(async move { Ok(reply) })
            }
            None => Box::pin(self.routes.call(request)),
        }
    }
}
