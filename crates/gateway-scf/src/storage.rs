//! `POST /events/s3`: change notifications from external storages. The response follows when the events of all matching triggers
//! are on stable storage. Repeated notifications are deduplicated.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use engine::invoke::IngestError;
use scf::Code;
use telemetry::trace;
use tracing::{debug, warn};
use triggers::{EventSource, Notification};

use super::{Gateway, RequestOrigin};

/// Maximum size of a notification, bytes. SeaweedFS lists all chunks of a large file in one.
const BODY_MAX: usize = 8 << 20;

/// The reason why a notification is rejected, or accepted only in part.
enum NotificationError {
    /// No source is configured.
    NoSources,
    /// The address is blocked after too many failed authentications.
    Blocked,
    Unauthenticated,
    TooLarge(String),
    Malformed(String),
    /// The sender should retry.
    RetryLater(String),
}

/// The result of a notification.
struct NotificationOutcome {
    /// Changes that became events.
    accepted: usize,
    /// Changes that match no trigger.
    ignored: usize,
}

pub(super) async fn receive(gateway: &Gateway, request: Request) -> Response {
    match try_receive(gateway, request).await {
        Ok(NotificationOutcome { accepted, ignored }) => {
            let body = format!("{{\"accepted\":{accepted},\"ignored\":{ignored}}}\n");
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

async fn try_receive(
    gateway: &Gateway,
    request: Request,
) -> Result<NotificationOutcome, NotificationError> {
    let (parts, body) = request.into_parts();
    let source = authenticate(gateway, &parts.headers, RequestOrigin::of(&parts))?;
    let notification = read(gateway, source, &parts, body).await?;
    let (events, unwanted) = notification.events(source, &gateway.object_triggers, clock::now_ms());
    let mut outcome = NotificationOutcome {
        accepted: 0,
        ignored: notification.ignored + unwanted,
    };
    let trace = trace::of(&parts.headers);
    for mut event in events {
        event.trace = trace.clone();
        let function = event.function.clone();
        match gateway.ingest.accept_unchecked(event).await {
            Ok(()) => outcome.accepted += 1,
            Err(IngestError::Queue(error)) => {
                warn!(source = source.name, %error, "failed to enqueue events of a storage notification; the sender should retry");
                return Err(NotificationError::RetryLater(error.to_string()));
            }
            Err(error) => {
                warn!(source = source.name, function = %function.name, %error, "rejected a change in an external storage");
                return Err(NotificationError::Malformed(error.to_string()));
            }
        }
    }
    let (accepted, ignored) = (outcome.accepted, outcome.ignored);
    debug!(
        source = source.name,
        accepted, ignored, "received a storage notification"
    );
    Ok(outcome)
}

async fn read(
    gateway: &Gateway,
    source: &EventSource,
    parts: &Parts,
    body: Body,
) -> Result<Notification, NotificationError> {
    let received = gateway
        .receive_for_account(source.account, parts, body, BODY_MAX)
        .await;
    let (body, _share) = received.map_err(|error| match error.code {
        Code::RequestSizeLimitExceeded => NotificationError::TooLarge(error.message),
        Code::RequestLimitExceeded | Code::InternalError => {
            NotificationError::RetryLater(error.message)
        }
        _ => NotificationError::Malformed(error.message),
    })?;
    Notification::read(source, &body, clock::now_ms()).map_err(|unread| {
        warn!(source = source.name, %unread, "failed to parse a storage notification");
        NotificationError::Malformed(unread.to_string())
    })
}

fn authenticate<'a>(
    gateway: &'a Gateway,
    headers: &HeaderMap,
    from: RequestOrigin,
) -> Result<&'a EventSource, NotificationError> {
    let sources = &gateway.event_sources;
    if sources.0.is_empty() {
        return Err(NotificationError::NoSources);
    }
    let access = &gateway.access;
    if from
        .address
        .is_some_and(|from| !access.may_authenticate(from))
    {
        return Err(NotificationError::Blocked);
    }
    let source = token(headers).and_then(|token| sources.of_token(&token));
    source.ok_or_else(|| {
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
            Self::NoSources => {
                let why = "no storage may post notifications here; add it to a file and start virga with --event-sources FILE\n";
                (StatusCode::NOT_FOUND, why).into_response()
            }
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
