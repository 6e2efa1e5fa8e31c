//! `POST /events/s3`: storage elsewhere tells of changes of its objects. It is answered when all that triggers wait for is on
//! stable storage; what is told again is known again.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use scf::Code;
use tracing::{debug, warn};

use super::{From, Gateway};
use crate::clock;
use crate::invoke::IngestError;
use crate::triggers::{EventSource, Notification};

/// The largest notification, bytes: SeaweedFS lists all chunks of a large file in one.
const BODY_MAX: usize = 8 << 20;

/// Why nothing, or not all, of a notification is taken.
enum Refused {
    /// Nobody may tell anything.
    NoSources,
    /// An address that was wrong too often of late.
    TooMany,
    Unauthenticated,
    TooLarge(String),
    Unread(String),
    /// It is to be told again.
    Later(String),
}

/// What was done with the changes of a notification.
struct Taken {
    /// Those that are events now.
    accepted: usize,
    /// Those that no trigger waits for.
    ignored: usize,
}

pub(super) async fn take(gateway: &Gateway, request: Request) -> Response {
    match try_take(gateway, request).await {
        Ok(Taken { accepted, ignored }) => {
            let body = format!("{{\"accepted\":{accepted},\"ignored\":{ignored}}}\n");
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

async fn try_take(gateway: &Gateway, request: Request) -> Result<Taken, Refused> {
    let (parts, body) = request.into_parts();
    let source = authenticate(gateway, &parts.headers, From::of(&parts))?;
    let told = read(gateway, source, &parts, body).await?;
    let (events, unwanted) = told.events(source, &gateway.object_triggers, clock::now_ms());
    let mut taken = Taken {
        accepted: 0,
        ignored: told.ignored + unwanted,
    };
    for event in events {
        let function = event.function.clone();
        match gateway.ingest.accept_unchecked(event).await {
            Ok(()) => taken.accepted += 1,
            Err(IngestError::Queue(error)) => {
                warn!(source = source.name, %error, "a storage's notification is not taken; it is to tell it again");
                return Err(Refused::Later(error.to_string()));
            }
            Err(error) => {
                warn!(source = source.name, function = %function.name, %error, "a change in a storage is no event");
                return Err(Refused::Unread(error.to_string()));
            }
        }
    }
    let (accepted, ignored) = (taken.accepted, taken.ignored);
    debug!(
        source = source.name,
        accepted, ignored, "a storage has told of changes"
    );
    Ok(taken)
}

async fn read(
    gateway: &Gateway,
    source: &EventSource,
    parts: &Parts,
    body: Body,
) -> Result<Notification, Refused> {
    let received = gateway
        .receive_of(source.account, parts, body, BODY_MAX)
        .await;
    let (body, _share) = received.map_err(|error| match error.code {
        Code::RequestSizeLimitExceeded => Refused::TooLarge(error.message),
        Code::RequestLimitExceeded | Code::InternalError => Refused::Later(error.message),
        _ => Refused::Unread(error.message),
    })?;
    Notification::read(source, &body, clock::now_ms()).map_err(|unread| {
        warn!(source = source.name, %unread, "a storage's notification cannot be read");
        Refused::Unread(unread.to_string())
    })
}

fn authenticate<'a>(
    gateway: &'a Gateway,
    headers: &HeaderMap,
    from: From,
) -> Result<&'a EventSource, Refused> {
    let sources = &gateway.event_sources;
    if sources.0.is_empty() {
        return Err(Refused::NoSources);
    }
    let access = &gateway.access;
    if from.address.is_some_and(|from| !access.hears(from)) {
        return Err(Refused::TooMany);
    }
    let source = token(headers).and_then(|token| sources.of_token(&token));
    source.ok_or_else(|| {
        if let Some(from) = from.address {
            access.failed(from);
        }
        Refused::Unauthenticated
    })
}

/// The token: after `Bearer`, or as a password after `Basic`, which is what the user's part of a URL becomes.
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

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::NoSources => {
                let why = "no storage may tell of changes here; name it in a file and start virga with --event-sources FILE\n";
                (StatusCode::NOT_FOUND, why).into_response()
            }
            Self::TooMany => {
                let why = "too many requests of this address had no token that is known; try again in a while\n";
                (StatusCode::TOO_MANY_REQUESTS, why).into_response()
            }
            Self::Unauthenticated => {
                let why = "the token of a source is missing, or not known; send it as Authorization: Bearer TOKEN\n";
                let header = [(WWW_AUTHENTICATE, "Bearer")];
                (StatusCode::UNAUTHORIZED, header, why).into_response()
            }
            Self::TooLarge(why) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("{why}\n")).into_response()
            }
            Self::Unread(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
            Self::Later(why) => {
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
    fn a_token_comes_as_a_bearer_s_or_as_a_password() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc", Some("abc")),
            // MinIO sends it as it is told, where that is one word.
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
