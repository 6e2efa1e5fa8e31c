//! The HTTP front end of the API: authenticates and authorizes requests, dispatches actions, and encodes responses.
//!
//! Every API response has HTTP status 200 and the content type `application/json` exactly; the SDKs treat anything else as a
//! network failure. Wire types do not leave this module.
//!
//! Owns the conversion between the wire and the platform, and the choice of error codes. Never knows how a function
//! is isolated, stores' formats, or how buckets are served.
#![forbid(unsafe_code)]

mod account;
mod aliases;
mod bounds;
mod code;
mod concurrency;
mod documents;
mod domains;
mod download;
mod error;
mod events;
mod functions;
mod invoke;
mod layers;
mod logs;
mod monitoring;
mod names;
mod namespaces;
mod notifications;
mod operator;
mod policy_action;
#[cfg(test)]
mod probe;
mod provisioned;
mod receive;
mod show;
mod tags;
mod triggers;
mod versions;
mod visible;

pub use bounds::bounds;
pub use documents::ScfDocuments;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ::events::Queue;
use ::triggers::Receiver;
use access::{Access, AuthError, Principal, Transport};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use catalog::Catalog;
use control::Control;
use engine::driver::Driver;
use engine::invoke::Ingest;
use engine::runner::Runner;
use hosts::Addresses;
use model::{AccountId, Limits, RecursionDepth, RequestId, TraceContext};
use scf::action::{self, Action};
use scf::{Call, Error, Service, envelope};
use signing::{SignedCall, auth_error, raw};
use telemetry::{Exporter, InvocationLog, Metrics, trace};
use tokio::sync::Semaphore;
use tracing::{debug, error};
use traffic::{
    BodyError, BodyReader, FairPermit, FairSemaphore, Peer, ReceivedBody, hand_off_if_long,
};
use worker::{PackageStore, Worker};

pub use self::monitoring::{MetricsAccess, MetricsToken, metrics_router};
use self::names::Names;
pub use self::policy_action::{is_action, policy_actions};
use self::receive::Received;

/// The state that all requests share.
#[derive(Debug)]
pub struct Gateway {
    /// Authentication and authorisation.
    pub access: Access,
    /// Whether signatures of version 1 are accepted.
    pub signature_v1: bool,
    /// The region of the installation.
    pub region: String,
    /// The base URL of the API, if it is configured.
    pub public_url: Option<String>,
    /// The kinds of triggers that other systems notify.
    pub receivers: Vec<Arc<dyn Receiver>>,
    /// Addresses of function URLs.
    pub addresses: Arc<Addresses>,
    /// The platform's limits.
    pub limits: Arc<Limits>,
    /// Size limits of request fields.
    pub bounds: Arc<scf::Bounds>,
    /// The operations behind the actions.
    pub control: Control,
    /// The catalog.
    pub catalog: Catalog,
    /// Runs functions.
    pub ingest: Ingest,
    /// The event queue.
    pub queue: Arc<dyn Queue>,
    /// Runs queued events.
    pub runner: Runner,
    /// Starts and stops instances.
    pub driver: Driver,
    /// The interpreters and zygotes.
    pub worker: Arc<Worker>,
    /// The packages.
    pub packages: PackageStore,
    /// The log of invocations.
    pub log: InvocationLog,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Renders the metrics, with the gauges of all parts.
    pub exporter: Exporter,
    /// Decides who may read metrics.
    pub monitoring: MetricsAccess,
    /// Memory for bodies, shared fairly between accounts.
    pub body_memory: FairSemaphore<AccountId>,
    /// Serializes the verification of large version 1 forms.
    pub forms: Semaphore,
}

/// The authenticated caller of a request.
#[derive(Clone, Copy, Debug)]
struct Caller<'a> {
    account: AccountId,
    principal: &'a Principal,
    host: Option<&'a str>,
    request: RequestId,
    /// Recursion depth in the chain of functions that led to the request.
    depth: RecursionDepth,
    /// Whether the caller is a function.
    from_function: bool,
    /// Whether the request came over TLS.
    secure: bool,
    trace: Option<&'a TraceContext>,
}

/// The implementation of an action.
trait Serve: Action {
    /// Replaces other names of resources by those that policies use, before the caller's policy is checked.
    fn normalize(_: &Gateway, _: Caller<'_>, _: &mut Self::Request) {}

    fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Response, Error>> + Send;
}

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
        .route("/", axum::routing::any(api))
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

async fn api(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let id = clock::new_request_id();
    let shown = id.to_string();
    let (parts, body) = request.into_parts();
    let from = RequestOrigin::of(&parts);
    let answered = match gateway.receive(&parts, body, from).await {
        Ok(received) => gateway.answer(id, &shown, from, &parts, &received).await,
        Err(error) => Err(("", error)),
    };
    let bytes = match answered {
        Ok((action, bytes)) => {
            gateway.metrics.api_request(action, "");
            bytes
        }
        Err((action, refused)) => {
            gateway.metrics.api_request(action, refused.code.as_str());
            if refused.fault {
                error!(request = shown, action, error = %refused, "an API request failed");
            } else {
                debug!(request = shown, action, error = %refused, "an API request was refused");
            }
            envelope::error(&shown, &refused)
        }
    };
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static(envelope::CONTENT_TYPE),
    );
    response
}

impl Gateway {
    /// Returns the maximum body size: a package in base64 and space for the other fields.
    fn body_max(&self) -> usize {
        let package = (self.limits.package_bytes as usize).div_ceil(3) * 4;
        let event = 2 * self.limits.sync_event_bytes as usize;
        package.max(event) + (4 << 20)
    }

    /// Receives a body of up to `max` bytes from a caller that its headers authenticated. Large bodies wait for memory in fair order
    /// between accounts.
    async fn receive_for_account(
        &self,
        account: AccountId,
        parts: &Parts,
        body: Body,
        max: usize,
    ) -> Result<(Bytes, Option<FairPermit<AccountId>>), Error> {
        if receive::announced(&parts.headers).is_some_and(|length| length > max) {
            return Err(error::body(true, &BodyError::TooLong(max)));
        }
        let peer = parts.extensions.get::<Peer>();
        let connection = peer.map(|peer| peer.connection.clone());
        let whole = BodyReader::new(body, max, connection).whole().await;
        match whole.map_err(|e| error::body(true, &e))? {
            ReceivedBody::Small(body) => Ok((body, None)),
            ReceivedBody::Large(spooled) => {
                let (body, share) = self.load(account, &spooled).await?;
                Ok((body, Some(share)))
            }
        }
    }

    async fn answer(
        &self,
        id: RequestId,
        shown: &str,
        from: RequestOrigin,
        parts: &Parts,
        received: &Received,
    ) -> Result<(&'static str, Vec<u8>), (&'static str, Error)> {
        let headers = raw::headers(&parts.headers);
        let raw = raw::request(parts, &headers, &received.body);
        let call = Call::parse(raw).map_err(|e| ("", e))?;
        let operators = call.version == ::operator::VERSION;
        if operators && from.from_function {
            return Err(("", error::operator_denied()));
        }
        let principal = match &received.principal {
            Some(verified) => verified.clone(),
            None => {
                let principal = self.access.authenticate(&self.signed(&call), from.address);
                let principal = principal.map_err(|e| ("", self.prefer_head_error(&call, e)))?;
                let peer = parts.extensions.get::<Peer>();
                self.mark_verified(peer.map(|peer| &*peer.connection), &principal);
                principal
            }
        };
        let transport = Transport {
            from: parts
                .extensions
                .get::<Peer>()
                .map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.hop),
            private: from.secure || from.from_function,
        };
        self.access
            .check_transport(&principal, transport)
            .map_err(|e| ("", error::plain_root_key(&e)))?;
        let host = headers
            .iter()
            .find(|(name, _)| *name == "host")
            .map(|(_, value)| *value);
        let trace = trace::of(&parts.headers);
        let caller = Caller {
            account: principal.owner.id,
            principal: &principal,
            host,
            request: id,
            depth: self.depth(&principal, from),
            from_function: from.from_function,
            secure: from.secure,
            trace: trace.as_ref(),
        };
        if operators {
            self.access.sync_nonces().await;
            return self.serve_operation(&call, caller, shown).await;
        }
        let action = known_action(&call).map_err(|e| ("", e))?;
        let answer = self.dispatch(action, &call, caller, shown).await;
        answer.map(|bytes| (action, bytes)).map_err(|e| (action, e))
    }

    /// Returns the error for a request with an invalid signature. An error that its headers alone justify takes precedence, so that
    /// the answer does not depend on whether the body has arrived.
    fn prefer_head_error(&self, call: &Call<'_>, refused: AuthError<Error>) -> Error {
        if refused.is_throttled() || !call.is_in_head() {
            return auth_error(refused);
        }
        let checked = self.access.check_head(&self.signed(call));
        let checked = checked
            .map_err(auth_error)
            .and_then(|()| match &*call.version {
                ::operator::VERSION => Ok(()),
                _ => known_action(call).map(drop),
            });
        checked.err().unwrap_or_else(|| auth_error(refused))
    }

    /// Returns a call's signature, with the rules that it must follow.
    fn signed<'a, 'r>(&self, call: &'a Call<'r>) -> SignedCall<'a, 'r> {
        SignedCall::new(call, self.signature_v1)
    }

    /// Returns the recursion depth of a request: that of the function whose credentials signed it, or of the instance whose address
    /// it came from, whichever is greater.
    fn depth(&self, principal: &Principal, from: RequestOrigin) -> RecursionDepth {
        let call_chains = self.access.call_chains();
        let by_address = from
            .address
            .map(|address| call_chains.depth_of_address(address));
        principal.depth.max(by_address.unwrap_or_default())
    }

    /// Dispatches an action by name.
    async fn dispatch(
        &self,
        name: &'static str,
        call: &Call<'_>,
        caller: Caller<'_>,
        shown: &str,
    ) -> Result<Vec<u8>, Error> {
        macro_rules! serve {
            ($($action:ident,)*) => {
                match name {
                    $(action::$action::NAME => self.serve::<action::$action>(call, caller, shown).await,)*
                    _ => Err(error::internal(&format!("the action {name} has no implementation"))),
                }
            };
        }
        scf::each_action!(serve)
    }

    /// Serves an action if the caller is authorized for all resources that the request names.
    async fn serve<A: Serve>(
        &self,
        call: &Call<'_>,
        caller: Caller<'_>,
        shown: &str,
    ) -> Result<Vec<u8>, Error>
    where
        A::Request: Names,
    {
        // Without a policy, rate limits apply before the request is decoded.
        let bound = caller.principal.has_policy();
        if !bound {
            self.admit(caller, A::NAME)?;
        }
        let mut request = hand_off_if_long(call.body_length(), || call.decode::<A>(&self.bounds))?;
        A::normalize(self, caller, &mut request);
        if bound {
            self.authorize(caller, A::NAME, &request.names())?;
            self.admit(caller, A::NAME)?;
        }
        let response = A::serve(self, caller, request).await?;
        Ok(envelope::ok(shown, &response))
    }

    /// Serves an operator action. Callers with a policy never get here.
    async fn serve_operator<A: Serve>(
        &self,
        call: &Call<'_>,
        caller: Caller<'_>,
        shown: &str,
    ) -> Result<Vec<u8>, Error> {
        let request = hand_off_if_long(call.body_length(), || call.decode::<A>(&self.bounds))?;
        let response = A::serve(self, caller, request).await?;
        Ok(envelope::ok(shown, &response))
    }
}

/// The origin of a request.
#[derive(Clone, Copy, Debug)]
struct RequestOrigin {
    address: Option<IpAddr>,
    /// Whether the address is a function's.
    from_function: bool,
    /// Whether the request came over TLS.
    secure: bool,
}

impl RequestOrigin {
    fn of(parts: &Parts) -> Self {
        let peer = parts.extensions.get::<Peer>();
        Self {
            address: peer.map(|peer| peer.address),
            from_function: parts.extensions.get::<FromFunction>().is_some(),
            secure: parts.extensions.get::<OverTls>().is_some(),
        }
    }
}

/// Marks requests that came over TLS.
#[derive(Clone, Copy, Debug)]
struct OverTls;

/// Marks requests from functions.
#[derive(Clone, Copy, Debug)]
struct FromFunction;

/// Returns the requested action of the requested service.
fn known_action(call: &Call<'_>) -> Result<&'static str, Error> {
    let service = Service::of(call)?;
    let known = action::find(&call.action).filter(|known| known.service == service);
    known.map(|known| known.name).ok_or_else(|| {
        let shown: String = call.action.chars().take(60).collect();
        let Service { name, version } = service;
        let message = format!("the action {shown:?} does not exist in version {version} of {name}");
        let message = if service == scf::TAG {
            let own = scf::ACTIONS.iter().filter(|one| one.service == service);
            let own: Vec<_> = own.map(|one| one.name).collect();
            format!("{message} here; there are {}", own.join(", "))
        } else {
            message
        };
        error::no_action(message)
    })
}
