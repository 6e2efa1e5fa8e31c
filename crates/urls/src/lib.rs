//! HTTP requests to functions. A request whose host or path belongs to a function is routed here, before the API's
//! routes.
//!
//! Owns the translation between HTTP requests and invocations. Never knows the API's actions, buckets, or the gateways.
#![forbid(unsafe_code)]

mod apigw;
mod body;
mod cors;
mod error_status;
mod event;
mod failure;
mod forwarded;
mod lenient;
mod prefix;
mod refusal;
mod reply;
mod router;
mod shared_origin;
mod web;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use access::{Access, CallChains, NotAdmitted, Transport};
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use catalog::Catalog;
use engine::invoke::web::ReplyDeadlines;
use engine::invoke::{FunctionLookup, Ingest, Invocation};
use hosts::{Addresses, ApiHosts, host_name, is_service, read_path};
use model::{
    Cors, Domain, FailureKind, FunctionKey, FunctionUrl, InvocationOrigin, Limits, Qualifier,
    RecursionDepth, RequestId, RoutingKey, TriggerName, UrlAuth,
};
use ownership::Ownership;
use scf::Call;
use signing::{SignedCall, auth_error, raw};
use telemetry::trace;
use tracing::debug;
use traffic::{Peer, ReceivedBody, hand_off_if_long};

use self::apigw::{ANY_ORIGIN, MatchedApi};
use self::body::{connection, full_body};
pub use self::error_status::UrlErrors;
use self::event::{ApiContext, RequestView};
use self::forwarded::Forwarded;
use self::prefix::Prefix;
use self::refusal::Refused;
pub use self::router::{ListenerKind, UrlRouter};

/// The settings for URLs.
#[derive(Clone, Debug)]
pub struct UrlSettings {
    /// The addresses of functions' URLs.
    pub addresses: Arc<Addresses>,
    /// The hosts of the API.
    pub hosts: Arc<ApiHosts>,
    /// The proofs of ownership of custom domains.
    pub ownership: Arc<Ownership>,
    /// The HTTP status of failed requests.
    pub errors: UrlErrors,
}

/// Routes and serves HTTP requests to functions.
pub struct Urls {
    region: String,
    addresses: Arc<Addresses>,
    hosts: Arc<ApiHosts>,
    ownership: Arc<Ownership>,
    errors: UrlErrors,
    limits: Arc<Limits>,
    catalog: Catalog,
    ingest: Ingest,
    call_chains: CallChains,
    access: Access,
    reply_deadlines: Arc<ReplyDeadlines>,
}

impl std::fmt::Debug for Urls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Urls").finish_non_exhaustive()
    }
}

/// The function that a request is routed to.
#[derive(Debug)]
struct Target {
    function: FunctionKey,
    /// The function, if it was found by its URL.
    found: Option<FunctionLookup>,
    qualifier: Qualifier,
    /// The path for the function, if it differs from the request's.
    path: Option<String>,
    entry_point: EntryPoint,
    /// Whether the request came by the path form, which puts a prefix before the function's path.
    by_path: bool,
    /// Whether the origin may be shared: a browser may have used the path form, where all functions have one origin.
    shared_origin: bool,
}

/// The entry point through which a request came.
#[derive(Debug)]
enum EntryPoint {
    Domain,
    Url(FunctionUrl),
    Api(Box<MatchedApi>),
}

impl Target {
    /// Returns the CORS settings, if the platform handles CORS instead of the function.
    fn cors(&self) -> Option<&Cors> {
        match &self.entry_point {
            EntryPoint::Domain => None,
            EntryPoint::Url(url) => url.cors.as_ref(),
            EntryPoint::Api(matched) => matched.api.cors.then(|| &*ANY_ORIGIN),
        }
    }

    /// Returns the origin of its invocations.
    fn origin(&self) -> InvocationOrigin {
        match &self.entry_point {
            EntryPoint::Domain => InvocationOrigin::Domain,
            EntryPoint::Url(_) => InvocationOrigin::Url,
            EntryPoint::Api(_) => InvocationOrigin::ApiGateway,
        }
    }

    /// Returns the prefix before the function's path, in the path form.
    fn prefix<'a>(&self, parts: &'a Parts) -> Option<Prefix<'a>> {
        let path = self.path.as_deref().filter(|_| self.by_path)?;
        Prefix::of(parts, path)
    }

    /// Returns whether a signature over the whole request is required.
    fn is_signed_whole(&self) -> bool {
        matches!(&self.entry_point, EntryPoint::Url(url) if url.auth == UrlAuth::Signed)
    }
}

impl Urls {
    /// Creates the router to functions.
    pub fn new(
        settings: UrlSettings,
        limits: Arc<Limits>,
        catalog: Catalog,
        ingest: Ingest,
        access: Access,
    ) -> Self {
        let UrlSettings {
            addresses,
            hosts,
            ownership,
            errors,
        } = settings;
        Self {
            region: access.region().to_owned(),
            addresses,
            hosts,
            ownership,
            errors,
            limits,
            catalog,
            ingest,
            call_chains: access.call_chains().clone(),
            access,
            reply_deadlines: Arc::default(),
        }
    }

    /// Finds the target of a request; `None` if neither its host nor its path is a function's.
    fn find(&self, listener: ListenerKind, request: &Request) -> Option<Result<Target, Refused>> {
        // HTTP/1.0 requires no host, and the path form works without one.
        let host = request.headers().get(HOST);
        let host = host.map_or(Some(""), |host| host.to_str().ok())?;
        let (host, path) = (host_name(host), request.uri().path());
        let service_target = |id: &str, account: Option<&str>, path: &str| {
            self.service_target(id, account, path, request.method(), request.headers())
        };
        // A host that the operator configured for the API is never a function's.
        if self.addresses.covers(&host) && !self.hosts.names(&host) {
            let (account, id) = self.addresses.read_host(&host).unwrap_or_default();
            return Some(match is_service(id) {
                true => service_target(id, Some(account), path),
                false => self.url_target(id, Some(account), None),
            });
        }
        // A domain stored by an older version may equal a host of the API, which has precedence.
        if self.hosts.reserves(&host).is_none()
            && let Some(domain) = self.catalog.domain(&host)
        {
            let domain = &domain.value;
            return Some(match self.ownership.serves(domain, clock::now_ms) {
                true => domain_target(domain, path),
                false => Err(closed(domain)),
            });
        }
        let (id, below) = read_path(path)?;
        // Functions always have the path form, and are not browsers.
        let inside = listener == ListenerKind::Inside;
        if !(inside || self.addresses.has_paths()) {
            return None;
        }
        let found = if is_service(id) {
            service_target(id, None, below)
        } else {
            let below = if below.is_empty() { "/" } else { below };
            self.url_target(id, None, Some(below.to_owned()))
        };
        Some(found.map(|target| Target {
            by_path: true,
            shared_origin: !inside,
            ..target
        }))
    }

    /// Finds the target of a URL's id. The function must be `account`'s if that is given.
    fn url_target(
        &self,
        id: &str,
        account: Option<&str>,
        path: Option<String>,
    ) -> Result<Target, Refused> {
        let not_found = || {
            let message = "no function has this URL".to_owned();
            Refused::new(StatusCode::NOT_FOUND, FailureKind::FunctionMissing, message)
        };
        let name = TriggerName::parse(id).map_err(|_| not_found())?;
        let stored = self.catalog.function_of_url(&name).ok_or_else(not_found)?;
        let function = &stored.value;
        let (trigger, url) = function.url(id).ok_or_else(not_found)?;
        if account.is_some_and(|account| account != function.key.account.to_string()) {
            return Err(not_found());
        }
        if !trigger.enabled {
            let message = "this function's URL is disabled; enable its trigger".to_owned();
            return Err(Refused::new(
                StatusCode::FORBIDDEN,
                FailureKind::Forbidden,
                message,
            ));
        }
        Ok(Target {
            function: function.key.clone(),
            found: Some(stored.clone().into()),
            qualifier: trigger.qualifier.clone(),
            path,
            entry_point: EntryPoint::Url(url.clone()),
            by_path: false,
            shared_origin: false,
        })
    }

    async fn serve(
        self: &Arc<Self>,
        target: Target,
        listener: ListenerKind,
        request: Request,
    ) -> Response {
        let id = clock::new_request_id();
        let (mut parts, body) = request.into_parts();
        let cors = target.cors();
        let preflight = cors.and_then(|cors| cors::preflight(cors, &parts.method, &parts.headers));
        let refused = refuse(&target, listener == ListenerKind::Inside);
        let refused = refused.or_else(|| match target.shared_origin {
            true => shared_origin::strip_request(&mut parts.headers).err(),
            false => None,
        });
        let mut reply = match (refused, preflight) {
            (Some(refused), _) => refused.reply(id),
            // A preflight request does not reach the function.
            (None, Some(answer)) => answer,
            (None, None) => {
                let mut reply = match self.run(id, &target, listener, &mut parts, body).await {
                    Ok(reply) => reply,
                    Err(refused) => {
                        debug!(request = %id, function = %target.function.name, ?refused, "a request was refused");
                        match refused.private_failure() {
                            Some(failure) => {
                                let document = failure::visible(&target, id, failure);
                                // Codes that are HTTP statuses, too, keep theirs in either mode.
                                let own = refused.status.as_u16() == failure.kind.number();
                                let status = if own {
                                    self.errors.status(failure.kind)
                                } else {
                                    refused.status
                                };
                                reply::json(status, document)
                            }
                            None => refused.reply(id),
                        }
                    }
                };
                if let Some(cors) = cors {
                    cors::mark(cors, &parts.headers, reply.headers_mut());
                }
                reply
            }
        };
        if let Some(prefix) = target.prefix(&parts) {
            prefix.restore(reply.headers_mut(), |path| self.is_function_path(path));
        }
        if target.shared_origin {
            shared_origin::strip_reply(reply.headers_mut());
        }
        reply::name(
            reply.headers_mut(),
            id,
            matches!(target.entry_point, EntryPoint::Api(_)),
        );
        reply
    }

    /// Returns whether a path is of the path form and belongs to a function.
    fn is_function_path(&self, path: &[u8]) -> bool {
        let end = path.iter().position(|byte| b"?#".contains(byte));
        let path = std::str::from_utf8(&path[..end.unwrap_or(path.len())]);
        let id = path.ok().and_then(read_path).map(|(id, _)| id);
        let id = id.and_then(|id| TriggerName::parse(id).ok());
        id.is_some_and(|id| self.catalog.function_of_url(&id).is_some())
    }

    /// Authenticates a request if its target requires a signature. Returns the key's id for an API.
    fn authenticate(
        &self,
        target: &Target,
        listener: ListenerKind,
        parts: &Parts,
        body: &ReceivedBody,
    ) -> Result<Option<String>, Refused> {
        match &target.entry_point {
            EntryPoint::Url(url) if url.auth == UrlAuth::Signed => {}
            EntryPoint::Api(matched) if matched.api.signed => {}
            EntryPoint::Domain | EntryPoint::Url(_) | EntryPoint::Api(_) => return Ok(None),
        }
        let headers = raw::headers(&parts.headers);
        let small: &[u8] = match body {
            ReceivedBody::Small(body) => body,
            ReceivedBody::Large(_) => &[],
        };
        let raw = raw::request(parts, &headers, small);
        let transport = Transport {
            from: caller(parts),
            private: listener != ListenerKind::Plain,
        };
        if matches!(target.entry_point, EntryPoint::Api(_)) {
            let key = self.key_of(&target.function, transport, raw)?;
            verified(parts, target);
            return Ok(Some(key));
        }
        let call = Call::parse_url(raw).map_err(unsigned)?;
        let call = match body {
            ReceivedBody::Small(_) => call,
            ReceivedBody::Large(spooled) => call.with_digest(spooled.digest),
        };
        self.access
            .admit_to_url(&SignedCall::of_url(&call), transport, &target.function)
            .map_err(not_admitted)?;
        verified(parts, target);
        Ok(None)
    }

    /// Checks the head of a request whose signature covers the body, before the body is received.
    fn precheck(&self, target: &Target, parts: &Parts) -> Result<(), Refused> {
        if !target.is_signed_whole() {
            return Ok(());
        }
        let headers = raw::headers(&parts.headers);
        let raw = raw::request(parts, &headers, &[]);
        let from = caller(parts);
        let call = Call::parse_url(raw).map_err(unsigned)?;
        self.access
            .precheck(&SignedCall::of_url(&call), Some(from))
            .map_err(|refused| unsigned(auth_error(refused)))
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one request and its reply, step by step"
    )]
    async fn run(
        self: &Arc<Self>,
        id: RequestId,
        target: &Target,
        listener: ListenerKind,
        parts: &mut Parts,
        body: Body,
    ) -> Result<Response, Refused> {
        let look_up = || self.ingest.look_up(&target.function);
        let found = target.found.clone().unwrap_or_else(look_up);
        if found.is_web() {
            if parts.method == Method::CONNECT {
                // CONNECT asks for a tunnel, not for a reply.
                let message = "CONNECT is not supported: a function is not a proxy".to_owned();
                let status = StatusCode::METHOD_NOT_ALLOWED;
                return Err(Refused::new(status, FailureKind::InvalidRequest, message));
            }
            if !target.is_signed_whole() {
                self.authenticate(target, listener, parts, &ReceivedBody::Small(Bytes::new()))?;
                let (body, over) = self.passed(parts, body)?;
                return self.pass(id, target, found, parts, body, &over).await;
            }
            self.precheck(target, parts)?;
            let body = self.receive(parts, body).await?;
            self.authenticate(target, listener, parts, &body)?;
            let (body, _held) = self.load(parts, body).await?;
            // The function may have changed while the body was received.
            let found = look_up();
            let over = Arc::default();
            return self
                .pass(id, target, found, parts, full_body(body), &over)
                .await;
        }
        self.precheck(target, parts)?;
        // A key pair signs the head alone.
        let nothing = ReceivedBody::Small(Bytes::new());
        let key = match &target.entry_point {
            EntryPoint::Api(_) => self.authenticate(target, listener, parts, &nothing)?,
            EntryPoint::Domain | EntryPoint::Url(_) => None,
        };
        let body = self.receive(parts, body).await?;
        if target.is_signed_whole() {
            self.authenticate(target, listener, parts, &body)?;
        }
        // The function may have changed while the body was received.
        let found = look_up();
        let mut invocation = Invocation {
            request: id,
            function: target.function.clone(),
            qualifier: target.qualifier.clone(),
            routing_key: routing_key(&found, target, parts),
            event: Bytes::new(),
            tail: false,
            retry: 0,
            depth: self.depth(parts),
            origin: target.origin(),
            trace: trace::of(&parts.headers),
        };
        let event = |body: &[u8]| event_of(id, target, parts, body, key.as_deref());
        let finished = match body {
            ReceivedBody::Small(body) => {
                invocation.event = event(&body).into();
                let finished = self.ingest.invoke(found, invocation).await;
                finished.map_err(Refused::ingest)?
            }
            // The body stays on disk until an instance is available.
            large => {
                let mut counted = None;
                let event = async {
                    let (body, held) = self.load(parts, large).await?;
                    let event = hand_off_if_long(body.len(), || event(&body));
                    counted = held;
                    if let Some(held) = &mut counted {
                        held.shrink(event.len() as u64);
                    }
                    Ok::<Bytes, Refused>(event.into())
                };
                let finished = self
                    .ingest
                    .invoke_deferred(found, &invocation, event)
                    .await?;
                drop(counted);
                finished
            }
        };
        let answer_bytes = finished.result.as_ref().map_or(0, Bytes::len);
        let reply = || match (&target.entry_point, finished.result) {
            (EntryPoint::Api(matched), Ok(answer)) if matched.api.integrated => {
                reply::integrated(&answer, self.errors)
            }
            // Without integration the function's document is passed on, also that of a failure.
            (EntryPoint::Api(_), Ok(answer)) => reply::json(StatusCode::OK, answer),
            (EntryPoint::Api(matched), Err(failure)) if !matched.api.integrated => {
                reply::json(StatusCode::OK, failure::visible(target, id, &failure))
            }
            (_, Ok(answer)) => reply::from_answer(answer, self.errors),
            (_, Err(failure)) => self.failed(target, id, &failure),
        };
        Ok(hand_off_if_long(answer_bytes, reply))
    }

    /// Returns the recursion depth of a request in its call chain.
    fn depth(&self, parts: &Parts) -> RecursionDepth {
        self.call_chains.depth_of_address(caller(parts))
    }
}

/// Returns the headers that the rules of an alias refer to.
fn routing_key(found: &FunctionLookup, target: &Target, parts: &Parts) -> RoutingKey {
    let (Qualifier::Alias(alias), Some(function)) = (&target.qualifier, found.function()) else {
        return RoutingKey::new();
    };
    let named = function.aliases.get(alias).into_iter();
    let keys = named.flat_map(|alias| alias.routing.rules.iter().map(|rule| &rule.name));
    keys.filter_map(|key| {
        let value = parts.headers.get(key.as_str())?.to_str().ok()?;
        Some((key.clone(), value.to_owned()))
    })
    .collect()
}

/// Builds the event for a request.
fn event_of(
    id: RequestId,
    target: &Target,
    parts: &Parts,
    body: &[u8],
    key: Option<&str>,
) -> Vec<u8> {
    let prefix = target.prefix(parts);
    let seen = RequestView {
        method: &parts.method,
        path: target.path.as_deref().unwrap_or(parts.uri.path()),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
        forwarded: &Forwarded::of(parts, prefix.as_ref().map(Prefix::as_seen)),
        body,
        from: caller(parts),
    };
    match &target.entry_point {
        EntryPoint::Domain | EntryPoint::Url(_) => event::url_event(&seen),
        EntryPoint::Api(matched) => event::api_event(
            &seen,
            &ApiContext {
                matched,
                qualifier: &target.qualifier,
                request: id,
                key,
            },
        ),
    }
}

/// Records on a connection that its caller belongs to the function's account.
fn verified(parts: &Parts, target: &Target) {
    if let Some(connection) = connection(parts) {
        connection.verified(target.function.account);
    }
}

/// Maps the reason why a caller may not call a function's URL.
fn not_admitted(error: NotAdmitted<scf::Error>) -> Refused {
    let message = match error {
        NotAdmitted::Auth(refused) => return unsigned(auth_error(refused)),
        NotAdmitted::OtherAccount => "the URL belongs to another account".to_owned(),
        NotAdmitted::PlainRootKey(refused) => refused.to_string(),
        NotAdmitted::Denied(refused) => refused.to_string(),
    };
    Refused::new(StatusCode::FORBIDDEN, FailureKind::Forbidden, message)
}

/// Maps a failed authentication to its refusal.
fn unsigned(error: scf::Error) -> Refused {
    let message = format!("{}: {}", error.code.as_str(), error.message);
    Refused::new(
        StatusCode::UNAUTHORIZED,
        FailureKind::Unauthenticated,
        message,
    )
}

/// Refuses a URL that is closed to callers from inside, or to those from outside.
fn refuse(target: &Target, inside: bool) -> Option<Refused> {
    let EntryPoint::Url(url) = &target.entry_point else {
        return None;
    };
    let open = if inside { url.intranet } else { url.extranet };
    (!open).then(|| {
        let message = "this function's URL does not allow access from this network".to_owned();
        Refused::new(StatusCode::FORBIDDEN, FailureKind::Forbidden, message)
    })
}

/// Refuses a request to a domain without a proof of ownership.
fn closed(domain: &Domain) -> Refused {
    let message = format!("{} is closed: its ownership is not proved", domain.name);
    let status = StatusCode::FORBIDDEN;
    Refused::new(status, FailureKind::Forbidden, message)
}

/// Finds the target of a path on a custom domain.
fn domain_target(domain: &Domain, path: &str) -> Result<Target, Refused> {
    let route = domain.route(path).ok_or_else(|| {
        let message = format!("{} has no route for {path}", domain.name);
        Refused::new(StatusCode::NOT_FOUND, FailureKind::FunctionMissing, message)
    })?;
    Ok(Target {
        function: FunctionKey {
            account: domain.account,
            namespace: route.namespace.clone(),
            name: route.function.clone(),
        },
        found: None,
        qualifier: route.qualifier.clone(),
        path: route.rewrite(path),
        entry_point: EntryPoint::Domain,
        by_path: false,
        shared_origin: false,
    })
}

fn caller(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<Peer>();
    peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.address)
}
