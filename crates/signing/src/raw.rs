//! Conversion of HTTP requests into the form that `scf` parses.

use http::HeaderMap;
use http::request::Parts;
use scf::RawRequest;

/// Returns the headers whose values are UTF-8.
pub fn headers(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let text = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str(), std::str::from_utf8(value.as_bytes()).ok()?))
    });
    text.collect()
}

/// Builds a request from its head, these headers and this body.
pub fn request<'a>(
    parts: &'a Parts,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
) -> RawRequest<'a> {
    RawRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers,
        body,
    }
}
