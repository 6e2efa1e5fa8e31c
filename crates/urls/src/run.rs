//! The run of a request: its body, its event, and the reply to its result.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use engine::invoke::FunctionLookup;
use model::{Failure, FailureKind, RequestId};
use traffic::{ReceivedBody, hand_off_if_long};

use super::body::full_body;
use super::event::{self, ApiContext, RequestView};
use super::forwarded::Forwarded;
use super::peer::caller;
use super::prefix::Prefix;
use super::refusal::Refused;
use super::target::{EntryPoint, ListenerKind, Target};
use super::urls::Urls;
use super::{failure, reply};

impl Urls {
    /// Receives a request's body, runs the function, and returns the reply.
    pub(super) async fn run(
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
            return self.run_web(id, target, found, listener, parts, body).await;
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
        let result = self
            .run_event(id, target, parts, body, key.as_deref())
            .await?;
        let answer_bytes = result.as_ref().map_or(0, Bytes::len);
        Ok(hand_off_if_long(answer_bytes, || {
            self.reply(id, target, result)
        }))
    }

    /// Passes a request on to a web function's server.
    async fn run_web(
        self: &Arc<Self>,
        id: RequestId,
        target: &Target,
        found: FunctionLookup,
        listener: ListenerKind,
        parts: &mut Parts,
        body: Body,
    ) -> Result<Response, Refused> {
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
        let found = self.ingest.look_up(&target.function);
        let over = Arc::default();
        self.pass(id, target, found, parts, full_body(body), &over)
            .await
    }

    /// Runs the event of a request. `key` is the id of the key pair that signed it.
    async fn run_event(
        &self,
        id: RequestId,
        target: &Target,
        parts: &Parts,
        body: ReceivedBody,
        key: Option<&str>,
    ) -> Result<Result<Bytes, Failure>, Refused> {
        // The function may have changed while the body was received.
        let found = self.ingest.look_up(&target.function);
        let mut invocation = self.invocation(id, target, &found, parts);
        let event = |body: &[u8]| event_of(id, target, parts, body, key);
        let large = match body {
            ReceivedBody::Small(body) => {
                invocation.event = event(&body).into();
                return Ok(self.ingest.invoke(found, invocation).await?.result);
            }
            large => large,
        };
        // The body stays on disk until an instance is available.
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
        let finished = self.ingest.invoke_deferred(found, &invocation, event).await;
        drop(counted);
        Ok(finished?.result)
    }

    /// Returns the reply to the result of an event.
    fn reply(&self, id: RequestId, target: &Target, result: Result<Bytes, Failure>) -> Response {
        match (&target.entry_point, result) {
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
        }
    }
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
