//! Translation of COS requests to S3.
//!
//! Both APIs have the same structure. They differ in bucket naming, header names and a few values. A request is
//! verified in its original form and then handled as an S3 request.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, IF_NONE_MATCH};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use s3s::{Body, S3ErrorCode};

use super::signature::{self, GRANT_PREFIX, TOKEN};
use crate::error_response::ErrorResponse;
use crate::host::Hosts;
use crate::request_head::RequestHead;

const COS_PREFIX: &str = "x-cos-";
const S3_PREFIX: &str = "x-amz-";
const FORBID_OVERWRITE: &str = "x-cos-forbid-overwrite";
const COPY_SOURCE: &str = "x-cos-copy-source";

/// Parameters of COS features that are not implemented and that S3's router would ignore.
const UNSUPPORTED_PARAMETERS: &[&str] = &[
    "ci-process",
    "domain",
    "domaincertificate",
    "image",
    "intelligenttiering",
    "live",
    "origin",
    "referer",
    "response-control",
    "rtmp",
    "symlink",
];

/// Returns an unsupported parameter of the query, if any.
pub(crate) fn not_served(query: &[(String, String)]) -> Option<&str> {
    let image = |name: &str| {
        ["imageMogr2", "imageView2", "watermark"]
            .iter()
            .any(|one| name.starts_with(one))
    };
    query
        .iter()
        .map(|(name, _)| name.as_str())
        .find(|name| UNSUPPORTED_PARAMETERS.contains(name) || image(name))
}

/// Returns an unsupported header, if any.
pub(crate) fn header_not_served(headers: &HeaderMap) -> Option<&str> {
    let asks = |name: &str| {
        name == "pic-operations"
            || name.starts_with("x-cos-callback")
            || name == "x-cos-return-body"
            || (name.starts_with("x-ci-") && name != "x-ci-security-token")
    };
    headers
        .keys()
        .map(HeaderName::as_str)
        .find(|name| asks(name))
}

/// Returns whether the request must not overwrite an object.
pub(crate) fn forbids_overwrite(headers: &HeaderMap) -> bool {
    headers
        .get(FORBID_OVERWRITE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// Rewrites a verified request. `bucket` is the one in the host name, if any.
pub(crate) fn to_s3(
    parts: &mut Parts,
    bucket: Option<&str>,
    hosts: &Hosts,
) -> Result<(), http::Error> {
    let forbids = forbids_overwrite(&parts.headers);
    parts.uri = uri(&parts.uri, bucket)?;
    let mut headers = HeaderMap::with_capacity(parts.headers.len());
    for (name, value) in &parts.headers {
        if [AUTHORIZATION, HOST].contains(name) {
            continue;
        }
        let Some(rest) = name.as_str().strip_prefix(COS_PREFIX) else {
            headers.append(name, value.clone());
            continue;
        };
        if let Some(value) = value_in_s3(name.as_str(), value, hosts)? {
            headers.append(HeaderName::try_from(format!("{S3_PREFIX}{rest}"))?, value);
        }
    }
    if forbids {
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
    }
    parts.headers = headers;
    Ok(())
}

/// Maximum size of a document that is rewritten.
const DOCUMENT_MAX: usize = 64 << 10;

/// Translates the body. Only few documents differ.
pub(crate) async fn body(
    parts: &mut Parts,
    head: &RequestHead,
    mut body: Body,
) -> Result<Body, ErrorResponse> {
    let (_, key) = head.target();
    if parts.method == Method::PUT
        && key.is_empty()
        && head
            .query
            .iter()
            .all(|(name, _)| signature::is_parameter(name))
    {
        // COS's document for a new bucket selects availability zones, which do not exist here.
        parts.headers.remove(CONTENT_LENGTH);
        return Ok(Body::empty());
    }
    if !(parts.method == Method::POST && head.has("restore")) {
        return Ok(body);
    }
    let given = body.store_all_limited(DOCUMENT_MAX).await;
    let given = given.map_err(|_| ErrorResponse::from(S3ErrorCode::MaxMessageLengthExceeded))?;
    let translated =
        String::from_utf8_lossy(&given).replace("CASJobParameters", "GlacierJobParameters");
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(translated.len()));
    Ok(Body::from(translated))
}

/// Moves the bucket into the path and removes the signature from the query.
fn uri(given: &Uri, bucket: Option<&str>) -> Result<Uri, http::Error> {
    let mut text = match bucket {
        Some(bucket) => format!("/{bucket}{}", given.path()),
        None => given.path().to_owned(),
    };
    let kept: Vec<_> = given
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            !pair.is_empty() && !signature::is_parameter(name) && name != TOKEN
        })
        .collect();
    if !kept.is_empty() {
        text = format!("{text}?{}", kept.join("&"));
    }
    Ok(Uri::from(PathAndQuery::try_from(text)?))
}

/// Translates a header's value. `None` if S3 has no such header.
fn value_in_s3(
    name: &str,
    value: &HeaderValue,
    hosts: &Hosts,
) -> Result<Option<HeaderValue>, http::Error> {
    let text = value.to_str().unwrap_or_default();
    let translated = match name {
        TOKEN | FORBID_OVERWRITE | "x-cos-sdk-retry" | "x-cos-traffic-limit" => return Ok(None),
        "x-cos-metadata-directive" | "x-cos-tagging-directive" => {
            let replaced = text.to_ascii_lowercase().starts_with("replace");
            HeaderValue::from_static(if replaced { "REPLACE" } else { "COPY" })
        }
        // It grants nobody anything.
        _ if name.starts_with(GRANT_PREFIX) && value.is_empty() => return Ok(None),
        // Without the header, S3 inherits the bucket's ACL, too.
        "x-cos-acl" if text == "default" => return Ok(None),
        COPY_SOURCE => HeaderValue::try_from(copy_source(text, hosts))?,
        _ => value.clone(),
    };
    Ok(Some(translated))
}

/// Translates `<host>/<key>` to `/<bucket>/<key>`.
fn copy_source(text: &str, hosts: &Hosts) -> String {
    let bare = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .unwrap_or(text);
    let of_host = || {
        let (host, key) = bare.split_once('/')?;
        let bucket = hosts.read(host).bucket?;
        Some(format!("/{bucket}/{key}"))
    };
    of_host().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn rewritten(uri: &str, bucket: Option<&str>, headers: &[(&str, &str)]) -> Parts {
        let request = headers
            .iter()
            .fold(Request::builder().uri(uri), |request, (name, value)| {
                request.header(*name, *value)
            });
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        let hosts = Hosts::new(["localhost".to_owned()]);
        to_s3(&mut parts, bucket, &hosts).expect("rewritten");
        parts
    }

    #[test]
    fn bucket_moves_into_path_and_signature_is_removed() {
        let rows = [
            (
                "/a%20b?versions&q-ak=1&q-signature=2",
                Some("b-1"),
                "/b-1/a%20b?versions",
            ),
            ("/?prefix=a%2Fb&q-ak=1", Some("b-1"), "/b-1/?prefix=a%2Fb"),
            ("//a", Some("b-1"), "/b-1//a"),
            ("/b-1/k?x-cos-security-token=t", None, "/b-1/k"),
            ("/", None, "/"),
        ];
        for (uri, bucket, expected) in rows {
            let parts = rewritten(uri, bucket, &[("host", "b"), ("authorization", "q")]);
            assert_eq!(parts.uri.to_string(), expected);
            assert!(parts.headers.is_empty(), "{:?}", parts.headers);
        }
    }

    #[test]
    fn cos_headers_are_translated_to_s3() {
        let rows = [
            ("x-cos-meta-a", "1", Some(("x-amz-meta-a", "1"))),
            (
                "x-cos-acl",
                "public-read",
                Some(("x-amz-acl", "public-read")),
            ),
            ("x-cos-acl", "default", None),
            ("x-cos-grant-read", "", None),
            (
                "x-cos-grant-read",
                "id=1",
                Some(("x-amz-grant-read", "id=1")),
            ),
            ("x-cos-security-token", "t", None),
            (
                "x-cos-metadata-directive",
                "Replaced",
                Some(("x-amz-metadata-directive", "REPLACE")),
            ),
            (
                "x-cos-metadata-directive",
                "Copy",
                Some(("x-amz-metadata-directive", "COPY")),
            ),
            (
                "x-cos-forbid-overwrite",
                "true",
                Some(("if-none-match", "*")),
            ),
            ("x-cos-forbid-overwrite", "false", None),
            (
                "x-cos-copy-source",
                "b-1.cos.ap-guangzhou.myqcloud.com/a%20b?versionId=3",
                Some(("x-amz-copy-source", "/b-1/a%20b?versionId=3")),
            ),
            (
                "x-cos-copy-source",
                "b-1.cos.localhost:9401/k",
                Some(("x-amz-copy-source", "/b-1/k")),
            ),
            (
                "x-cos-copy-source",
                "/b-1/k",
                Some(("x-amz-copy-source", "/b-1/k")),
            ),
            (
                "content-type",
                "text/plain",
                Some(("content-type", "text/plain")),
            ),
        ];
        for (name, value, expected) in rows {
            let parts = rewritten("/", None, &[(name, value)]);
            let found: Vec<_> = parts
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
                .collect();
            assert_eq!(found, Vec::from_iter(expected), "{name}: {value}");
        }
    }

    #[test]
    fn unsupported_parameters_are_rejected() {
        let query = |name: &str| vec![(name.to_owned(), String::new())];
        assert_eq!(not_served(&query("domain")), Some("domain"));
        assert_eq!(
            not_served(&query("imageMogr2/thumbnail/10x")),
            Some("imageMogr2/thumbnail/10x")
        );
        assert_eq!(not_served(&query("prefix")), None);
    }
}
