//! Change notifications from other systems, such as external storages: `POST /events/s3`. The response follows when the events of all
//! matching triggers are on stable storage. Repeated notifications are deduplicated.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use model::AccountId;
use telemetry::trace;
use traffic::FairPermit;
use triggers::{Receipt, Receiver, Rejection, Sender};

use super::{Gateway, RequestOrigin, error};

/// The reason why a notification is rejected, or accepted only in part.
enum NotificationError {
    /// No sender is configured; how to add one.
    NoSenders(&'static str),
    /// The address is blocked after too many failed authentications.
    Blocked,
    Unauthenticated,
    TooLarge(String),
    Malformed(String),
    /// The sender should retry.
    RetryLater(String),
}

/// Passes a notification to a kind of triggers.
pub(super) async fn receive(
    gateway: &Gateway,
    receiver: &dyn Receiver,
    request: Request,
) -> Response {
    match try_receive(gateway, receiver, request).await {
        Ok(Receipt { accepted, ignored }) => {
            let body = format!("{{\"accepted\":{accepted},\"ignored\":{ignored}}}\n");
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

async fn try_receive(
    gateway: &Gateway,
    receiver: &dyn Receiver,
    request: Request,
) -> Result<Receipt, NotificationError> {
    let (parts, body) = request.into_parts();
    let origin = RequestOrigin::of(&parts);
    let sender = authenticate(gateway, receiver, &parts.headers, origin)?;
    let (body, _share) = read(gateway, receiver, &sender, &parts, body).await?;
    let trace = trace::of(&parts.headers);
    let received = receiver.receive(&sender, &body, trace).await;
    received.map_err(|rejection| match rejection {
        Rejection::Malformed(why) => NotificationError::Malformed(why),
        Rejection::RetryLater(why) => NotificationError::RetryLater(why),
    })
}

async fn read(
    gateway: &Gateway,
    receiver: &dyn Receiver,
    sender: &Sender,
    parts: &Parts,
    body: Body,
) -> Result<(Bytes, Option<FairPermit<AccountId>>), NotificationError> {
    let received = gateway
        .receive_for_account(sender.account, parts, body, receiver.max_bytes())
        .await;
    received.map_err(|refused| {
        if error::is_too_long(&refused) {
            NotificationError::TooLarge(refused.message)
        } else if error::is_temporary(&refused) {
            NotificationError::RetryLater(refused.message)
        } else {
            NotificationError::Malformed(refused.message)
        }
    })
}

fn authenticate(
    gateway: &Gateway,
    receiver: &dyn Receiver,
    headers: &HeaderMap,
    from: RequestOrigin,
) -> Result<Sender, NotificationError> {
    if let Some(hint) = receiver.setup_hint() {
        return Err(NotificationError::NoSenders(hint));
    }
    let access = &gateway.access;
    if from
        .address
        .is_some_and(|from| !access.may_authenticate(from))
    {
        return Err(NotificationError::Blocked);
    }
    let sender = token(headers).and_then(|token| receiver.sender(&token));
    sender.ok_or_else(|| {
        if let Some(from) = from.address {
            access.record_failure(from);
        }
        NotificationError::Unauthenticated
    })
}

/// Reads the token after `Bearer`, or the password after `Basic`, which clients send for a URL with user information.
fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ').unwrap_or(("Bearer", value));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
    let (_, password) = pair.split_once(':')?;
    Some(password.to_owned())
}

impl IntoResponse for NotificationError {
    fn into_response(self) -> Response {
        match self {
            Self::NoSenders(hint) => (StatusCode::NOT_FOUND, format!("{hint}\n")).into_response(),
            Self::Blocked => {
                let why = "too many requests from this address had no valid token; try again in a moment\n";
                (StatusCode::TOO_MANY_REQUESTS, why).into_response()
            }
            Self::Unauthenticated => {
                let why = "the token of the source is missing or unknown; send it as Authorization: Bearer TOKEN\n";
                let header = [(WWW_AUTHENTICATE, "Bearer")];
                (StatusCode::UNAUTHORIZED, header, why).into_response()
            }
            Self::TooLarge(why) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("{why}\n")).into_response()
            }
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
            Self::RetryLater(why) => {
                let header = [(RETRY_AFTER, "1")];
                (StatusCode::SERVICE_UNAVAILABLE, header, format!("{why}\n")).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_read_from_bearer_or_basic_password() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc", Some("abc")),
            // MinIO sends a token without a scheme as it is configured.
            ("abc", Some("abc")),
            ("Basic dXNlcjphOmI=", Some("a:b")),
            ("Basic dXNlcg==", None),
            ("Digest abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a value"));
            assert_eq!(token(&headers).as_deref(), expected, "{value}");
        }
        assert_eq!(token(&HeaderMap::new()), None);
    }
}
