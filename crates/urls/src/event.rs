//! The events that functions receive for HTTP requests: SCF's documents, built from a request's parts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{Qualifier, RequestId};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::forwarded::{Added, Forwarded};
use super::header_names::is_read_as;
use super::target::MatchedApi;

/// Expected length of an event without its body.
const HEAD_BYTES: usize = 1024;

/// A request as the function sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestView<'a> {
    pub(super) method: &'a Method,
    /// The path below the function's address.
    pub(super) path: &'a str,
    /// The query without `?`.
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    /// Its way to the platform.
    pub(super) forwarded: &'a Forwarded<'a>,
    pub(super) body: &'a [u8],
    /// The caller's address.
    pub(super) from: IpAddr,
}

/// The API of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct ApiContext<'a> {
    pub(super) matched: &'a MatchedApi,
    pub(super) qualifier: &'a Qualifier,
    pub(super) request: RequestId,
    /// The id of the key that signed the request.
    pub(super) key: Option<&'a str>,
}

/// Returns the event for a function's URL.
pub(super) fn url_event(view: &RequestView<'_>) -> Vec<u8> {
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
    let (body, encoded) = text(view.body);
    let length = body.len();
    let added = [(REMOTE, view.from.to_string().into())];
    let document = Document {
        body,
        headers: Headers {
            view: view.headers,
            forwarded: view.forwarded,
            added: &added,
        },
        http_method: view.method.as_str(),
        is_base64_encoded: encoded.then_some(true),
        path: view.path,
        query_string: query(view.query),
    };
    written(&document, length)
}

/// The event for an API of the API gateway.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    header_parameters: Empty,
    headers: Headers<'a>,
    http_method: &'a str,
    is_base64_encoded: bool,
    path: &'a str,
    path_parameters: BTreeMap<&'a str, &'a str>,
    query_string: BTreeMap<Cow<'a, str>, Values<'a>>,
    query_string_parameters: Empty,
    request_context: RequestContext<'a>,
    stage_variables: StageVariables,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct StageVariables {
    stage: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    http_method: &'static str,
    identity: Identity<'a>,
    path: &'a str,
    request_id: &'a str,
    service_id: &'a str,
    source_ip: String,
    stage: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_id: Option<&'a str>,
}

/// Returns the event for an API of the API gateway. Header and query parameters stay empty: only APIs that are defined
/// outside of triggers have them.
pub(super) fn api_event(view: &RequestView<'_>, api_context: &ApiContext<'_>) -> Vec<u8> {
    let api = &api_context.matched.api;
    let (body, encoded) = match api.base64 {
        true => (STANDARD.encode(view.body).into(), true),
        false => text(view.body),
    };
    let length = body.len();
    let request = api_context.request.to_string();
    let mut added = vec![
        ("requestsource", "APIGW".into()),
        ("x-api-requestid", request.as_str().into()),
        ("x-b3-traceid", request.as_str().into()),
        ("x-qualifier", api_context.qualifier.to_string().into()),
    ];
    if api_context.key.is_none() {
        added.push(("x-anonymous-consumer", "true".into()));
    }
    let parameters = api_context.matched.parameters.iter();
    let stage = api.stage.as_str();
    let document = ApiDocument {
        body: (!view.body.is_empty()).then_some(body),
        header_parameters: Empty {},
        headers: Headers {
            view: view.headers,
            forwarded: view.forwarded,
            added: &added,
        },
        http_method: view.method.as_str(),
        is_base64_encoded: encoded && !view.body.is_empty(),
        path: view.path,
        path_parameters: parameters
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        query_string: query(view.query),
        query_string_parameters: Empty {},
        request_context: RequestContext {
            http_method: api.method.as_str(),
            identity: Identity {
                secret_id: api_context.key,
            },
            path: api.path.as_str(),
            request_id: &request,
            service_id: api.service.as_str(),
            source_ip: view.from.to_string(),
            stage,
        },
        stage_variables: StageVariables { stage },
    };
    written(&document, length)
}

/// Returns a body as text, or in base64 if it is not UTF-8.
fn text(body: &[u8]) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(body) {
        Ok(text) => (text.into(), false),
        Err(_) => (STANDARD.encode(body).into(), true),
    }
}

/// Writes an event. Its memory is reserved at once, as growing it copies the written part.
fn written(document: &impl Serialize, body: usize) -> Vec<u8> {
    let mut event = Vec::with_capacity(body + body / 8 + HEAD_BYTES);
    match serde_json::to_writer(&mut event, document) {
        Ok(()) => event,
        Err(_) => Vec::new(),
    }
}

/// A parameter's value, or its values if it is given more than once.
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

/// Headers by lower-case name, plus headers that the platform sets. Several headers of one name are joined, as HTTP
/// defines it.
struct Headers<'a> {
    view: &'a HeaderMap,
    forwarded: &'a Forwarded<'a>,
    added: &'a [Added<'a>],
}

/// The prefix of headers that only the platform sets.
const OWN: &str = "x-scf-";

/// Returns whether a caller's header is reserved for the platform, or could be read as such a header.
fn is_own(name: &str) -> bool {
    name.get(..OWN.len())
        .is_some_and(|start| is_read_as(start, OWN))
}

/// Returns whether a caller's header gives way to those that the platform adds: it is reserved, or could be read as one
/// of them, or as one by which proxies describe a request.
pub(super) fn is_replaced<'a>(
    name: &str,
    forwarded: &Forwarded<'_>,
    added: impl IntoIterator<Item = &'a Added<'a>>,
) -> bool {
    let is_one = |added: &Added<'_>| is_read_as(name, added.0);
    is_own(name)
        || forwarded.is_forged(name)
        || forwarded.added.iter().any(is_one)
        || added.into_iter().any(is_one)
}

/// The header with the caller's address.
pub(super) const REMOTE: &str = "x-scf-remote-addr";

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let ours = |name: &HeaderName| is_replaced(name.as_str(), self.forwarded, self.added);
        for name in self.view.keys().filter(|name| !ours(name)) {
            let between = if name == "cookie" { "; " } else { ", " };
            let mut values = self.view.get_all(name).iter();
            let first = values.next().map(|value| value.as_bytes());
            let mut text = String::from_utf8_lossy(first.unwrap_or_default());
            for value in values {
                let text = text.to_mut();
                text.push_str(between);
                text.push_str(&String::from_utf8_lossy(value.as_bytes()));
            }
            map.serialize_entry(name.as_str(), &text)?;
        }
        for (name, value) in self.added.iter().chain(&self.forwarded.added) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use model::{ApiMethod, ApiPath, GatewayApi, Stage, TriggerName};
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
            // Callers cannot set their own address.
            (REMOTE, "1.2.3.4"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn view<'a>(
        headers: &'a HeaderMap,
        forwarded: &'a Forwarded<'a>,
        query: &'a str,
        body: &'a [u8],
    ) -> RequestView<'a> {
        RequestView {
            method: &Method::PUT,
            path: "/a/b%20c",
            query,
            headers,
            forwarded,
            body,
            from: IpAddr::from([10, 0, 0, 9]),
        }
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("JSON")
    }

    #[test]
    fn url_event_has_exactly_these_fields() {
        let headers = headers();
        let event = json(&url_event(&view(
            &headers,
            &Forwarded::default(),
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
    fn binary_body_is_base64_encoded() {
        let headers = HeaderMap::new();
        let event = json(&url_event(&view(
            &headers,
            &Forwarded::default(),
            "",
            &[0xff, 0],
        )));
        assert_eq!(
            (&event["body"], &event["isBase64Encoded"]),
            (&json!("/wA="), &json!(true))
        );
        assert_eq!(event["queryString"], json!({}));
    }

    #[test]
    fn api_event_matches_the_gateway_format() {
        let mut headers = headers();
        headers.insert("x-api-requestid", HeaderValue::from_static("forged"));
        let forwarded = Forwarded::default();
        let view = view(&headers, &forwarded, "a=1&a=2", b"");
        let mut matched = MatchedApi {
            api: GatewayApi {
                service: TriggerName::service_id(0),
                service_name: String::new(),
                service_type: String::new(),
                id: String::new(),
                method: ApiMethod::Any,
                path: ApiPath::parse("/{what}/b").expect("a path"),
                stage: Stage::Prepub,
                signed: true,
                integrated: false,
                base64: false,
                cors: false,
            },
            parameters: vec![("what".into(), "a".into())],
        };
        let request = RequestId::from_bytes([1; 16]);
        let api_context = ApiContext {
            matched: &matched,
            qualifier: &Qualifier::Latest,
            request,
            key: Some("AKID"),
        };
        let id = request.to_string();
        let expected = json!({
            "headerParameters": {},
            "headers": {
                "user-agent": "curl", "accept": "a, b", "cookie": "x=1; y=2", "requestsource": "APIGW",
                "x-api-requestid": id, "x-b3-traceid": id, "x-qualifier": "$LATEST",
            },
            "httpMethod": "PUT",
            "isBase64Encoded": false,
            "path": "/a/b%20c",
            "pathParameters": {"what": "a"},
            "queryString": {"a": ["1", "2"]},
            "queryStringParameters": {},
            "requestContext": {
                "httpMethod": "ANY", "identity": {"secretId": "AKID"}, "path": "/{what}/b", "requestId": id,
                "serviceId": "service-aaaaaaaa", "sourceIp": "10.0.0.9", "stage": "prepub",
            },
            "stageVariables": {"stage": "prepub"},
        });
        assert_eq!(json(&api_event(&view, &api_context)), expected);
        matched.api.base64 = true;
        let view = RequestView {
            body: b"text",
            ..view
        };
        let api_context = ApiContext {
            matched: &matched,
            qualifier: &Qualifier::Latest,
            request,
            key: None,
        };
        let event = json(&api_event(&view, &api_context));
        assert_eq!(
            (&event["body"], &event["isBase64Encoded"]),
            (&json!("dGV4dA=="), &json!(true))
        );
        assert_eq!(event["requestContext"]["identity"], json!({}));
        assert_eq!(event["headers"]["x-anonymous-consumer"], "true");
    }
}
