//! A request of the API, from its head to its answer.

use std::net::Ipv4Addr;
use std::sync::Arc;

use access::{AuthError, Principal, Transport};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::response::Response;
use model::{RecursionDepth, RequestId};
use scf::action::{self, Action};
use scf::{Call, Error, envelope};
use signing::{SignedCall, auth_error, raw};
use telemetry::trace;
use tracing::{debug, error};
use traffic::{Peer, hand_off_if_long};

use super::error;
use super::gateway::{Caller, Gateway, Serve};
use super::names::Names;
use super::origin::RequestOrigin;
use super::policy_action::known_action;
use super::receive::Received;

pub(super) async fn api(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
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
    pub(super) fn signed<'a, 'r>(&self, call: &'a Call<'r>) -> SignedCall<'a, 'r> {
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
    pub(super) async fn serve_operator<A: Serve>(
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
