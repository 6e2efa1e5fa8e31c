//! Requests to web functions, proxied to the server in the instance.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri};
use axum::response::Response;
use engine::invoke::web::{IDLE_TIMEOUT, REPLY, ReplyBody, WebInvocation};
use engine::invoke::{AcquireOptions, FunctionLookup, Placement};
use hyper::body::Body as _;
use model::{Failure, FailureKind, RequestId};
use tokio::sync::Notify;
use traffic::Connection;
use worker::{InstanceSpec, Outgoing, StreamedReply};

use super::event::{self, REMOTE};
use super::forwarded::{Added, Forwarded};
use super::peer::{caller, connection};
use super::prefix::Prefix;
use super::refusal::Refused;
use super::target::Target;
use super::upgrade::Upgrade;
use super::urls::Urls;

impl Urls {
    /// Proxies a request to a function's server, and its reply back.
    pub(super) async fn pass(
        self: &Arc<Self>,
        id: RequestId,
        target: &Target,
        found: FunctionLookup,
        parts: &mut Parts,
        body: Outgoing,
        too_long: &Notify,
    ) -> Result<Response, Refused> {
        let invocation = self.invocation(id, target, &found, parts);
        let mut waiting = AcquireOptions::default();
        let placed = self
            .ingest
            .place_sync(found, &invocation, &mut waiting)
            .await;
        let ready = match placed? {
            Placement::Ready(ready) => ready,
            Placement::Refused(refused) => {
                return Ok(self.failed(target, id, &refused.failure));
            }
        };
        let spec = ready.spec().clone();
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
        let replied = match passed {
            Ok((reply, running)) => {
                let connection = connection(parts).cloned();
                if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
                    let silence = spec.silence.unwrap_or(IDLE_TIMEOUT);
                    self.switched(reply, running, upgrade, silence, connection)
                } else {
                    self.replied(reply, running, &parts.method, connection)
                }
            }
            Err(failure) => Err(failure),
        };
        Ok(replied.unwrap_or_else(|failure| self.failed(target, id, &failure)))
    }

    /// Switches to the protocol that the server and the client have agreed upon.
    fn switched(
        &self,
        mut reply: axum::http::Response<StreamedReply>,
        mut running: WebInvocation,
        upgrade: Option<Upgrade>,
        silence: Duration,
        connection: Option<Arc<Connection>>,
    ) -> Result<Response, Failure> {
        self.check_headers(reply.headers(), &mut running)?;
        let switched = reply.headers().get(UPGRADE).cloned();
        let agreed = upgrade.zip(switched).filter(|(asked, to)| asked.is_for(to));
        let Some((client, protocol)) = agreed else {
            let message =
                "the function's server switched to a protocol that the client did not ask for";
            return Err(running.refuse(message));
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
                () = client.relay(server, silence, running) => {}
                // The reader is too slow, or the connection was evicted.
                () = closed => {}
            }
        });
        Ok(Response::from_parts(head, Body::empty()))
    }

    /// Streams a server's reply.
    fn replied(
        &self,
        reply: axum::http::Response<StreamedReply>,
        mut running: WebInvocation,
        method: &Method,
        connection: Option<Arc<Connection>>,
    ) -> Result<Response, Failure> {
        self.check_headers(reply.headers(), &mut running)?;
        let (mut head, body) = reply.into_parts();
        if !is_framed_as_read(&head.headers) {
            let message = "the function's server sent its reply in a coding other than chunked";
            return Err(running.refuse(message));
        }
        let limit = self.limits.web_response_bytes;
        if limit != 0 && body.size_hint().lower() > limit {
            return Err(running.too_long(REPLY, limit));
        }
        set_length(&mut head.headers, head.status, method);
        remove_hop_by_hop(&mut head.headers);
        let passing = ReplyBody::new(body, running, limit, connection, &self.reply_deadlines);
        Ok(Response::from_parts(head, Body::new(passing)))
    }

    fn check_headers(
        &self,
        headers: &HeaderMap,
        running: &mut WebInvocation,
    ) -> Result<(), Failure> {
        let limit = self.limits.web_header_bytes;
        if limit != 0 && length(headers) > limit {
            return Err(running.too_long("the reply's headers are", limit));
        }
        Ok(())
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
