//! The path form, where all functions share one host and thus one origin in browsers.
//!
//! Any function's page could read, set or remove the state of an origin for all others: cookies, storage, service
//! workers, permissions, credentials. So none of it passes in either direction. Replies lose the headers that affect an
//! origin, and documents get an opaque origin by the policy `sandbox`. The host form has no such limits: there each
//! function has an origin of its own.

use axum::http::header::{CONTENT_SECURITY_POLICY, COOKIE, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use model::FailureKind;

use super::refusal::Refused;

/// Headers of replies that change a browser's state of an origin.
const ORIGIN_HEADERS: &[&str] = &[
    // State that is stored and sent again.
    "set-cookie",
    "set-cookie2",
    "clear-site-data",
    "service-worker-allowed",
    "shared-storage-write",
    "use-as-dictionary",
    "set-login",
    "activate-storage-access",
    // Authentication, whose credentials a browser sends to the whole origin.
    "www-authenticate",
    "proxy-authenticate",
    "authentication-info",
    // How the host is reached from now on.
    "strict-transport-security",
    "public-key-pins",
    "public-key-pins-report-only",
    "expect-ct",
    "alt-svc",
    // Reports about pages of the origin.
    "report-to",
    "reporting-endpoints",
    "nel",
    "observe-browsing-topics",
    // Settings for all requests or pages of the origin.
    "accept-ch",
    "accept-ch-lifetime",
    "critical-ch",
    "origin-agent-cluster",
    "origin-trial",
];

/// Prefixes of more such headers.
const ORIGIN_HEADER_PREFIXES: &[&str] = &[
    "sec-session-",
    "secure-session-",
    "attribution-reporting-",
    "ad-auction-",
];

/// An opaque origin; scripts run without access to the host's state.
const SANDBOX: HeaderValue = HeaderValue::from_static(
    "sandbox allow-downloads allow-forms allow-modals allow-pointer-lock allow-popups allow-scripts \
     allow-top-navigation-by-user-activation",
);

/// Marks a reply of the path form, for programs and for users who miss their cookies.
const MARK: HeaderName = HeaderName::from_static("x-virga-origin");

/// Removes a browser's state of the shared origin from a request.
///
/// # Errors
/// The request fetches the script of a service worker, which would intercept the pages of all functions.
pub(super) fn strip_request(headers: &mut HeaderMap) -> Result<(), Refused> {
    headers.remove(COOKIE);
    headers.remove("cookie2");
    if headers.contains_key("service-worker") {
        let message = "a service worker needs an origin of its own; use the function's host instead of the path";
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            FailureKind::Forbidden,
            message.to_owned(),
        ));
    }
    Ok(())
}

/// Removes the headers of a reply that affect the origin, and gives its documents an opaque origin.
pub(super) fn strip_reply(headers: &mut HeaderMap) {
    let is_origin_header = |name: &HeaderName| {
        let name = name.as_str();
        ORIGIN_HEADERS.contains(&name)
            || ORIGIN_HEADER_PREFIXES
                .iter()
                .any(|family| name.starts_with(family))
    };
    let removed: Vec<_> = headers
        .keys()
        .filter(|name| is_origin_header(name))
        .cloned()
        .collect();
    for name in removed {
        headers.remove(name);
    }
    // Added to the function's own policies; all of them apply.
    headers.append(CONTENT_SECURITY_POLICY, SANDBOX);
    headers.insert(MARK, HeaderValue::from_static("shared"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_scoped_headers_are_removed() {
        let mut headers = HeaderMap::new();
        for name in ORIGIN_HEADERS
            .iter()
            .chain(&["Set-Cookie", "SEC-SESSION-REGISTRATION"])
        {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(&name, HeaderValue::from_static("one"));
            headers.append(name, HeaderValue::from_static("another"));
        }
        let own = "default-src 'self'; sandbox allow-same-origin allow-scripts";
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(own));
        headers.insert("x-own", HeaderValue::from_static("kept"));
        headers.insert(MARK, HeaderValue::from_static("its own"));
        strip_reply(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-security-policy", "x-own", "x-virga-origin"]);
        assert_eq!(headers["x-virga-origin"], "shared");
        let policies: Vec<_> = headers.get_all(CONTENT_SECURITY_POLICY).iter().collect();
        assert_eq!(policies, [&HeaderValue::from_static(own), &SANDBOX]);
        let sandbox = SANDBOX.to_str().expect("text").to_owned();
        assert!(!sandbox.contains("allow-same-origin"));
    }

    #[test]
    fn cookies_are_removed_and_service_workers_refused() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        headers.insert("cookie2", HeaderValue::from_static("c"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        assert!(strip_request(&mut headers).is_ok());
        assert_eq!(headers.len(), 1);
        headers.insert("service-worker", HeaderValue::from_static("script"));
        assert!(strip_request(&mut headers).is_err());
    }
}
