//! The HTTP reply to a caller, built from a function's answer.

use std::fmt;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use model::RequestId;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::error_status::UrlErrors;
use super::lenient::{strict, trimmed};
use scf::lenient_base64;

/// The fields of an integrated reply: status, headers and body, as a function returns them. Of a repeated field the last
/// one counts, as in the parsers of Python and Node.js.
#[derive(Debug, Default)]
struct Fields<'a> {
    status: Option<&'a RawValue>,
    base64: Option<&'a RawValue>,
    headers: Option<&'a RawValue>,
    body: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier)]
        enum Name {
            #[serde(rename = "statusCode")]
            Status,
            #[serde(rename = "isBase64Encoded")]
            Base64,
            #[serde(rename = "headers")]
            Headers,
            #[serde(rename = "body")]
            Body,
            #[serde(other)]
            Other,
        }
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key()? {
                    let field = match name {
                        Name::Status => &mut fields.status,
                        Name::Base64 => &mut fields.base64,
                        Name::Headers => &mut fields.headers,
                        Name::Body => &mut fields.body,
                        Name::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *field = Some(map.next_value()?);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Converts a function's answer to a reply: an object with a status code is an integrated reply, anything else the body.
pub(super) fn from_answer(answer: Bytes, errors: UrlErrors) -> Response {
    if !trimmed(&answer).starts_with(b"{") {
        return json(StatusCode::OK, answer);
    }
    match serde_json::from_slice::<Fields<'_>>(&answer) {
        Ok(fields) if fields.status.is_none() => json(StatusCode::OK, answer),
        Ok(_) => integrated(&answer, errors),
        // A value outside of strict JSON must not turn an integrated reply into a body.
        Err(_) => {
            let strict = strict(&answer);
            match serde_json::from_slice::<Fields<'_>>(&strict) {
                Ok(fields) if fields.status.is_some() => integrated(&strict, errors),
                _ => json(StatusCode::OK, answer),
            }
        }
    }
}

/// Converts an answer to an integrated reply; an answer of another form is refused.
pub(super) fn integrated(answer: &[u8], errors: UrlErrors) -> Response {
    let reply = parse_integrated(answer).or_else(|| parse_integrated(&strict(answer)));
    reply.unwrap_or_else(|| {
        // SCF's own text.
        let text = r#"{"errno":403,"error":"Invalid scf response format. please check your scf response format."}"#;
        json(errors.malformed_reply(), Bytes::from_static(text.as_bytes()))
    })
}

/// Returns a reply with a JSON document.
pub(super) fn json(status: StatusCode, document: Bytes) -> Response {
    let mut reply = Response::new(Body::from(document));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn parse_integrated(answer: &[u8]) -> Option<Response> {
    let fields: Fields<'_> = serde_json::from_slice(answer).ok()?;
    let status = whole_number(&parse(fields.status?)?)?;
    let status = StatusCode::from_u16(status).ok();
    let status = status.filter(|status| !status.is_informational())?;
    let base64: Option<bool> = fields.base64.map_or(Some(None), parse)?;
    let headers: Option<Map<String, Value>> = fields.headers.map_or(Some(None), parse)?;
    let body = match fields.body {
        None => Vec::new(),
        Some(raw) => body(raw.get(), base64.unwrap_or_default())?,
    };
    let mut reply = Response::new(Body::from(body));
    *reply.status_mut() = status;
    for (name, value) in headers.unwrap_or_default() {
        let name: HeaderName = name.parse().ok()?;
        if is_hop_by_hop(&name) {
            continue;
        }
        let values = match value {
            Value::Array(values) => values,
            one => vec![one],
        };
        // A header with the value `null` is omitted.
        for value in values.into_iter().filter(|value| !value.is_null()) {
            let value = HeaderValue::from_bytes(plain(value)?.as_bytes()).ok()?;
            reply.headers_mut().append(&name, value);
        }
    }
    let headers = reply.headers_mut();
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Some(reply)
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// Parses a status; Python may write a whole number as 200.0.
fn whole_number(number: &serde_json::Number) -> Option<u16> {
    let exact = number
        .as_u64()
        .and_then(|number| u16::try_from(number).ok());
    let close = || {
        number
            .as_f64()
            .filter(|number| number.fract() == 0.0 && (0.0..1000.0).contains(number))
    };
    exact.or_else(|| close().map(|number| number as u16))
}

/// Returns the body: text, decoded if in base64; other JSON stays as it is.
fn body(raw: &str, base64: bool) -> Option<Vec<u8>> {
    if !raw.starts_with('"') {
        return Some(if raw == "null" {
            Vec::new()
        } else {
            raw.as_bytes().to_vec()
        });
    }
    let text: String = serde_json::from_str(raw).ok()?;
    if base64 {
        lenient_base64::decode(text).ok()
    } else {
        Some(text.into_bytes())
    }
}

fn plain(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Returns whether a header is hop-by-hop; the connection sets those itself.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Sets the header with the request's id, as SCF and the API gateway do.
pub(super) fn name(headers: &mut HeaderMap, request: RequestId, gateway: bool) {
    if let Ok(value) = HeaderValue::try_from(request.to_string()) {
        if gateway {
            headers.insert("x-api-requestid", value.clone());
        }
        headers.insert("x-scf-request-id", value);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn shown(answer: &[u8]) -> (u16, Vec<(String, String)>, String) {
        let reply = from_answer(Bytes::copy_from_slice(answer), UrlErrors::Scf);
        let status = reply.status().as_u16();
        let headers = reply.headers().iter().map(|(name, value)| {
            let value = value.to_str().expect("text").to_owned();
            (name.to_string(), value)
        });
        let headers = headers.collect();
        let body = reply
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        (status, headers, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    async fn answer_is_a_body_or_an_integrated_reply() {
        let kind = |value: &str| ("content-type".to_owned(), value.to_owned());
        let both = |one: &str, other: &str| ("set-cookie".to_owned(), format!("{one}{other}"));
        let wrong = "Invalid scf response format";
        let rows = [
            (
                r#"{"a":1}"#,
                200,
                vec![kind("application/json")],
                r#"{"a":1}"#,
            ),
            (
                r#""text""#,
                200,
                vec![kind("application/json")],
                r#""text""#,
            ),
            (
                r#"{"statusCode":404,"headers":{"Content-Type":"text/plain","Content-Length":"9","Connection":"close"},"body":"no"}"#,
                404,
                vec![kind("text/plain")],
                "no",
            ),
            (
                r#"{"isBase64Encoded":true,"statusCode":200,"headers":{"set-cookie":["a=1","b=2"]},"body":"aGk="}"#,
                200,
                vec![both("a=1", ""), both("b=2", ""), kind("application/json")],
                "hi",
            ),
            (
                r#"{"statusCode":201}"#,
                201,
                vec![kind("application/json")],
                "",
            ),
            (
                r#"{"statusCode":200,"body":{"x": 1}}"#,
                200,
                vec![kind("application/json")],
                r#"{"x": 1}"#,
            ),
            (
                r#"{"statusCode":201,"body":"rain \ud83c","x":NaN}"#,
                201,
                vec![kind("application/json")],
                "rain \u{fffd}",
            ),
            (
                r#"{"statusCode":200.0,"isBase64Encoded":null,"headers":{"A":null,"B":[null,"x"]},"body":"ok"}"#,
                200,
                vec![("b".to_owned(), "x".to_owned()), kind("application/json")],
                "ok",
            ),
            (
                r#"{"statusCode":200,"isBase64Encoded":true,"body":"aG\nk\n"}"#,
                200,
                vec![kind("application/json")],
                "hi",
            ),
            (
                r#"{"a":NaN}"#,
                200,
                vec![kind("application/json")],
                r#"{"a":NaN}"#,
            ),
            (
                r#"{"statusCode":"200"}"#,
                403,
                vec![kind("application/json")],
                wrong,
            ),
            (
                r#"{"statusCode":42}"#,
                403,
                vec![kind("application/json")],
                wrong,
            ),
            (
                r#"{"statusCode":101}"#,
                403,
                vec![kind("application/json")],
                wrong,
            ),
            (
                r#"{"statusCode":200,"headers":{"a b":"x"}}"#,
                403,
                vec![kind("application/json")],
                wrong,
            ),
            (
                r#"{"statusCode":200,"headers":{"a":"x\r\ny: z"}}"#,
                403,
                vec![kind("application/json")],
                wrong,
            ),
            (
                r#"{"statusCode":200,"isBase64Encoded":true,"body":"?"}"#,
                403,
                vec![kind("application/json")],
                wrong,
            ),
        ];
        for (answer, status, headers, body) in rows {
            let got = shown(answer.as_bytes()).await;
            assert_eq!((got.0, &got.1), (status, &headers), "{answer}");
            assert!(
                got.2.contains(body) && got.2.is_empty() == body.is_empty(),
                "{answer}: {}",
                got.2
            );
        }
    }
    #[tokio::test]
    async fn integrated_reply_is_recognised_in_any_common_encoding() {
        let rows: &[(&[u8], u16, &str)] = &[
            (
                b"\xef\xbb\xbf{\"statusCode\":201,\"body\":\"ok\"}",
                201,
                "ok",
            ),
            (b"\n {\"statusCode\":201,\"body\":\"ok\"}\n", 201, "ok"),
            (
                b"{\"statusCode\":201,\"body\":\"\xed\xa0\xbc\xed\xbc\xa7\"}",
                201,
                "\u{1f327}",
            ),
            (
                b"{\"statusCode\":201,\"body\":\"\xed\xa0\xbc\"}",
                201,
                "\u{fffd}",
            ),
            (
                b"{\"statusCode\":201,\"x\":\"\xff\",\"body\":\"ok\"}",
                201,
                "ok",
            ),
            (b"{\"statusCode\":201,\"body\":\"a\nb\"}", 201, "a\nb"),
            // The last one counts.
            (
                b"{\"statusCode\":\"x\",\"body\":\"a\",\"statusCode\":201,\"body\":\"b\"}",
                201,
                "b",
            ),
            (
                b"{\"headers\":1,\"statusCode\":201,\"headers\":{}}",
                201,
                "",
            ),
            (b"{\"status\\u0043ode\":201,\"body\":\"ok\"}", 201, "ok"),
            (
                b"{\"statusCode\":200,\"isBase64Encoded\":true,\"body\":\"aG\\u000bk=\"}",
                200,
                "hi",
            ),
            (b"{\"statusCode\":null}", 403, "Invalid scf response format"),
        ];
        for (answer, status, body) in rows {
            let got = shown(answer).await;
            assert_eq!(got.0, *status, "{answer:x?}: {}", got.2);
            assert!(got.2.contains(body), "{answer:x?}: {}", got.2);
        }
        // Of a body nothing is changed.
        let answer = b"\xef\xbb\xbf{\"a\":\"\xff\"}";
        let reply = from_answer(Bytes::from_static(answer), UrlErrors::Scf);
        let body = reply.into_body().collect().await.expect("a body");
        assert_eq!(body.to_bytes(), &answer[..]);
    }

    #[test]
    fn malformed_reply_is_a_bad_gateway_in_http_mode() {
        let status = |errors| integrated(b"{\"statusCode\":42}", errors).status();
        assert_eq!(status(UrlErrors::Scf), StatusCode::FORBIDDEN);
        assert_eq!(status(UrlErrors::Http), StatusCode::BAD_GATEWAY);
    }
}
