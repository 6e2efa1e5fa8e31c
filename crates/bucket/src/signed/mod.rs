//! Signatures of S3 requests, and whether they cover everything with an effect.
//!
//! `s3s` verifies version 4. It ignores headers that the signer did not list, but its handlers apply them. The holder
//! of an upload URL could then copy another object or make the new one public. So the list is checked here, as S3
//! does. Version 2 is verified here entirely.

pub(crate) mod v2;
pub(crate) mod v4;

use http::header::{AUTHORIZATION, DATE, HOST, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use s3s::S3ErrorCode;

use crate::cos::signature::ALGORITHM as COS_ALGORITHM;
use crate::error_response::ErrorResponse;

/// Headers with this prefix must be signed.
pub(crate) const PREFIX: &str = "x-amz-";
/// Version 4 always signs this header's value, listed or not. The holder of a URL may add it: the body is then checked
/// against it.
const CONTENT_HASH: &str = "x-amz-content-sha256";
/// Service in the scope of version 4 signatures.
const SERVICE: &str = "s3";
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT_MD5: &str = "content-md5";

/// Location and kind of a request's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// No signature.
    Anonymous,
    /// COS's signature, in a header or in the query.
    Cos,
    /// Version 4 in the `Authorization` header.
    HeaderV4,
    /// Version 4 in the query.
    UrlV4,
    /// Version 2 in the `Authorization` header.
    HeaderV2,
    /// Version 2 in the query.
    UrlV2,
}

impl Scheme {
    /// Detects the signature of a request.
    ///
    /// # Errors
    /// There is more than one. They could be of different signers and cover different parts.
    pub(crate) fn of(
        headers: &HeaderMap,
        query: &[(String, String)],
    ) -> Result<Self, ErrorResponse> {
        let has = |wanted: &str| query.iter().any(|(name, _)| name == wanted);
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let header = sent.next().filter(|value| !value.is_empty());
        let found = [
            header.map(|value| of_header(value.as_bytes())),
            has(COS_ALGORITHM).then_some(Self::Cos),
            has("X-Amz-Signature").then_some(Self::UrlV4),
            has("Signature").then_some(Self::UrlV2),
        ];
        let mut found = found.into_iter().flatten();
        let first = found.next().unwrap_or(Self::Anonymous);
        // COS's Python client also copies a URL's signature into its headers. The header wins.
        let more = found.any(|other| (first, other) != (Self::Cos, Self::Cos));
        if more || sent.next().is_some() {
            let message = "the request has more than one signature; send one, in the Authorization header or in the query";
            return Err(ErrorResponse::new(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                message,
            ));
        }
        Ok(first)
    }
}

fn of_header(value: &[u8]) -> Scheme {
    if value.starts_with(COS_ALGORITHM.as_bytes()) {
        Scheme::Cos
    } else if value.starts_with(b"AWS ") {
        Scheme::HeaderV2
    } else {
        Scheme::HeaderV4
    }
}

/// Rejects version 2 in a header: it covers neither the body nor most query parameters.
pub(crate) fn no_v2_header() -> ErrorResponse {
    let message = "the Authorization header has a signature of version 2, which does not cover the body; sign with version 4 \
                   (AWS4-HMAC-SHA256), which every client of S3 can";
    ErrorResponse::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
}

/// Prepares a version 4 request for `s3s`.
///
/// # Errors
/// A header with an effect is not signed.
pub(crate) fn prepare_v4(
    scheme: Scheme,
    parts: &mut Parts,
    query: &[(String, String)],
) -> Result<(), ErrorResponse> {
    let listed = match scheme {
        Scheme::HeaderV4 => listed_in_header(&parts.headers),
        _ => query
            .iter()
            .find(|(name, _)| name == "X-Amz-SignedHeaders")
            .map(|(_, names)| names.as_str()),
    };
    check_service(scheme, &parts.headers, query)?;
    // `s3s` rejects unreadable headers with a precise error.
    let Some(listed) = listed else { return Ok(()) };
    let listed: Vec<_> = listed.split(';').collect();
    let must = |name: &str| {
        (name.starts_with(PREFIX) && name != CONTENT_HASH)
            || (name == CONTENT_MD5 && scheme == Scheme::HeaderV4)
    };
    let sent = parts.headers.keys().map(HeaderName::as_str);
    let mut unsigned: Vec<_> = sent
        .filter(|name| must(name) && !listed.contains(name))
        .collect();
    if !listed.contains(&HOST.as_str()) {
        unsigned.push(HOST.as_str());
    }
    if !unsigned.is_empty() {
        return Err(not_signed("headers", &unsigned.join(", ")));
    }
    if scheme == Scheme::HeaderV4 {
        date(&mut parts.headers)?;
    }
    Ok(())
}

/// Query parameters that belong to the signature, or that clients add without meaning. The checksum there is that of
/// the empty body with which the URL was made.
const NOT_HEADERS: [&str; 10] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-user-agent",
];
const CHECKSUM: &str = "x-amz-checksum-";

/// Copies headers out of a URL's query, where some clients put them, as S3 does. The whole query is signed.
///
/// # Errors
/// The request has such a header, too.
pub(crate) fn headers_of_query(
    headers: &mut HeaderMap,
    query: &[(String, String)],
) -> Result<(), ErrorResponse> {
    for (given, value) in query {
        let name = given.to_ascii_lowercase();
        let own = NOT_HEADERS.contains(&name.as_str()) || name.starts_with(CHECKSUM);
        if !name.starts_with(PREFIX) || own {
            continue;
        }
        let invalid = |why: &str| {
            let message = format!("parameter {given} {why}");
            ErrorResponse::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
        };
        let name = HeaderName::try_from(name).map_err(|_| invalid("cannot be a header"))?;
        let value = HeaderValue::try_from(value).map_err(|_| invalid("cannot be a header"))?;
        if let Some(before) = headers.insert(name, value.clone())
            && before != value
        {
            return Err(invalid("is a header, too, of another value; send it once"));
        }
    }
    Ok(())
}

/// Rejects signatures for other services. `s3s` would accept one for `sts` and read the body.
fn check_service(
    scheme: Scheme,
    headers: &HeaderMap,
    query: &[(String, String)],
) -> Result<(), ErrorResponse> {
    let (credential, code) = match scheme {
        Scheme::HeaderV4 => {
            let text = headers
                .get(AUTHORIZATION)
                .and_then(|text| text.to_str().ok());
            let credential = text.and_then(|text| text.split_once("Credential="));
            let credential = credential.and_then(|(_, rest)| rest.split([',', ' ']).next());
            (credential, "AuthorizationHeaderMalformed")
        }
        _ => {
            let credential = query.iter().find(|(name, _)| name == "X-Amz-Credential");
            let credential = credential.map(|(_, credential)| credential.as_str());
            (credential, "AuthorizationQueryParametersError")
        }
    };
    let mut scope = credential.unwrap_or_default().rsplit('/');
    match (scope.next(), scope.next()) {
        (Some("aws4_request"), Some(service)) if service != SERVICE => {
            let service: String = service.chars().take(40).collect();
            let message = format!(
                "the signature is for the service {service:?}; one for buckets is KEY/DAY/REGION/{SERVICE}/aws4_request"
            );
            Err(ErrorResponse::new(StatusCode::BAD_REQUEST, code, message))
        }
        _ => Ok(()),
    }
}

/// Returns the list of signed headers. `None` if it does not occur exactly once.
fn listed_in_header(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (_, rest) = text.split_once("SignedHeaders=")?;
    if rest.contains("SignedHeaders=") {
        return None;
    }
    rest.split(',').next()
}

/// Sets the `x-amz-date` that `s3s` needs if the request only has a `Date`. Source: S3's page "Signature Calculations
/// for the Authorization Header".
fn date(headers: &mut HeaderMap) -> Result<(), ErrorResponse> {
    if headers.contains_key(AMZ_DATE) {
        return Ok(());
    }
    let Some(date) = headers.get(DATE).and_then(|date| date.to_str().ok()) else {
        let message = "the request says no time; send it in x-amz-date or Date";
        return Err(ErrorResponse::new(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            message,
        ));
    };
    let invalid = || {
        let message = format!(
            "Date is {date:?}; it may be like \"Mon, 30 Nov 2026 10:24:38 GMT\" or 20261130T102438Z"
        );
        ErrorResponse::new(StatusCode::FORBIDDEN, "AccessDenied", message)
    };
    let at = match jiff::fmt::rfc2822::parse(date) {
        Ok(zoned) => zoned.timestamp().strftime("%Y%m%dT%H%M%SZ").to_string(),
        // `s3s` reads the short form.
        Err(_) => date.to_owned(),
    };
    let value = HeaderValue::try_from(at).map_err(|_| invalid())?;
    let short = value.len() == "20261130T102438Z".len() && value.as_bytes().ends_with(b"Z");
    if !short {
        return Err(invalid());
    }
    headers.insert(AMZ_DATE, value);
    Ok(())
}

/// Builds the error for unsigned parts of a request.
pub(crate) fn not_signed(what: &str, names: &str) -> ErrorResponse {
    let message = format!(
        "There were {what} present in the request which were not signed: {names}; sign them, or leave them out"
    );
    let mut error_response = ErrorResponse::from(S3ErrorCode::AccessDenied);
    error_response.message = message;
    error_response
}

#[cfg(test)]
mod tests {
    use http::Request;

    use seeded::Random;

    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let request = headers
            .iter()
            .fold(Request::builder(), |request, (name, value)| {
                request.header(*name, *value)
            });
        request.body(()).expect("a request").into_parts().0
    }

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn multiple_signatures_are_rejected() {
        let rows: [(&[_], &[_], _); 9] = [
            (
                &[("authorization", "q-sign-algorithm=sha1")],
                &[("q-sign-algorithm", "sha1")],
                Some(Scheme::Cos),
            ),
            (&[], &[], Some(Scheme::Anonymous)),
            (&[("authorization", "")], &[], Some(Scheme::Anonymous)),
            (&[("authorization", "AWS a:b")], &[], Some(Scheme::HeaderV2)),
            (
                &[("authorization", "AWS4-HMAC-SHA256 a")],
                &[],
                Some(Scheme::HeaderV4),
            ),
            (&[], &[("Signature", "a")], Some(Scheme::UrlV2)),
            (
                &[("authorization", "AWS4-HMAC-SHA256 a")],
                &[("Signature", "a")],
                None,
            ),
            (
                &[],
                &[("q-sign-algorithm", "sha1"), ("X-Amz-Signature", "a")],
                None,
            ),
            (
                &[
                    ("authorization", "q-sign-algorithm=sha1"),
                    ("authorization", "AWS a:b"),
                ],
                &[],
                None,
            ),
        ];
        for (headers, pairs, expected) in rows {
            let found = Scheme::of(&parts(headers).headers, &query(pairs));
            assert_eq!(found.ok(), expected, "{headers:?} {pairs:?}");
        }
    }

    #[test]
    fn unsigned_amz_headers_are_rejected() {
        let listed = |names: &str| {
            format!("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders={names}, Signature=c")
        };
        let rows: [(&str, &[_], &str); 6] = [
            ("host;x-amz-date", &[], ""),
            ("x-amz-date", &[], "host"),
            (
                "host;x-amz-date",
                &[("x-amz-acl", "public-read")],
                "x-amz-acl",
            ),
            (
                "host;x-amz-acl;x-amz-date",
                &[("x-amz-acl", "public-read")],
                "",
            ),
            ("host;x-amz-date", &[("content-md5", "a")], "content-md5"),
            (
                "host;x-amz-date",
                &[
                    ("content-type", "text/plain"),
                    ("x-amzn-trace-id", "1"),
                    ("x-amz-content-sha256", "a"),
                ],
                "",
            ),
        ];
        for (names, more, missing) in rows {
            let authorization = listed(names);
            let mut headers = vec![
                ("authorization", authorization.as_str()),
                ("x-amz-date", "20261130T102438Z"),
            ];
            headers.extend_from_slice(more);
            let checked = prepare_v4(Scheme::HeaderV4, &mut parts(&headers), &[]);
            let said = checked
                .err()
                .map_or(String::new(), |error_response| error_response.message);
            assert_eq!(said.is_empty(), missing.is_empty(), "{names}: {said}");
            assert!(said.contains(missing), "{names}: {said}");
        }
    }

    #[test]
    fn query_headers_become_headers() {
        let pairs = query(&[
            ("X-Amz-Signature", "s"),
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-meta-a", "1"),
            ("X-Amz-Acl", "private"),
            ("prefix", "x"),
        ]);
        let mut headers = HeaderMap::new();
        headers_of_query(&mut headers, &pairs).expect("headers");
        assert_eq!(headers.len(), 2);
        assert_eq!(
            (&headers["x-amz-meta-a"], &headers["x-amz-acl"]),
            (
                &"1".parse().expect("a value"),
                &"private".parse().expect("a value")
            )
        );
        headers.insert("x-amz-acl", HeaderValue::from_static("public-read"));
        let again = headers_of_query(&mut headers, &pairs).expect_err("refused");
        assert!(again.message.contains("another value"), "{}", again.message);
    }

    #[test]
    fn date_header_replaces_missing_amz_date() {
        let authorization = "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=date;host, Signature=c";
        for (date, expected) in [
            ("Mon, 30 Nov 2026 10:24:38 GMT", Some("20261130T102438Z")),
            ("Mon, 30 Nov 2026 10:24:38 +0000", Some("20261130T102438Z")),
            ("20261130T102438Z", Some("20261130T102438Z")),
            ("yesterday", None),
        ] {
            let mut parts = parts(&[("authorization", authorization), ("date", date)]);
            let checked = prepare_v4(Scheme::HeaderV4, &mut parts, &[]);
            let found = checked
                .ok()
                .map(|()| parts.headers[AMZ_DATE].to_str().expect("text"));
            assert_eq!(found, expected, "{date}");
        }
    }

    #[test]
    fn mutated_signature_headers_cover_every_amz_header() {
        const GOOD: &str = "AWS4-HMAC-SHA256 Credential=AKID/20261130/ap/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=00";
        for seed in 1..5000 {
            let mut rng = Random::new(seed);
            let text = rng.mutated_text(GOOD);
            let Ok(authorization) = HeaderValue::from_str(&text) else {
                continue;
            };
            let mut parts = parts(&[("x-amz-acl", "public-read"), ("host", "h")]);
            parts.headers.insert(AUTHORIZATION, authorization);
            let date = rng.mutated_text("Mon, 30 Nov 2026 10:24:38 GMT");
            if let Ok(date) = HeaderValue::from_str(&date) {
                parts.headers.insert(DATE, date);
            }
            let pairs = query(&[("X-Amz-SignedHeaders", &rng.mutated_text("host;x-amz-date"))]);
            let _ = Scheme::of(&parts.headers, &pairs);
            for scheme in [Scheme::HeaderV4, Scheme::UrlV4] {
                let listed = match scheme {
                    Scheme::HeaderV4 => listed_in_header(&parts.headers).map(str::to_owned),
                    _ => Some(pairs[0].1.clone()),
                };
                let taken = prepare_v4(scheme, &mut parts, &pairs).is_ok();
                // Only complete names in the list count as signed. `s3s` rejects unreadable lists.
                let lists = |name: &str| {
                    listed
                        .as_ref()
                        .is_none_or(|names| names.split(';').any(|one| one == name))
                };
                assert!(
                    !taken || (lists("x-amz-acl") && lists("host")),
                    "seed {seed}: {text} {pairs:?}"
                );
            }
            let name = rng.mutated_text("x-amz-meta-a");
            let value = rng.mutated_text("value");
            let _ = headers_of_query(&mut parts.headers, &query(&[(&name, &value)]));
        }
    }

    #[test]
    fn signature_scope_must_name_the_s3_service() {
        for (scope, taken) in [
            ("id/20261130/ap/s3/aws4_request", true),
            ("id/20261130/ap/sts/aws4_request", false),
            ("a/b/20261130/ap/sts/aws4_request", false),
            ("id/20261130/ap/S3/aws4_request", false),
        ] {
            let header = format!(
                "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature=c"
            );
            let rows = [
                ("authorization", header.as_str()),
                ("x-amz-date", "20261130T102438Z"),
            ];
            let by_header = prepare_v4(Scheme::HeaderV4, &mut parts(&rows), &[]);
            assert_eq!(by_header.is_ok(), taken, "{scope}");
            let pairs = query(&[("X-Amz-Credential", scope), ("X-Amz-SignedHeaders", "host")]);
            let by_url = prepare_v4(Scheme::UrlV4, &mut parts(&[]), &pairs);
            assert_eq!(by_url.is_ok(), taken, "{scope}");
        }
    }
}
