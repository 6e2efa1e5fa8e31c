//! Receiving request bodies. Requests that their headers already make invalid are rejected before the body arrives. Large bodies
//! are spooled to disk until the signature over them is verified.

use std::sync::Arc;

use access::Principal;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT};
use axum::http::request::Parts;
use bytes::Bytes;
use model::AccountId;
use scf::{Call, Error, FORM_MAX, RawRequest, form_too_long};
use signing::{auth_error, raw};
use traffic::{
    BodyError, BodyReader, Connection, FairPermit, IN_MEMORY_MAX, Peer, ReceivedBody, SpooledBody,
};

use super::error;
use super::gateway::Gateway;
use super::origin::RequestOrigin;
use super::policy_action::known_action;

/// A received body.
pub(super) struct Received {
    pub(super) body: Bytes,
    /// The caller, if the signature is already verified.
    pub(super) principal: Option<Arc<Principal>>,
    /// The reservation of body memory, held until the response is complete.
    _memory: Option<FairPermit<AccountId>>,
}

impl Received {
    fn small(body: Bytes) -> Self {
        Self {
            body,
            principal: None,
            _memory: None,
        }
    }
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
    pub(super) async fn receive_for_account(
        &self,
        account: AccountId,
        parts: &Parts,
        body: Body,
        max: usize,
    ) -> Result<(Bytes, Option<FairPermit<AccountId>>), Error> {
        if announced(&parts.headers).is_some_and(|length| length > max) {
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

    /// Receives the body of a request.
    ///
    /// # Errors
    /// Returns an error if the headers or the body are invalid.
    pub(super) async fn receive(
        &self,
        parts: &Parts,
        body: Body,
        from: RequestOrigin,
    ) -> Result<Received, Error> {
        let peer = parts.extensions.get::<Peer>();
        let connection = peer.map(|peer| peer.connection.clone());
        let signed = parts.headers.contains_key(AUTHORIZATION);
        // Without an Authorization header, the body is a version 1 form.
        let limit = if signed { self.body_max() } else { FORM_MAX };
        let announced = announced(&parts.headers);
        let mut reader = BodyReader::new(body, limit, connection.clone());
        let asks = parts.headers.contains_key(EXPECT);
        // Most requests arrive as a whole; checking their headers first would gain nothing.
        if !asks
            && announced.is_none_or(|length| length <= limit)
            && reader
                .buffer_small()
                .await
                .map_err(|e| error::body(signed, &e))?
        {
            return Ok(Received::small(reader.take_buffered()));
        }
        let headers = raw::headers(&parts.headers);
        let raw = raw::request(parts, &headers, &[]);
        let call = self
            .check_head(raw, signed, from, announced, limit)
            .inspect_err(|refused| {
                // A short body is drained first: closing a socket with unread bytes sends a TCP reset, and the response is lost.
                let long = announced.is_none_or(|length| length > IN_MEMORY_MAX);
                if error::is_throttled(refused)
                    && long
                    && let Some(connection) = &connection
                {
                    connection.discard_rest();
                }
            })?;
        let whole = reader.whole().await;
        match whole.map_err(|e| error::body(signed, &e))? {
            ReceivedBody::Small(body) => Ok(Received::small(body)),
            ReceivedBody::Large(spooled) => {
                let principal = match call {
                    Some(call) => {
                        let call = call.with_digest(spooled.digest);
                        let authenticated =
                            self.access.authenticate(&self.signed(&call), from.address);
                        authenticated.map_err(auth_error)?
                    }
                    None => self.verify_form(raw, &spooled, from).await?,
                };
                self.mark_verified(connection.as_deref(), &principal);
                let (body, permit) = self.load(principal.owner.id, &spooled).await?;
                Ok(Received {
                    body,
                    principal: Some(principal),
                    _memory: Some(permit),
                })
            }
        }
    }

    /// Verifies a large form, which must be in memory as a whole. Only one form is verified at a time, in `block_in_place`.
    async fn verify_form(
        &self,
        raw: RawRequest<'_>,
        form: &SpooledBody,
        from: RequestOrigin,
    ) -> Result<Arc<Principal>, Error> {
        let _turn = self.forms.acquire().await;
        let body = form.load().await.map_err(|e| spool_read_error(&e))?;
        tokio::task::block_in_place(|| {
            let raw = RawRequest { body: &body, ..raw };
            let call = Call::parse(raw)?;
            let authenticated = self.access.authenticate(&self.signed(&call), from.address);
            authenticated.map_err(auth_error)
        })
    }

    /// Loads a spooled body into memory once the account's share allows it. Other accounts cannot use up that share.
    pub(super) async fn load(
        &self,
        account: AccountId,
        spooled: &SpooledBody,
    ) -> Result<(Bytes, FairPermit<AccountId>), Error> {
        // Two copies: the body and its decoded content.
        let share = self
            .body_memory
            .acquire(account, 2 * spooled.length as u64)
            .await;
        let body = spooled.load().await.map_err(|e| spool_read_error(&e))?;
        Ok((body, share))
    }

    /// Checks the headers. Returns the call if they contain all of it except the parameters.
    fn check_head<'a>(
        &self,
        raw: RawRequest<'a>,
        signed: bool,
        from: RequestOrigin,
        announced: Option<usize>,
        limit: usize,
    ) -> Result<Option<Call<'a>>, Error> {
        if !signed && raw.method == "POST" {
            let long = announced.is_some_and(|length| length > limit);
            return if long { Err(form_too_long()) } else { Ok(None) };
        }
        let call = Call::parse(raw)?;
        let operators = call.version == operator::VERSION;
        if operators && from.from_function {
            return Err(super::error::operator_denied());
        }
        let checked = self.access.precheck(&self.signed(&call), from.address);
        checked.map_err(auth_error)?;
        if !operators {
            known_action(&call)?;
        }
        if announced.is_some_and(|length| length > limit) {
            return Err(error::body(true, &BodyError::TooLong(limit)));
        }
        Ok(Some(call))
    }

    /// Records on a connection that a caller has authenticated over it.
    pub(super) fn mark_verified(&self, connection: Option<&Connection>, principal: &Principal) {
        if let Some(connection) = connection {
            connection.verified(principal.owner.id);
        }
    }
}

/// Returns the `Content-Length`.
pub(super) fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn spool_read_error(error: &std::io::Error) -> Error {
    let message = format!("failed to read the request's body back from disk: {error}");
    error::internal(&message)
}
