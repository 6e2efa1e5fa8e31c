//! Requests to web functions, passed on as they came.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{CONNECTION, EXPECT, HeaderName, HeaderValue, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use axum::response::Response;
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use model::{RequestId, RoutingKey, StatusCode as Outcome};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use worker::{InstanceSpec, Outgoing};

use super::event::REMOTE;
use super::{Refused, Target, Urls, caller};
use crate::invoke::web::{Passing, REPLY, Running, SILENCE};
use crate::invoke::{Invocation, Placed, Waiting};
use crate::traffic::Peer;

/// What virga tells a web function of its request; no caller says any of it.
const OWN: &str = "x-scf-";
/// Bytes that are carried at a time.
const BUFFER: usize = 16 << 10;

impl Urls {
    /// Passes a request on to a function's server, and its reply back.
    pub(super) async fn pass(
        self: &Arc<Self>,
        id: RequestId,
        target: &Target,
        routing_key: RoutingKey,
        parts: &mut Parts,
        body: Outgoing,
        over: &Notify,
    ) -> Result<Response, Refused> {
        let invocation = Invocation {
            request: id,
            function: target.function.clone(),
            qualifier: target.qualifier.clone(),
            routing_key,
            event: bytes::Bytes::new(),
            tail: false,
            retry: 0,
            depth: self.depth(parts),
        };
        let mut waiting = Waiting::default();
        let placed = self.ingest.place_call(&invocation, &mut waiting).await;
        let ready = match placed.map_err(Refused::ingest)? {
            Placed::Ready(ready) => ready,
            Placed::Refused(finished) => {
                return Ok(self.failed(target, id, finished));
            }
        };
        let silence = ready.spec().silence.unwrap_or(SILENCE);
        let upgrade = upgrade_of(parts);
        let region = self.region.clone();
        let request = request(id, ready.spec(), &region, target, parts, body)?;
        let (mut reply, mut running) = match ready.pass(request, over).await {
            Ok(passed) => passed,
            Err(finished) => return Ok(self.failed(target, id, finished)),
        };
        let limit = self.limits.web_header_bytes;
        if limit != 0 && length(reply.headers()) > limit {
            let finished = running.too_long("the reply's headers are", limit);
            return Ok(self.failed(target, id, finished));
        }
        if reply.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client) = upgrade
        {
            let server = hyper::upgrade::on(&mut reply);
            let (head, _) = reply.into_parts();
            let connection = parts.extensions.get::<Peer>();
            let connection = connection.map(|peer| peer.connection.clone());
            tokio::spawn(async move {
                let closed = async {
                    match connection {
                        Some(connection) => connection.closed().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = relay(client, server, silence, running) => {}
                    // Its reader is too slow, or it gives way to others.
                    () = closed => {}
                }
            });
            return Ok(Response::from_parts(head, Body::empty()));
        }
        let (mut head, body) = reply.into_parts();
        let limit = self.limits.web_response_bytes;
        if limit != 0 && body.size_hint().lower() > limit {
            let finished = running.too_long(REPLY, limit);
            return Ok(self.failed(target, id, finished));
        }
        remove_hops(&mut head.headers);
        Ok(Response::from_parts(
            head,
            Body::new(Passing::new(body, running, limit)),
        ))
    }
}

/// Bytes of names and values.
fn length(headers: &HeaderMap) -> u64 {
    let pairs = headers.iter();
    let lengths = pairs.map(|(name, value)| name.as_str().len() + value.len());
    lengths.sum::<usize>() as u64
}

/// Whether a request asks for another protocol, as WebSocket is; its connection then comes here.
fn upgrade_of(parts: &mut Parts) -> Option<OnUpgrade> {
    parts.headers.get(UPGRADE)?;
    parts.extensions.remove::<OnUpgrade>()
}

fn request(
    id: RequestId,
    spec: &InstanceSpec,
    region: &str,
    target: &Target,
    parts: &Parts,
    body: Outgoing,
) -> Result<Request<Outgoing>, Refused> {
    let path = target.path.as_deref().unwrap_or(parts.uri.path());
    let whole = match parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let wrong = |_| {
        let message = "the path cannot be passed on".to_owned();
        Refused::new(
            StatusCode::BAD_REQUEST,
            Outcome::InvalidParameterValue,
            message,
        )
    };
    let uri: Uri = whole.parse().map_err(wrong)?;
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    *headers = parts.headers.clone();
    let upgrade = headers.get(UPGRADE).cloned();
    remove_hops(headers);
    headers.remove(EXPECT);
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let strangers: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OWN))
        .cloned()
        .collect();
    for name in strangers {
        headers.remove(name);
    }
    let function = &spec.function;
    let told = [
        ("x-scf-request-id", id.to_string()),
        ("x-scf-memory", spec.memory.mb().to_string()),
        ("x-scf-timeout", spec.timeout.as_secs().to_string()),
        ("x-scf-version", spec.version.to_string()),
        ("x-scf-name", function.name.to_string()),
        ("x-scf-namespace", function.namespace.to_string()),
        ("x-scf-region", region.to_owned()),
        ("x-scf-appid", function.account.to_string()),
        ("x-scf-uin", spec.place.uin.clone()),
        (REMOTE, caller(parts).to_string()),
    ];
    for (name, value) in told {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(request)
}

/// Takes away what is between two neighbours. The length of a body goes on with it.
fn remove_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}

/// Carries bytes both ways until one side ends, both are silent for too long, or the function's time is over.
async fn relay(client: OnUpgrade, server: OnUpgrade, silence: Duration, mut running: Running) {
    let (Ok(client), Ok(server)) = tokio::join!(client, server) else {
        return;
    };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_server, to_server) = tokio::io::split(TokioIo::new(server));
    let (alive, mut heard) = watch::channel(());
    let deadline = running.deadline();
    tokio::select! {
        () = carry(from_client, to_server, &alive) => running.succeed(),
        () = carry(from_server, to_client, &alive) => running.succeed(),
        () = silent(&mut heard, silence) => running.succeed(),
        () = until(deadline) => drop(running.time_out()),
    }
}

async fn until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}

async fn silent(heard: &mut watch::Receiver<()>, silence: Duration) {
    while let Ok(Ok(())) = tokio::time::timeout(silence, heard.changed()).await {}
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    alive: &watch::Sender<()>,
) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        alive.send_replace(());
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
