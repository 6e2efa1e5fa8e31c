//! The authentication of a request whose target requires a signature, and the networks that may reach a URL.

use access::{NotAdmitted, Transport};
use axum::http::StatusCode;
use axum::http::request::Parts;
use model::{FailureKind, UrlAuth};
use scf::Call;
use signing::{SignedCall, auth_error, raw};
use traffic::ReceivedBody;

use super::peer::{caller, connection};
use super::refusal::Refused;
use super::target::{EntryPoint, ListenerKind, Target};
use super::urls::Urls;

impl Urls {
    /// Authenticates a request if its target requires a signature. Returns the key's id for an API.
    pub(super) fn authenticate(
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
    pub(super) fn precheck(&self, target: &Target, parts: &Parts) -> Result<(), Refused> {
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
}

/// Refuses a URL that is closed to callers from inside, or to those from outside.
pub(super) fn refuse(target: &Target, inside: bool) -> Option<Refused> {
    let EntryPoint::Url(url) = &target.entry_point else {
        return None;
    };
    let open = if inside { url.intranet } else { url.extranet };
    (!open).then(|| {
        let message = "this function's URL does not allow access from this network".to_owned();
        Refused::new(StatusCode::FORBIDDEN, FailureKind::Forbidden, message)
    })
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
