//! Requests to web functions, proxied to the server in the instance.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use axum::response::Response;
use engine::invoke::web::{IDLE_TIMEOUT, REPLY, ReplyBody, WebInvocation};
use engine::invoke::{AcquireOptions, FunctionLookup, Invocation, Placement};
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use model::{FailureKind, RequestId};
use telemetry::trace;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use traffic::Peer;
use worker::{InstanceSpec, Outgoing};

use super::event::{self, REMOTE};
use super::forwarded::{Added, Forwarded};
use super::prefix::Prefix;
use super::{Refused, Target, Urls, caller, routing_key};

/// Bytes copied at a time.
const BUFFER: usize = 16 << 10;

impl Urls {
    /// Proxies a request to a function's server, and its reply back.
    #[expect(
        clippy::too_many_lines,
        reason = "one request and its reply, step by step"
    )]
    pub(super) async fn pass(
        self: &Arc<Self>,
        id: RequestId,
        target: &Target,
        found: FunctionLookup,
        parts: &mut Parts,
        body: Outgoing,
        too_long: &Notify,
    ) -> Result<Response, Refused> {
        let invocation = Invocation {
            request: id,
            function: target.function.clone(),
            qualifier: target.qualifier.clone(),
            routing_key: routing_key(&found, target, parts),
            event: bytes::Bytes::new(),
            tail: false,
            retry: 0,
            depth: self.depth(parts),
            origin: target.origin(),
            trace: trace::of(&parts.headers),
        };
        let mut waiting = AcquireOptions::default();
        let placed = self
            .ingest
            .place_sync(found, &invocation, &mut waiting)
            .await;
        let ready = match placed.map_err(Refused::ingest)? {
            Placement::Ready(ready) => ready,
            Placement::Refused(refused) => {
                return Ok(self.failed(target, id, &refused.failure));
            }
        };
        let spec = ready.spec().clone();
        let silence = spec.silence.unwrap_or(IDLE_TIMEOUT);
        let upgrade = Upgrade::of(parts);
        let sent = Sent {
            id,
            spec: &spec,
            region: &self.region,
            uri: uri(target, parts)?,
            prefix: target.prefix(parts),
            parts,
            upgrade: upgrade.as_ref(),
            length: body.size_hint().exact(),
        };
        let passed = ready.pass(&|| sent.head(), body, too_long).await;
        let (mut reply, mut running) = match passed {
            Ok(passed) => passed,
            Err(failure) => return Ok(self.failed(target, id, &failure)),
        };
        let limit = self.limits.web_header_bytes;
        if limit != 0 && length(reply.headers()) > limit {
            let failure = running.too_long("the reply's headers are", limit);
            return Ok(self.failed(target, id, &failure));
        }
        let connection = parts.extensions.get::<Peer>();
        let connection = connection.map(|peer| peer.connection.clone());
        if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched = reply.headers().get(UPGRADE).cloned();
            let Some((client, protocol)) =
                upgrade.zip(switched).filter(|(asked, to)| asked.is_for(to))
            else {
                let message =
                    "the function's server switched to a protocol that the client did not ask for";
                let failure = running.refuse(message);
                return Ok(self.failed(target, id, &failure));
            };
            let server = hyper::upgrade::on(&mut reply);
            let (mut head, _) = reply.into_parts();
            remove_hop_by_hop(&mut head.headers);
            head.headers.remove(CONTENT_LENGTH);
            head.headers.insert(UPGRADE, protocol);
            head.headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            tokio::spawn(async move {
                let closed = async {
                    match connection {
                        Some(connection) => connection.closed().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = relay(client.client, server, silence, running) => {}
                    // The reader is too slow, or the connection was evicted.
                    () = closed => {}
                }
            });
            return Ok(Response::from_parts(head, Body::empty()));
        }
        let (mut head, body) = reply.into_parts();
        if !is_framed_as_read(&head.headers) {
            let message = "the function's server sent its reply in a coding other than chunked";
            let failure = running.refuse(message);
            return Ok(self.failed(target, id, &failure));
        }
        let limit = self.limits.web_response_bytes;
        if limit != 0 && body.size_hint().lower() > limit {
            let failure = running.too_long(REPLY, limit);
            return Ok(self.failed(target, id, &failure));
        }
        set_length(&mut head.headers, head.status, &parts.method);
        remove_hop_by_hop(&mut head.headers);
        let passing = ReplyBody::new(body, running, limit, connection, &self.reply_deadlines);
        Ok(Response::from_parts(head, Body::new(passing)))
    }
}

/// Returns whether a reply was decoded completely: only the chunked coding is removed here.
fn is_framed_as_read(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// Leaves the length of a body to the writer. Without a body, e.g. in a reply to `HEAD`, a valid announced length stays.
fn set_length(headers: &mut HeaderMap, status: StatusCode, method: &Method) {
    let mut announced = headers.get_all(CONTENT_LENGTH).iter();
    let length = announced.next().cloned();
    let digits = |value: &HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    let length = length.filter(|length| digits(length) && announced.all(|other| other == length));
    headers.remove(CONTENT_LENGTH);
    // With a transfer coding the length would describe nothing.
    let bodiless = method == Method::HEAD && !headers.contains_key(TRANSFER_ENCODING);
    if let Some(length) = length.filter(|_| bodiless && status != StatusCode::NO_CONTENT) {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// Returns the bytes of names and values.
fn length(headers: &HeaderMap) -> u64 {
    let pairs = headers.iter();
    let lengths = pairs.map(|(name, value)| name.as_str().len() + value.len());
    lengths.sum::<usize>() as u64
}

/// A request to switch to another protocol, e.g. WebSocket.
struct Upgrade {
    /// The names of the protocols.
    asked: HeaderValue,
    /// The connection, once it is free.
    client: OnUpgrade,
}

impl Upgrade {
    /// Extracts a request's upgrade; `None` if it asks for none or cannot have one.
    fn of(parts: &mut Parts) -> Option<Self> {
        let asked = parts.headers.get(UPGRADE)?.clone();
        let connection = parts.headers.get_all(CONNECTION);
        let upgrades = connection.iter().any(|value| has_token(value, "upgrade"));
        (upgrades && parts.version == Version::HTTP_11).then_some(())?;
        let client = parts.extensions.remove::<OnUpgrade>()?;
        Some(Self { asked, client })
    }

    /// Returns whether a protocol is among those asked for.
    fn is_for(&self, protocol: &HeaderValue) -> bool {
        protocol
            .to_str()
            .is_ok_and(|protocol| has_token(&self.asked, protocol.trim()))
    }
}

/// Returns whether a comma-separated header contains a token, ignoring case.
fn has_token(list: &HeaderValue, word: &str) -> bool {
    let mut words = list.to_str().unwrap_or_default().split(',');
    words.any(|one| one.trim().eq_ignore_ascii_case(word))
}

/// Returns the URI for the function's server.
fn uri(target: &Target, parts: &Parts) -> Result<Uri, Refused> {
    let path = target.path.as_deref().unwrap_or(parts.uri.path());
    let whole = match parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    whole.parse().map_err(|_| {
        let message = "the path cannot be passed on".to_owned();
        Refused::new(
            StatusCode::BAD_REQUEST,
            FailureKind::InvalidRequest,
            message,
        )
    })
}

/// The request that is sent to a function's server.
struct Sent<'a> {
    id: RequestId,
    spec: &'a InstanceSpec,
    region: &'a str,
    uri: Uri,
    parts: &'a Parts,
    prefix: Option<Prefix<'a>>,
    upgrade: Option<&'a Upgrade>,
    /// Length of the body, if it is known.
    length: Option<u64>,
}

impl Sent<'_> {
    /// Builds the head. It may be sent again on another connection, so it is built each time.
    fn head(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        *headers = self.parts.headers.clone();
        remove_hop_by_hop(headers);
        headers.remove(EXPECT);
        // The length as it was read, whatever was announced.
        if headers.remove(CONTENT_LENGTH).is_some()
            && let Some(length) = self.length
        {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        if let Some(upgrade) = self.upgrade {
            headers.insert(UPGRADE, upgrade.asked.clone());
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        let prefix = self.prefix.as_ref().map(Prefix::as_seen);
        let forwarded = Forwarded::of(self.parts, prefix);
        let spec = self.spec;
        let function = &spec.function;
        let added: [Added<'_>; 10] = [
            ("x-scf-request-id", self.id.to_string().into()),
            ("x-scf-memory", spec.memory.mb().to_string().into()),
            ("x-scf-timeout", spec.timeout.as_secs().to_string().into()),
            ("x-scf-version", spec.version.to_string().into()),
            ("x-scf-name", function.name.to_string().into()),
            ("x-scf-namespace", function.namespace.to_string().into()),
            ("x-scf-region", self.region.into()),
            ("x-scf-appid", function.account.to_string().into()),
            ("x-scf-uin", spec.platform.uin.as_str().into()),
            (REMOTE, caller(self.parts).to_string().into()),
        ];
        let forged: Vec<_> = headers
            .keys()
            .filter(|name| event::is_replaced(name.as_str(), &forwarded, &added))
            .cloned()
            .collect();
        for name in forged {
            headers.remove(name);
        }
        for (name, value) in added.iter().chain(&forwarded.added) {
            let name = *name;
            if let Ok(value) = HeaderValue::try_from(value.as_ref()) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        request
    }
}

/// Removes hop-by-hop headers, except for the length of a body.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
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

/// Copies bytes in both directions until one side ends, both are silent for too long, or the function times out.
async fn relay(
    client: OnUpgrade,
    server: OnUpgrade,
    silence: Duration,
    mut running: WebInvocation,
) {
    let deadline = running.deadline();
    let both = async { tokio::join!(client, server) };
    let (client, server) = match tokio::time::timeout_at(deadline.into(), both).await {
        Ok((Ok(client), Ok(server))) => (client, server),
        Ok(_) => return,
        Err(_) => return drop(running.time_out()),
    };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_server, to_server) = tokio::io::split(TokioIo::new(server));
    let (alive, mut activity) = watch::channel(());
    tokio::select! {
        () = carry(from_client, to_server, &alive) => running.succeed(),
        () = carry(from_server, to_client, &alive) => running.succeed(),
        () = silent(&mut activity, silence) => running.succeed(),
        () = until(deadline) => drop(running.time_out()),
    }
}

async fn until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}

async fn silent(activity: &mut watch::Receiver<()>, silence: Duration) {
    while let Ok(Ok(())) = tokio::time::timeout(silence, activity.changed()).await {}
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
