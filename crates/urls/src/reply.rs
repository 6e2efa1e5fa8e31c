//! The HTTP reply to a caller, built from a function's answer.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use model::RequestId;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::lenient::strict;
use scf::lenient_base64;

/// An integrated reply: status, headers and body, as a function returns them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntegratedReply<'a> {
    #[serde(default, rename = "isBase64Encoded")]
    base64: Option<bool>,
    status_code: serde_json::Number,
    #[serde(default)]
    headers: Option<serde_json::Map<String, Value>>,
    #[serde(default, borrow)]
    body: Option<&'a RawValue>,
}

/// Converts a function's answer to a reply: an object with a status code is an integrated reply, anything else the body.
pub(super) fn from_answer(answer: Bytes) -> Response {
    match has_status(&answer) {
        Ok(true) => integrated(&answer),
        Ok(false) => json(StatusCode::OK, answer),
        // A value outside of strict JSON must not turn an integrated reply into a body.
        Err(_) => {
            let strict = strict(&answer);
            match has_status(&strict) {
                Ok(true) => integrated(&strict),
                Ok(false) | Err(_) => json(StatusCode::OK, answer),
            }
        }
    }
}

/// Converts an answer to an integrated reply; an answer of another form is refused.
pub(super) fn integrated(answer: &[u8]) -> Response {
    let reply = parse_integrated(answer).or_else(|| parse_integrated(&strict(answer)));
    reply.unwrap_or_else(|| {
        // SCF's own text.
        let text = r#"{"errno":403,"error":"Invalid scf response format. please check your scf response format."}"#;
        json(StatusCode::FORBIDDEN, Bytes::from_static(text.as_bytes()))
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

/// Returns whether an answer has a status code.
fn has_status(answer: &[u8]) -> serde_json::Result<bool> {
    // A missing field is the usual case, and must not create an error, which is expensive.
    #[derive(Deserialize)]
    struct Has {
        #[serde(default, rename = "statusCode", deserialize_with = "present")]
        status: bool,
    }
    fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| true)
    }
    if !answer.starts_with(b"{") {
        return Ok(false);
    }
    Ok(serde_json::from_slice::<Has>(answer)?.status)
}

fn parse_integrated(answer: &[u8]) -> Option<Response> {
    let parse_integrated: IntegratedReply<'_> = serde_json::from_slice(answer).ok()?;
    let status = whole_number(&parse_integrated.status_code)?;
    let status = StatusCode::from_u16(status).ok();
    let status = status.filter(|status| !status.is_informational())?;
    let body = match parse_integrated.body {
        None => Vec::new(),
        Some(raw) => body(raw.get(), parse_integrated.base64.unwrap_or_default())?,
    };
    let mut reply = Response::new(Body::from(body));
    *reply.status_mut() = status;
    for (name, value) in parse_integrated.headers.unwrap_or_default() {
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

    async fn shown(answer: &str) -> (u16, Vec<(String, String)>, String) {
        let reply = from_answer(Bytes::copy_from_slice(answer.as_bytes()));
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
            let got = shown(answer).await;
            assert_eq!((got.0, &got.1), (status, &headers), "{answer}");
            assert!(
                got.2.contains(body) && got.2.is_empty() == body.is_empty(),
                "{answer}: {}",
                got.2
            );
        }
    }
}
