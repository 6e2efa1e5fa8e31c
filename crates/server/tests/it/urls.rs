//! HTTP to functions.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use testkit::{Client, Options, Server};

use crate::{VIRGA, server};

/// Shows the request, or answers as it is told to in the query.
const SHOWS: &str = r#"
import json, time
def main_handler(event, context):
    how = event['queryString'].get('how')
    if how == 'full':
        return {'statusCode': 418, 'headers': {'Content-Type': 'text/plain', 'Set-Cookie': ['a=1', 'b=2']}, 'body': 'short and stout'}
    if how == 'binary':
        return {'statusCode': 200, 'isBase64Encoded': True, 'headers': {'content-type': 'image/png'}, 'body': '/9j/4A=='}
    if how == 'wrong':
        return {'statusCode': 'many'}
    if how == 'raise':
        raise ValueError('on purpose')
    if how == 'slow':
        time.sleep(60)
    if how == 'long':
        return 'x' * (6 << 20)
    if how == 'text':
        return 'text'
    return event
"#;

/// A reply as it came over the wire.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// Sends a request to a host that has no name here.
fn send(client: &Client, host: &str, request: &str, headers: &str, body: &[u8]) -> Reply {
    let mut socket = TcpStream::connect(client.host()).expect("a server");
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).expect("sent");
    // What is too long is refused before it is read.
    let _ = socket.write_all(body);
    let mut raw = Vec::new();
    let _ = socket.read_to_end(&mut raw);
    let end = raw
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8(raw[..end].to_vec()).expect("text");
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_lowercase(), value.to_owned()))
    });
    Reply {
        status: status.expect("a status"),
        headers: headers.collect(),
        body: raw[end + 4..].to_vec(),
    }
}

fn domain(client: &Client, name: &str, endpoints: Value) {
    client.ok(
        "CreateCustomDomain",
        &json!({"Domain": name, "Protocol": "HTTP", "EndpointsConfig": endpoints}),
    );
}

fn to(function: &str, path: &str) -> Value {
    json!({"FunctionName": function, "PathMatch": path})
}

#[test]
fn a_domain_leads_to_functions_by_its_paths_and_rewrites_them() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({"Timeout": 1}));
    client.create("other", "def main_handler(e, c):\n    return {'other': e['path'], 'version': c['function_version']}\n", json!({}));
    client.ok("PublishVersion", &json!({"FunctionName": "other"}));
    let rewritten = json!({
        "FunctionName": "other", "Qualifier": "1", "PathMatch": "/other/*",
        "PathRewrite": [{"Path": "/other/old", "Type": "ExactRules", "Rewrite": "/new"}, {"Path": "/other/*", "Type": "WildcardRules", "Rewrite": "/$"}],
    });
    domain(
        &client,
        "api.example.com",
        json!([to("shows", "/*"), rewritten]),
    );
    let body = "{\"k\": \"\u{4f60}\"}".as_bytes();
    let sent = "X-Own: a\r\nx-own: b\r\nCookie: c=1\r\nX-Scf-Remote-Addr: 9.9.9.9\r\n";
    let reply = send(
        &client,
        "API.example.com:80",
        "PUT /a/b?x=1&x=2&y=%20",
        sent,
        body,
    );
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), ["application/json"]);
    assert_eq!(reply.header("x-scf-request-id").len(), 1);
    let expected = json!({
        "httpMethod": "PUT", "path": "/a/b", "queryString": {"x": ["1", "2"], "y": " "}, "body": "{\"k\": \"\u{4f60}\"}",
        "headers": {
            "host": "API.example.com:80", "connection": "close", "content-length": "12", "x-own": "a, b", "cookie": "c=1",
            "x-scf-remote-addr": "127.0.0.1",
        },
    });
    assert_eq!(reply.json(), expected);
    let binary = send(&client, "api.example.com", "POST /", "", &[0xff, 0xfe]).json();
    assert_eq!(
        (&binary["body"], &binary["isBase64Encoded"]),
        (&json!("//4="), &json!(true))
    );
    for (path, seen) in [
        ("/other/a/b", "/a/b"),
        ("/other/old", "/new"),
        ("/other/", "/"),
    ] {
        let reply = send(&client, "api.example.com", &format!("GET {path}"), "", b"").json();
        assert_eq!(reply, json!({"other": seen, "version": "1"}));
    }
    // The API is where it was, and so is a host that nobody has.
    assert_eq!(client.get("/healthz").status, 200);
    assert_eq!(
        send(&client, "nobody.example.com", "GET /healthz", "", b"").status,
        200
    );
    domain(&client, "narrow.example.com", json!([to("shows", "/only")]));
    let missing = send(&client, "narrow.example.com", "GET /healthz", "", b"");
    assert_eq!(
        (missing.status, &missing.json()["statusCode"]),
        (404, &json!(435))
    );
    client.ok("DeleteCustomDomain", &json!({"Domain": "api.example.com"}));
    assert_eq!(
        send(&client, "api.example.com", "GET /healthz", "", b"").status,
        200
    );
}

#[test]
fn replies_are_what_the_function_says_and_failures_scf_s_documents() {
    let server = Server::with(VIRGA, Options::default());
    let client = server.client();
    client.create("shows", SHOWS, json!({"Timeout": 1}));
    domain(&client, "api.example.com", json!([to("shows", "/*")]));
    let get = |how: &str| {
        send(
            &client,
            "api.example.com",
            &format!("GET /?how={how}"),
            "",
            b"",
        )
    };
    let full = get("full");
    assert_eq!(
        (full.status, full.body.as_slice()),
        (418, b"short and stout".as_slice())
    );
    assert_eq!(full.header("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(full.header("content-type"), ["text/plain"]);
    let binary = get("binary");
    assert_eq!(binary.body, [0xff, 0xd8, 0xff, 0xe0]);
    assert_eq!(get("text").body, b"\"text\"");
    let head = send(&client, "api.example.com", "HEAD /?how=full", "", b"");
    assert_eq!((head.status, head.body.as_slice()), (418, b"".as_slice()));
    let wrong = get("wrong");
    assert_eq!((wrong.status, &wrong.json()["errno"]), (403, &json!(403)));
    for (how, status, message) in [
        ("raise", 430, "user code exception caught"),
        ("slow", 433, "Invoking task timed out after 1 seconds"),
        ("long", 407, "6291456"),
    ] {
        let reply = get(how);
        assert_eq!(reply.status, status, "{how}");
        let document = reply.json();
        assert_eq!(document["statusCode"], status);
        assert!(
            document["errorMessage"]
                .as_str()
                .is_some_and(|text| text.contains(message)),
            "{document}"
        );
        assert_eq!(
            json!(reply.header("x-scf-request-id")[0]),
            document["requestId"]
        );
    }
    let large = vec![b'x'; (6 << 20) + 1];
    let refused = send(&client, "api.example.com", "POST /", "", &large);
    assert_eq!(
        (refused.status, &refused.json()["statusCode"]),
        (413, &json!(406))
    );
    let headers = format!("X-Long: {}\r\n", "y".repeat(1 << 20));
    assert_eq!(
        send(&client, "api.example.com", "GET /", &headers, b"").status,
        431
    );
    client.ok(
        "PutReservedConcurrencyConfig",
        &json!({"FunctionName": "shows", "ReservedConcurrencyMem": 0}),
    );
    assert_eq!(get("text").status, 432);
    client.ok("DeleteFunction", &json!({"FunctionName": "shows"}));
    assert_eq!(get("text").status, 404);
}

#[test]
fn an_alias_sends_requests_on_by_their_headers() {
    let server = server();
    let client = server.client();
    let source = "def main_handler(e, c):\n    return c['function_version']\n";
    client.create("shared", source, json!({}));
    client.ok("PublishVersion", &json!({"FunctionName": "shared"}));
    let routing = json!({"AddtionVersionMatchs": [{"Version": "1", "Key": "invoke.headers.User", "Method": "exact", "Expression": "Bob"}]});
    client.ok("CreateAlias", &json!({"FunctionName": "shared", "Name": "live", "FunctionVersion": "$LATEST", "RoutingConfig": routing}));
    let route = json!({"FunctionName": "shared", "Qualifier": "live", "PathMatch": "/*"});
    domain(&client, "api.example.com", json!([route]));
    for (headers, version) in [
        ("User: Bob\r\n", "1"),
        ("User: Eve\r\n", "$LATEST"),
        ("", "$LATEST"),
    ] {
        assert_eq!(
            send(&client, "api.example.com", "GET /", headers, b"").json(),
            version
        );
    }
}

#[test]
fn a_domain_outlives_a_restart_and_nobody_takes_the_api_s_own() {
    let mut server = Server::flags(VIRGA, &["--public-url", "https://scf.example.com"]);
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    domain(&client, "api.example.com", json!([to("shows", "/*")]));
    let create = |name: &str| {
        let request =
            json!({"Domain": name, "Protocol": "HTTP", "EndpointsConfig": [to("shows", "/*")]});
        client.code("CreateCustomDomain", &request)
    };
    for own in ["scf.example.com", "virga.internal", "api.example.com"] {
        assert_eq!(create(own), "ResourceInUse", "{own}");
    }
    server.kill();
    server.restart();
    let client = server.client();
    assert_eq!(
        send(&client, "api.example.com", "GET /", "", b"").json()["path"],
        "/"
    );
}
