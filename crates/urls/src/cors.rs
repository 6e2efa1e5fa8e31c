//! CORS for functions' URLs, as configured by their triggers.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN,
    VARY,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use model::Cors;

/// Returns the reply to a preflight request; `None` for any other request.
pub(super) fn preflight(cors: &Cors, method: &Method, headers: &HeaderMap) -> Option<Response> {
    if !is_preflight(method, headers) {
        return None;
    }
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    let own = reply.headers_mut();
    if !allow_origin(cors, headers, own) {
        return Some(reply);
    }
    set(
        own,
        ACCESS_CONTROL_ALLOW_METHODS,
        &listed(
            &cors.methods,
            "GET, POST, PUT, DELETE, PATCH, HEAD, OPTIONS",
        ),
    );
    let asked = headers
        .get(ACCESS_CONTROL_REQUEST_HEADERS)
        .and_then(|value| value.to_str().ok());
    set(
        own,
        ACCESS_CONTROL_ALLOW_HEADERS,
        &listed(&cors.headers, asked.unwrap_or_default()),
    );
    if let Some(seconds) = cors.max_age {
        set(own, ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
    }
    Some(reply)
}

/// Returns whether a request is a preflight request.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Sets the CORS headers of a reply. Those of the function are replaced.
pub(super) fn mark(cors: &Cors, asked: &HeaderMap, reply: &mut HeaderMap) {
    let ours: Vec<_> = reply
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in ours {
        reply.remove(name);
    }
    if allow_origin(cors, asked, reply) && !cors.expose.is_empty() {
        set(
            reply,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            &cors.expose.join(", "),
        );
    }
}

/// Sets the headers for an allowed origin. Returns whether the origin is allowed.
fn allow_origin(cors: &Cors, asked: &HeaderMap, reply: &mut HeaderMap) -> bool {
    reply.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = asked.get(ORIGIN) else {
        return false;
    };
    let any = cors.origins.iter().any(|allowed| allowed == "*");
    let named = || {
        cors.origins
            .iter()
            .any(|allowed| origin == allowed.as_str())
    };
    if !any && !named() {
        return false;
    }
    // With credentials, browsers do not accept `*`.
    if any && !cors.credentials {
        set(reply, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    } else {
        reply.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    if cors.credentials {
        set(reply, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    true
}

/// Joins a list; an empty list or `*` stands for `all`.
fn listed(list: &[String], all: &str) -> String {
    if list.is_empty() || list.iter().any(|one| one == "*") {
        all.to_owned()
    } else {
        list.join(", ")
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value)
        && !value.is_empty()
    {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors {
            origins: origins.iter().map(|one| (*one).to_owned()).collect(),
            headers: vec!["x-own".into()],
            methods: vec!["GET".into(), "PUT".into()],
            expose: vec!["x-seen".into()],
            max_age: Some(60),
            credentials,
        }
    }

    fn asking(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers.insert(
            ACCESS_CONTROL_REQUEST_METHOD,
            HeaderValue::from_static("PUT"),
        );
        headers
    }

    #[test]
    fn preflight_reply_follows_the_cors_settings() {
        let rows: [(&[&str], bool, Option<&str>); 5] = [
            (&["*"], false, Some("*")),
            (&["*"], true, Some("https://a.b")),
            (&["https://a.b", "https://c"], false, Some("https://a.b")),
            (&["https://c"], false, None),
            (&[], false, None),
        ];
        for (origins, credentials, expected) in rows {
            let cors = cors(origins, credentials);
            let asked = asking("https://a.b");
            let reply = preflight(&cors, &Method::OPTIONS, &asked).expect("an answer");
            let text = |headers: &HeaderMap, name: HeaderName| {
                headers
                    .get(name)
                    .map(|value| value.to_str().expect("text").to_owned())
            };
            let headers = reply.headers();
            assert_eq!(
                text(headers, ACCESS_CONTROL_ALLOW_ORIGIN).as_deref(),
                expected,
                "{origins:?}"
            );
            let allowed = expected.map(|_| "GET, PUT".to_owned());
            assert_eq!(text(headers, ACCESS_CONTROL_ALLOW_METHODS), allowed);
            let mut own = HeaderMap::new();
            own.insert(
                ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("https://elsewhere"),
            );
            mark(&cors, &asked, &mut own);
            assert_eq!(text(&own, ACCESS_CONTROL_ALLOW_ORIGIN).as_deref(), expected);
            assert_eq!(
                text(&own, ACCESS_CONTROL_EXPOSE_HEADERS),
                expected.map(|_| "x-seen".to_owned())
            );
        }
        let asked = asking("https://a.b");
        assert!(preflight(&cors(&["*"], false), &Method::GET, &asked).is_none());
        assert!(preflight(&cors(&["*"], false), &Method::OPTIONS, &HeaderMap::new()).is_none());
    }
}
