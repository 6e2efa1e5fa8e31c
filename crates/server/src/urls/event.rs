//! What a function is told of an HTTP request: SCF's documents, from a request's parts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::http::{HeaderMap, Method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A request as a function sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) method: &'a Method,
    /// Below the function's address.
    pub(super) path: &'a str,
    /// Without `?`.
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    /// Whose connection it came by.
    pub(super) from: IpAddr,
}

/// The event of a function's URL.
pub(super) fn of_url(seen: &Seen<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        body: Cow<'a, str>,
        headers: Headers<'a>,
        http_method: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_base64_encoded: Option<bool>,
        path: &'a str,
        query_string: BTreeMap<Cow<'a, str>, Values<'a>>,
    }
    let (body, encoded) = text(seen.body);
    let document = Document {
        body,
        headers: Headers(seen),
        http_method: seen.method.as_str(),
        is_base64_encoded: encoded.then_some(true),
        path: seen.path,
        query_string: query(seen.query),
    };
    serde_json::to_vec(&document).unwrap_or_default()
}

/// A body as text: itself, or base64 where it is none.
fn text(body: &[u8]) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(body) {
        Ok(text) => (text.into(), false),
        Err(_) => (STANDARD.encode(body).into(), true),
    }
}

/// A parameter's value, or its values where it is given more than once.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Values<'a> {
    One(Cow<'a, str>),
    Many(Vec<Cow<'a, str>>),
}

fn query(query: &str) -> BTreeMap<Cow<'_, str>, Values<'_>> {
    let mut all = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match all.entry(name) {
            std::collections::btree_map::Entry::Vacant(empty) => {
                empty.insert(Values::One(value));
            }
            std::collections::btree_map::Entry::Occupied(mut has) => match has.get_mut() {
                Values::Many(values) => values.push(value),
                one => {
                    let first = std::mem::replace(one, Values::Many(Vec::new()));
                    if let Values::One(first) = first {
                        *one = Values::Many(vec![first, value]);
                    }
                }
            },
        }
    }
    all
}

/// Headers by their names in lower case, and the caller's address. Several of a name are one, as HTTP joins them.
struct Headers<'a>(&'a Seen<'a>);

/// The caller's address.
pub(super) const REMOTE: &str = "x-scf-remote-addr";

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let headers = self.0.headers;
        let mut map = serializer.serialize_map(None)?;
        for name in headers.keys().filter(|name| *name != REMOTE) {
            let between = if name == "cookie" { "; " } else { ", " };
            let mut values = headers.get_all(name).iter();
            let first = values.next().map(|value| value.as_bytes());
            let mut text = String::from_utf8_lossy(first.unwrap_or_default());
            for value in values {
                let text = text.to_mut();
                text.push_str(between);
                text.push_str(&String::from_utf8_lossy(value.as_bytes()));
            }
            map.serialize_entry(name.as_str(), &text)?;
        }
        map.serialize_entry(REMOTE, &self.0.from.to_string())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::{Value, json};

    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("user-agent", "curl"),
            ("accept", "a"),
            ("accept", "b"),
            ("cookie", "x=1"),
            ("cookie", "y=2"),
            // No caller says who it is.
            (REMOTE, "1.2.3.4"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn seen<'a>(headers: &'a HeaderMap, query: &'a str, body: &'a [u8]) -> Seen<'a> {
        Seen {
            method: &Method::PUT,
            path: "/a/b%20c",
            query,
            headers,
            body,
            from: IpAddr::from([10, 0, 0, 9]),
        }
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("JSON")
    }

    #[test]
    fn a_url_s_event_has_these_fields_and_no_more() {
        let headers = headers();
        let event = json(&of_url(&seen(
            &headers,
            "a=1&b=%E4%BD%A0+x&a=2&c",
            b"{\"k\": 1}",
        )));
        let expected = json!({
            "body": "{\"k\": 1}",
            "headers": {"user-agent": "curl", "accept": "a, b", "cookie": "x=1; y=2", "x-scf-remote-addr": "10.0.0.9"},
            "httpMethod": "PUT",
            "path": "/a/b%20c",
            "queryString": {"a": ["1", "2"], "b": "\u{4f60} x", "c": ""},
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn a_body_that_is_no_text_comes_in_base64_and_says_so() {
        let headers = HeaderMap::new();
        let event = json(&of_url(&seen(&headers, "", &[0xff, 0])));
        assert_eq!(
            (&event["body"], &event["isBase64Encoded"]),
            (&json!("/wA="), &json!(true))
        );
        assert_eq!(event["queryString"], json!({}));
    }
}
