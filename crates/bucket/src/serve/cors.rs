//! CORS, as a bucket's configuration allows it.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::store::CorsRule;

/// Request headers on which a CORS response depends.
const VARY_HEADERS: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// Methods that a preflight request may ask about.
const METHODS: [&str; 5] = ["DELETE", "GET", "HEAD", "POST", "PUT"];

/// Checks that a preflight request is complete, regardless of the bucket's rules.
///
/// # Errors
/// The missing or invalid header, in S3's words.
pub(super) fn check(request_headers: &HeaderMap) -> Result<(), String> {
    if !request_headers.contains_key(ORIGIN) {
        return Err("Insufficient information. Origin request header needed.".to_owned());
    }
    let method = request_headers.get(ACCESS_CONTROL_REQUEST_METHOD);
    let method = method.map_or("null".into(), |method| {
        String::from_utf8_lossy(method.as_bytes())
    });
    if METHODS.contains(&&*method) {
        return Ok(());
    }
    let shown: String = method.chars().take(40).collect();
    Err(format!(
        "Invalid Access-Control-Request-Method: {shown}; {} are allowed",
        METHODS.join(", ")
    ))
}

/// Returns the headers of a preflight response. `None` if no rule matches.
pub(super) fn preflight(rules: &[CorsRule], request_headers: &HeaderMap) -> Option<HeaderMap> {
    let method = text(request_headers, &ACCESS_CONTROL_REQUEST_METHOD)?;
    let wanted = text(request_headers, &ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
    let names = || {
        wanted
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
    };
    let rule = rules.iter().find(|rule| {
        let like = |name: &str| {
            rule.headers
                .iter()
                .any(|allowed| matches_pattern(&allowed.to_lowercase(), &name.to_lowercase()))
        };
        matches_rule(rule, text(request_headers, &ORIGIN), method) && names().all(like)
    })?;
    let mut response_headers = allowed(rule, request_headers);
    set(&mut response_headers, ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    if let Some(seconds) = rule.max_age {
        set(
            &mut response_headers,
            ACCESS_CONTROL_MAX_AGE,
            &seconds.to_string(),
        );
    }
    Some(response_headers)
}

/// Adds CORS headers to a response.
pub(super) fn add_headers(
    rules: &[CorsRule],
    method: &str,
    request_headers: &HeaderMap,
    answer: &mut HeaderMap,
) {
    let origin = text(request_headers, &ORIGIN);
    if let Some(rule) = rules.iter().find(|rule| matches_rule(rule, origin, method)) {
        answer.extend(allowed(rule, request_headers));
    }
}

fn matches_rule(rule: &CorsRule, origin: Option<&str>, method: &str) -> bool {
    let from = origin.is_some_and(|origin| {
        rule.origins
            .iter()
            .any(|allowed| matches_pattern(allowed, origin))
    });
    from && rule.methods.iter().any(|allowed| allowed == method)
}

fn allowed(rule: &CorsRule, request_headers: &HeaderMap) -> HeaderMap {
    let mut response_headers = HeaderMap::new();
    let any = rule.origins.iter().any(|origin| origin == "*");
    let origin = text(request_headers, &ORIGIN).unwrap_or_default();
    set(
        &mut response_headers,
        ACCESS_CONTROL_ALLOW_ORIGIN,
        if any { "*" } else { origin },
    );
    if !any {
        set(
            &mut response_headers,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            "true",
        );
    }
    set(
        &mut response_headers,
        ACCESS_CONTROL_ALLOW_METHODS,
        &rule.methods.join(", "),
    );
    set(
        &mut response_headers,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        &rule.expose.join(", "),
    );
    set(&mut response_headers, VARY, VARY_HEADERS);
    response_headers
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value)
        && !value.is_empty()
    {
        headers.insert(name, value);
    }
}

/// Matches a text against a pattern with at most one `*`.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(origin: &str) -> CorsRule {
        CorsRule {
            origins: vec![origin.into()],
            methods: vec!["GET".into(), "PUT".into()],
            headers: vec!["x-cos-*".into(), "content-type".into()],
            expose: vec!["ETag".into()],
            max_age: Some(60),
            ..CorsRule::default()
        }
    }

    fn asking(origin: &'static str, method: &'static str, headers: &'static str) -> HeaderMap {
        let rows = [
            (ORIGIN, origin),
            (ACCESS_CONTROL_REQUEST_METHOD, method),
            (ACCESS_CONTROL_REQUEST_HEADERS, headers),
        ];
        rows.into_iter()
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn cors_rule_matches_origin_method_and_headers() {
        let rows = [
            (
                "https://*.a.com",
                "https://b.a.com",
                "PUT",
                "X-Cos-Acl, Content-Type",
                Some("https://b.a.com"),
            ),
            ("*", "https://b.a.com", "GET", "", Some("*")),
            ("https://a.com", "https://b.com", "GET", "", None),
            ("*", "https://b.com", "DELETE", "", None),
            ("*", "https://b.com", "GET", "x-other", None),
        ];
        for (allowed, origin, method, headers, expected) in rows {
            let request_headers = asking(origin, method, headers);
            let response_headers = preflight(
                &[rule("https://other.com"), rule(allowed)],
                &request_headers,
            );
            let response_headers = response_headers.as_ref().map(|response_headers| {
                response_headers[&ACCESS_CONTROL_ALLOW_ORIGIN]
                    .to_str()
                    .expect("text")
            });
            assert_eq!(
                response_headers, expected,
                "{allowed} {origin} {method} {headers}"
            );
        }
    }

    #[test]
    fn incomplete_preflight_is_a_bad_request() {
        let without = |name: &HeaderName| {
            let mut request_headers = asking("https://a.com", "PUT", "");
            request_headers.remove(name);
            check(&request_headers).expect_err("refused")
        };
        assert!(without(&ORIGIN).contains("Origin request header needed"));
        let method = without(&ACCESS_CONTROL_REQUEST_METHOD);
        assert!(method.starts_with("Invalid Access-Control-Request-Method: null; "));
        for method in ["PATCH", "get", "", "OPTIONS"] {
            let refused = check(&asking("https://a.com", method, "")).expect_err("refused");
            let begins = format!("Invalid Access-Control-Request-Method: {method}; ");
            assert!(refused.starts_with(&begins), "{refused}");
        }
        for method in METHODS {
            assert_eq!(check(&asking("https://a.com", method, "")), Ok(()));
        }
    }

    #[test]
    fn cors_headers_are_added_for_matching_rule() {
        let mut answer = HeaderMap::new();
        let request_headers = asking("https://a.com", "GET", "");
        add_headers(
            &[rule("https://a.com")],
            "GET",
            &request_headers,
            &mut answer,
        );
        assert_eq!(answer[&ACCESS_CONTROL_EXPOSE_HEADERS], "ETag");
        assert_eq!(answer[&ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        let mut other = HeaderMap::new();
        add_headers(
            &[rule("https://a.com")],
            "DELETE",
            &request_headers,
            &mut other,
        );
        assert!(other.is_empty());
    }
}
