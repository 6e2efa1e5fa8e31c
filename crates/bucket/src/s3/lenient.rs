//! Tolerance for malformed optional headers, which S3 stores or ignores but `s3s` rejects.

use http::header::{EXPIRES, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, RANGE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderValue, Method, Uri};
use s3s::dto::Range;

use super::dates::from_http_date;

/// `Expires` as sent, which need not be a date.
#[derive(Clone)]
struct Expires(String);

/// `response-expires` as sent.
#[derive(Clone)]
struct ResponseExpires(String);

/// Removes or sets aside the malformed headers of a verified request.
pub(super) fn fix_headers(parts: &mut Parts) {
    if let Some(expires) = parts.headers.remove(EXPIRES)
        && let Ok(text) = expires.to_str()
    {
        parts.extensions.insert(Expires(text.to_owned()));
    }
    // A write with an unreadable precondition must fail, so its headers stay.
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return;
    }
    if let Some((uri, requested)) = without_expires(&parts.uri) {
        parts.uri = uri;
        parts.extensions.insert(ResponseExpires(requested));
    }
    for (name, readable) in [
        (
            RANGE,
            (|text| Range::parse(text).is_ok()) as fn(&str) -> bool,
        ),
        (IF_MODIFIED_SINCE, |text| from_http_date(text).is_some()),
        (IF_UNMODIFIED_SINCE, |text| from_http_date(text).is_some()),
    ] {
        let value = parts.headers.get(&name);
        if value.is_some_and(|value| !value.to_str().is_ok_and(readable)) {
            parts.headers.remove(name);
        }
    }
}

/// Removes a `response-expires` that is no date, and returns its value.
fn without_expires(uri: &Uri) -> Option<(Uri, String)> {
    let query = uri.query()?;
    let pairs = query.split('&');
    let (mut kept, mut requested) = (Vec::new(), None);
    for pair in pairs {
        match form_urlencoded::parse(pair.as_bytes()).next() {
            Some((name, value))
                if name == "response-expires" && from_http_date(&value).is_none() =>
            {
                requested = Some(value.into_owned());
            }
            _ => kept.push(pair),
        }
    }
    let text = format!("{}?{}", uri.path(), kept.join("&"));
    Some((Uri::from(PathAndQuery::try_from(text).ok()?), requested?))
}

/// Returns the `Expires` of a response: the requested one if it is no date, else the object's.
pub(super) fn answered(extensions: &Extensions, kept: Option<&str>) -> Option<HeaderValue> {
    let requested = extensions.get::<ResponseExpires>();
    let text = requested.map(|requested| requested.0.as_str()).or(kept)?;
    HeaderValue::from_str(text).ok()
}

/// Returns the request's original `Expires`.
pub(super) fn expires(extensions: &Extensions) -> Option<String> {
    extensions.get::<Expires>().map(|expires| expires.0.clone())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use seeded::Random;

    use super::*;

    #[test]
    fn unreadable_optional_headers_are_stored_or_ignored() {
        let request = Request::get("/b/k?response-expires=never&versionId=1")
            .header("expires", "5d")
            .header("range", "bytes=5")
            .header("if-modified-since", "never")
            .header("if-unmodified-since", "Wed, 21 Oct 2037 07:28:00 GMT");
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        fix_headers(&mut parts);
        assert_eq!(expires(&parts.extensions).as_deref(), Some("5d"));
        let said = answered(&parts.extensions, Some("5d")).expect("a value");
        assert_eq!(parts.uri, "/b/k?versionId=1");
        assert_eq!(said, "never");
        let left: Vec<_> = parts.headers.keys().map(|name| name.as_str()).collect();
        assert_eq!(left, ["if-unmodified-since"]);
    }

    #[test]
    fn remaining_ranges_and_conditions_are_readable() {
        const DATE: &str = "Wed, 21 Oct 2037 07:28:00 GMT";
        for seed in 1..5000 {
            let mut rng = Random::new(seed);
            let uri = rng.mutated_text("/b/k?response-expires=never&versionId=1&a=%20");
            let Ok(uri) = uri.parse::<Uri>() else {
                continue;
            };
            let (mut parts, ()) = Request::new(()).into_parts();
            parts.uri = uri;
            let writes = rng.one_in(3);
            parts.method = if writes { Method::PUT } else { Method::GET };
            let range = ["bytes=0-9", "bytes=-5", "bytes=7-", "bytes=0-1,4-5"][rng.index(4)];
            let rows = [
                (RANGE, range),
                (IF_MODIFIED_SINCE, DATE),
                (IF_UNMODIFIED_SINCE, DATE),
                (EXPIRES, DATE),
            ];
            let mut sent = Vec::new();
            for (name, value) in rows {
                let value = HeaderValue::from_bytes(&rng.mutated(value.as_bytes()));
                if let Ok(value) = value {
                    parts.headers.insert(name.clone(), value.clone());
                    sent.push((name, value));
                }
            }
            fix_headers(&mut parts);
            for (name, value) in sent {
                let left = parts.headers.get(&name);
                // A header stays unchanged or is removed.
                assert!(
                    left.is_none_or(|left| *left == value),
                    "seed {seed}: {name}"
                );
                if writes && name != EXPIRES {
                    assert_eq!(left, Some(&value), "seed {seed}: {name}");
                } else if let Some(left) = left {
                    let text = left.to_str().expect("text");
                    let readable = if name == RANGE {
                        Range::parse(text).is_ok()
                    } else {
                        from_http_date(text).is_some()
                    };
                    assert!(readable, "seed {seed}: {name}: {text}");
                }
            }
            let _ = answered(&parts.extensions, Some("5d"));
        }
    }
}
