//! HTTP to functions: requests that a host leads to one are taken here, before the API's routes.

mod event;
mod reply;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use bytes::Bytes;
use catalog::Catalog;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use model::{FunctionKey, Limits, Qualifier, RequestId, RoutingKey, StatusCode as Outcome};
use tokio::sync::Semaphore;
use tracing::debug;
use worker::failure_document;

use self::event::Seen;
use crate::invoke::{Ingest, IngestError, Invocation};

/// How long a body may take, since it holds room that others wait for.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// Room for all bodies together, KB.
const ROOM_KB: usize = 256 << 10;
/// What a body may be that is not counted against the room, KB.
const SMALL_KB: usize = 64;

/// What requests are led by.
#[derive(Debug)]
pub(crate) struct Urls {
    limits: Arc<Limits>,
    catalog: Catalog,
    ingest: Ingest,
    /// Room for bodies, in KB; large ones wait their turn.
    room: Semaphore,
}

/// Where a request leads.
#[derive(Debug)]
struct Target {
    function: FunctionKey,
    qualifier: Qualifier,
    /// The path as the function sees it, where that is not the request's.
    path: Option<String>,
}

/// Why a request does not come to a function, or not to its answer: SCF's code, and a word for people.
#[derive(Debug)]
struct Refused(StatusCode, Outcome, String);

impl Urls {
    pub(crate) fn new(limits: Arc<Limits>, catalog: Catalog, ingest: Ingest) -> Self {
        Self {
            limits,
            catalog,
            ingest,
            room: Semaphore::new(ROOM_KB),
        }
    }

    /// Where a request leads; `None` when its host is no function's.
    fn find(&self, request: &Request) -> Option<Result<Target, Refused>> {
        let host = request.headers().get(HOST)?.to_str().ok()?;
        let host = host_name(host);
        let domain = self.catalog.domain(&host)?;
        let path = request.uri().path();
        let Some(route) = domain.value.route(path) else {
            let message = format!("{host} has no route for {path}");
            return Some(Err(Refused(
                StatusCode::NOT_FOUND,
                Outcome::FunctionNotFound,
                message,
            )));
        };
        Some(Ok(Target {
            function: FunctionKey {
                account: domain.value.account,
                namespace: route.namespace.clone(),
                name: route.function.clone(),
            },
            qualifier: route.qualifier.clone(),
            path: route.rewrite(path),
        }))
    }

    async fn serve(&self, target: Target, request: Request) -> Response {
        let id = RequestId::from_bytes(*uuid::Uuid::now_v7().as_bytes());
        let (parts, body) = request.into_parts();
        let mut reply = match self.run(id, &target, &parts, body).await {
            Ok(reply) => reply,
            Err(refused) => {
                debug!(request = %id, function = %target.function.name, ?refused, "a request was refused");
                refused.reply(id)
            }
        };
        reply::name(reply.headers_mut(), id);
        reply
    }

    async fn run(
        &self,
        id: RequestId,
        target: &Target,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, Refused> {
        let body = self.read(parts, body).await?;
        let seen = Seen {
            method: &parts.method,
            path: target.path.as_deref().unwrap_or(parts.uri.path()),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
            body: &body,
            from: caller(parts),
        };
        let invocation = Invocation {
            request: id,
            function: target.function.clone(),
            qualifier: target.qualifier.clone(),
            routing_key: self.routing_key(target, parts),
            event: event::of_url(&seen).into(),
            tail: false,
        };
        let finished = self
            .ingest
            .invoke(invocation)
            .await
            .map_err(Refused::ingest)?;
        Ok(match finished.status {
            Outcome::Ok => reply::of_answer(finished.answer),
            status => reply::json(http(status), finished.answer),
        })
    }

    async fn read(&self, parts: &Parts, body: Body) -> Result<Bytes, Refused> {
        let limit = self.limits.sync_event_bytes as usize;
        let too_large = || {
            let message = format!("the request's body is over {limit} bytes, which is the limit");
            Refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                Outcome::RequestTooLarge,
                message,
            )
        };
        let announced = parts
            .headers
            .get("content-length")
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let chunked = parts.headers.contains_key("transfer-encoding");
        let length = announced.unwrap_or(if chunked { limit } else { 0 });
        if length > limit {
            return Err(too_large());
        }
        let kb = length.div_ceil(1024);
        let _room = if kb > SMALL_KB {
            let wanted = u32::try_from(kb.min(ROOM_KB)).unwrap_or(u32::MAX);
            self.room.acquire_many(wanted).await.ok()
        } else {
            None
        };
        match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) | Err(_) => Err(Refused(
                StatusCode::BAD_REQUEST,
                Outcome::InvalidParameterValue,
                "the request's body ended, or took too long, before it was whole".into(),
            )),
        }
    }

    /// What an alias chooses a version by: the headers that its rules name.
    fn routing_key(&self, target: &Target, parts: &Parts) -> RoutingKey {
        let Qualifier::Alias(alias) = &target.qualifier else {
            return RoutingKey::new();
        };
        let Some(function) = self.catalog.function(&target.function) else {
            return RoutingKey::new();
        };
        let named = function.value.aliases.get(alias).into_iter();
        let keys = named.flat_map(|alias| alias.routing.rules.iter().map(|rule| &rule.name));
        keys.filter_map(|key| {
            let value = parts.headers.get(key.as_str())?.to_str().ok()?;
            Some((key.clone(), value.to_owned()))
        })
        .collect()
    }
}

/// Puts them before other routes.
pub(crate) fn before(urls: Arc<Urls>, routes: Router) -> Router {
    routes.layer(from_fn(move |request: Request, next: Next| {
        let urls = urls.clone();
        async move {
            match urls.find(&request) {
                Some(Ok(target)) => urls.serve(target, request).await,
                Some(Err(refused)) => {
                    refused.reply(RequestId::from_bytes(*uuid::Uuid::now_v7().as_bytes()))
                }
                None => next.run(request).await,
            }
        }
    }))
}

impl Refused {
    fn reply(&self, id: RequestId) -> Response {
        let Self(status, outcome, message) = self;
        reply::json(
            *status,
            failure_document(*outcome, message, None, id).into(),
        )
    }

    fn ingest(error: IngestError) -> Self {
        let (status, outcome) = match &error {
            IngestError::NoFunction(_) | IngestError::NoNamespace(_) => {
                (StatusCode::NOT_FOUND, Outcome::FunctionNotFound)
            }
            IngestError::NoQualifier { .. } => (StatusCode::NOT_FOUND, Outcome::QualifierNotFound),
            IngestError::State { .. } => (
                http(Outcome::FunctionStatusError),
                Outcome::FunctionStatusError,
            ),
            IngestError::TooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, Outcome::RequestTooLarge)
            }
            IngestError::Draining => (StatusCode::SERVICE_UNAVAILABLE, Outcome::InternalError),
            IngestError::Open { .. } | IngestError::Invalid(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, Outcome::InternalError)
            }
        };
        Self(status, outcome, error.to_string())
    }
}

/// A failed function's code, which is HTTP's status, too: most are of a range that HTTP leaves free.
fn http(outcome: Outcome) -> StatusCode {
    StatusCode::from_u16(outcome.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The host of a header or a URL, in lower case, without the port, or the scheme that some clients put before it.
pub(crate) fn host_name(header: &str) -> String {
    let host = header.rsplit("://").next().unwrap_or(header);
    let name = host.split([':', '/']).next().unwrap_or(host);
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn caller(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(peer)| peer.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_its_name_alone() {
        for header in [
            "Api.Example.com",
            "api.example.com:9400",
            "http://api.example.com:1",
            "api.example.com.",
            "https://api.example.com/x",
        ] {
            assert_eq!(host_name(header), "api.example.com");
        }
    }
}
