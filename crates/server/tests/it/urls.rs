//! HTTP to functions.

mod domains;
mod signed;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use testkit::{Client, Options, Server, eventually};

use crate::{VIRGA, server};

/// Shows the request, or answers as its query says.
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
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// What the log says a request was answered with, and printed.
pub(crate) fn logged(client: &Client, function: &str, request: &Value) -> String {
    let query = json!({"FunctionName": function, "FunctionRequestId": request});
    let mut said = String::new();
    eventually("it is logged", || {
        let logs = client.ok("GetFunctionLogs", &query);
        let log = logs["Data"][0].clone();
        said = format!("{}{}", log["RetMsg"], log["Log"]);
        !log.is_null()
    });
    said
}

/// Sends a request to a host that has no name here.
pub(crate) fn send(
    client: &Client,
    host: &str,
    request: &str,
    headers: &str,
    body: &[u8],
) -> Reply {
    let mut socket = TcpStream::connect(client.host()).expect("a server");
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).expect("sent");
    // A body that is too long is refused before it is read.
    let _ = socket.write_all(body);
    read(&mut socket)
}

fn read(socket: &mut TcpStream) -> Reply {
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
    let mut reply = Reply {
        status: status.expect("a status"),
        headers: headers.collect(),
        body: raw[end + 4..].to_vec(),
    };
    if reply.header("transfer-encoding") == ["chunked"] {
        reply.body = joined(&reply.body);
    }
    reply
}

/// Sends a body that does not say how long it is, all of it, and hears the reply.
pub(crate) fn send_in_chunks(client: &Client, request: &str, length: usize) -> Reply {
    let mut socket = TcpStream::connect(client.host()).expect("a server");
    let host = client.host();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).expect("sent");
    let bytes = vec![b'x'; length];
    for chunk in bytes.chunks(100_000) {
        let head = format!("{:x}\r\n", chunk.len());
        socket.write_all(head.as_bytes()).expect("sent");
        socket.write_all(chunk).expect("sent");
        socket.write_all(b"\r\n").expect("sent");
    }
    socket.write_all(b"0\r\n\r\n").expect("sent");
    read(&mut socket)
}

/// The chunks of a body, in one.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&chunks[..end]).expect("text");
        let size = usize::from_str_radix(size, 16).expect("a size");
        let from = end + 2;
        body.extend_from_slice(chunks.get(from..from + size).unwrap_or_default());
        chunks = chunks.get(from + size + 2..).unwrap_or_default();
    }
    body
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
fn replies_are_the_functions_and_failures_are_scf_documents() {
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
        let id = json!(reply.header("x-scf-request-id")[0]);
        // Strangers learn nothing of the function's inside; its log has it.
        assert_eq!(
            reply.json(),
            json!({"errorCode": -1, "requestId": id, "statusCode": status})
        );
        assert!(logged(&client, "shows", &id).contains(message), "{how}");
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
fn oversized_request_is_drained_and_answered() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let (id, _) = url(&client, "shows", &json!({"AuthType": "NONE"}));
    let post = format!("POST /url/{id}/");
    let fits = send_in_chunks(&client, &post, 1 << 20).json();
    assert_eq!(fits["body"].as_str().map(str::len), Some(1 << 20));
    let refused = send_in_chunks(&client, &post, (6 << 20) + 1);
    assert_eq!(
        (refused.status, &refused.json()["statusCode"]),
        (413, &json!(406))
    );
    // Announced, too: the reply to a body that is sent all the same.
    let announced = send(&client, &client.host(), &post, "", &vec![b'x'; 20 << 20]);
    assert_eq!(announced.status, 413);
}

/// Gives a function a URL; returns its id and its description.
pub(crate) fn url(client: &Client, function: &str, desc: &Value) -> (String, Value) {
    let request = json!({"FunctionName": function, "TriggerName": "url-trigger", "Type": "http", "TriggerDesc": desc.to_string()});
    let trigger = client.ok("CreateTrigger", &request)["TriggerInfo"].take();
    let shown = trigger["TriggerDesc"].as_str().expect("text");
    (
        trigger["TriggerName"].as_str().expect("text").to_owned(),
        serde_json::from_str(shown).expect("JSON"),
    )
}

#[test]
fn url_routes_to_its_function_by_host_and_by_path() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let (id, shown) = url(&client, "shows", &json!({"AuthType": "NONE"}));
    assert_eq!(id.len(), 10);
    let host = format!("1250000000-{id}.ap-guangzhou.localhost");
    let port = client.host().rsplit(':').next().expect("a port").to_owned();
    assert_eq!(
        shown["NetConfig"]["ExtranetUrl"],
        format!("http://{host}:{port}")
    );
    assert_eq!(
        shown["NetConfig"]["IntranetUrl"],
        format!("http://virga.internal:9400/url/{id}")
    );
    let by_host = send(&client, &format!("{host}:{port}"), "GET /a?x=1", "", b"").json();
    assert_eq!(
        (&by_host["path"], &by_host["queryString"]["x"]),
        (&json!("/a"), &json!("1"))
    );
    for (path, seen) in [("", "/"), ("/", "/"), ("/a/b", "/a/b")] {
        let by_path = client.get(&format!("/url/{id}{path}?x=1")).json();
        assert_eq!(
            (&by_path["path"], &by_path["queryString"]["x"]),
            (&json!(seen), &json!("1"))
        );
    }
    let nobody = [
        format!("1250000001-{id}.ap-guangzhou.localhost"),
        "1250000000-abcdefghij.ap-guangzhou.localhost".to_owned(),
        "ap-guangzhou.localhost".to_owned(),
        "x.ap-guangzhou.localhost".to_owned(),
    ];
    for host in nobody {
        assert_eq!(send(&client, &host, "GET /", "", b"").status, 404, "{host}");
    }
    assert_eq!(client.get("/url/abcdefghij/").status, 404);
    assert_eq!(client.get("/url/").status, 404);
    // Closed, opened, for an alias, and gone.
    let status = |enable: &str| {
        let request =
            json!({"FunctionName": "shows", "TriggerName": id, "Type": "http", "Enable": enable});
        client.ok("UpdateTriggerStatus", &request);
        client.get(&format!("/url/{id}/")).status
    };
    assert_eq!((status("CLOSE"), status("OPEN")), (403, 200));
    let second = json!({"FunctionName": "shows", "TriggerName": "x", "Type": "http"});
    assert_eq!(
        client.code("CreateTrigger", &second),
        "ResourceInUse.Trigger"
    );
    client.ok("PublishVersion", &json!({"FunctionName": "shows"}));
    let other = json!({"FunctionName": "shows", "TriggerName": "x", "Type": "http", "Qualifier": "1", "TriggerDesc": "{\"AuthType\":\"NONE\"}"});
    let other = client.ok("CreateTrigger", &other)["TriggerInfo"]["TriggerName"].take();
    let other = other.as_str().expect("text");
    assert_eq!(client.get(&format!("/url/{other}/")).status, 200);
    client.ok(
        "DeleteTrigger",
        &json!({"FunctionName": "shows", "TriggerName": other, "Type": "http"}),
    );
    assert_eq!(client.get(&format!("/url/{other}/")).status, 404);
    client.ok("DeleteFunction", &json!({"FunctionName": "shows"}));
    assert_eq!(client.get(&format!("/url/{id}/")).status, 404);
}

#[test]
fn cors_follows_the_trigger_settings() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let cors = json!({"Enable": true, "Origins": ["https://a.example"], "Methods": ["GET", "PUT"], "ExposeHeaders": ["x-seen"], "MaxAge": 60, "Credentials": true});
    let (id, shown) = url(
        &client,
        "shows",
        &json!({"AuthType": "NONE", "NetConfig": {"EnableIntranet": false, "EnableExtranet": true}, "CorsConfig": cors}),
    );
    assert_eq!(shown["CorsConfig"]["Origins"], json!(["https://a.example"]));
    assert_eq!(shown["NetConfig"]["IntranetUrl"], "");
    let asks = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-own\r\n";
    let path = format!("/url/{id}/");
    let before = send(
        &client,
        &client.host(),
        &format!("OPTIONS {path}"),
        asks,
        b"",
    );
    assert_eq!(before.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-own"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "60"),
    ] {
        assert_eq!(before.header(name), [value], "{name}");
    }
    let sent = send(
        &client,
        &client.host(),
        &format!("GET {path}"),
        "Origin: https://a.example\r\n",
        b"",
    );
    assert_eq!(
        sent.header("access-control-allow-origin"),
        ["https://a.example"]
    );
    assert_eq!(sent.header("access-control-expose-headers"), ["x-seen"]);
    let stranger = send(
        &client,
        &client.host(),
        &format!("GET {path}"),
        "Origin: https://b.example\r\n",
        b"",
    );
    assert!(stranger.header("access-control-allow-origin").is_empty());
    // Without it the function answers for itself.
    let update = json!({"FunctionName": "shows", "TriggerName": id, "Type": "http", "TriggerDesc": "{\"CorsConfig\": {\"Enable\": \"false\"}}"});
    client.ok("UpdateTrigger", &update);
    let own = send(
        &client,
        &client.host(),
        &format!("OPTIONS {path}"),
        asks,
        b"",
    );
    assert_eq!(
        (own.status, &own.json()["httpMethod"]),
        (200, &json!("OPTIONS"))
    );
}

#[test]
fn functions_call_each_other_by_url_where_they_may() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    let source = "import urllib.request, urllib.error\ndef main_handler(e, c):\n    try:\n        return urllib.request.urlopen(e).status\n    except urllib.error.HTTPError as error:\n        return error.code\n";
    client.create("calls", source, json!({"Timeout": 10}));
    let net = |intranet: bool, extranet: bool| json!({"AuthType": "NONE", "NetConfig": {"EnableIntranet": intranet, "EnableExtranet": extranet}});
    let (id, shown) = url(&client, "shows", &net(true, false));
    let inside = &shown["NetConfig"]["IntranetUrl"];
    assert_eq!(client.answer("calls", inside), 200);
    assert_eq!(client.get(&format!("/url/{id}/")).status, 403);
    let update = json!({"FunctionName": "shows", "TriggerName": id, "Type": "http", "TriggerDesc": net(false, true).to_string()});
    client.ok("UpdateTrigger", &update);
    assert_eq!(client.answer("calls", inside), 403);
    assert_eq!(client.get(&format!("/url/{id}/")).status, 200);
}

#[test]
fn invalid_url_settings_are_refused_with_a_reason() {
    let server = server();
    let client = server.client();
    client.create("shows", SHOWS, json!({}));
    for (desc, part) in [
        ("{", "EOF"),
        ("[]", "not as expected"),
        (r#"{"AuthType": "BASIC"}"#, "NONE and CAM"),
        (
            r#"{"NetConfig": {"EnableIntranet": false, "EnableExtranet": false}}"#,
            "must be true",
        ),
        (r#"{"NetConfig": {"EnableIntranet": 7}}"#, "EnableIntranet"),
        (
            r#"{"CorsConfig": {"Enable": true, "MaxAge": -1}}"#,
            "MaxAge",
        ),
        (
            r#"{"CorsConfig": {"Enable": true, "Origins": ["a b"]}}"#,
            "Origins",
        ),
    ] {
        let request = json!({"FunctionName": "shows", "TriggerName": "x", "Type": "http", "TriggerDesc": desc});
        let refused = client
            .call("CreateTrigger", &request)
            .expect_err("a refusal");
        assert_eq!(refused.code, "InvalidParameterValue.TriggerDesc", "{desc}");
        assert!(
            refused.message.contains(part),
            "{desc}: {}",
            refused.message
        );
    }
    let domain = json!({"Domain": "a.ap-guangzhou.localhost", "Protocol": "HTTP", "EndpointsConfig": [to("shows", "/*")]});
    assert_eq!(client.code("CreateCustomDomain", &domain), "ResourceInUse");
}

#[test]
fn anonymous_callers_see_only_the_code_of_a_failure_and_its_owner_the_details() {
    const FAILS: &str = r#"
import os, time
def main_handler(event, context):
    how = event['path'].strip('/')
    if how == 'raise':
        raise ValueError('a secret of the inside')
    if how == 'exit':
        os._exit(3)
    if how == 'slow':
        time.sleep(60)
    return {'statusCode': 'wrong'}
"#;
    let rows = [("raise", 430, 500), ("exit", 439, 502), ("slow", 433, 504)];
    for (flags, style) in [(&[][..], 0), (&["--url-errors", "http"][..], 1)] {
        let server = Server::flags(VIRGA, flags);
        let client = server.client();
        client.create("fails", FAILS, json!({"Timeout": 1}));
        domain(&client, "fails.example.com", json!([to("fails", "/*")]));
        for (how, code, http) in rows {
            let reply = send(
                &client,
                "fails.example.com",
                &format!("GET /{how}"),
                "",
                b"",
            );
            assert_eq!(reply.status, [code, http][style], "{how}");
            let (document, text) = (
                reply.json(),
                String::from_utf8_lossy(&reply.body).into_owned(),
            );
            assert_eq!(document["statusCode"], code);
            let keys: Vec<_> = document
                .as_object()
                .expect("an object")
                .keys()
                .cloned()
                .collect();
            assert_eq!(keys, ["errorCode", "requestId", "statusCode"], "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
        let refused = send(
            &client,
            "fails.example.com",
            "POST /raise",
            "",
            &vec![0; 7 << 20],
        );
        assert_eq!(refused.status, 413);
        // The owner sees the error as the API shows it.
        let shown = client.invoke("fails", &json!({"path": "/raise"}));
        assert!(
            shown["RetMsg"]
                .as_str()
                .is_some_and(|text| text.contains("a secret of the inside"))
        );
    }
}

#[test]
fn a_path_that_names_a_function_needs_no_host() {
    let server = server();
    let client = server.client();
    client.create(
        "plain",
        "def main_handler(e, c):\n    return e['path']\n",
        json!({}),
    );
    let (id, _) = url(&client, "plain", &json!({"AuthType": "NONE"}));
    let mut socket = TcpStream::connect(client.host()).expect("a server");
    write!(socket, "GET /url/{id}/a HTTP/1.0\r\n\r\n").expect("sent");
    let mut reply = String::new();
    socket.read_to_string(&mut reply).expect("a reply");
    assert!(
        reply.starts_with("HTTP/1.0 200") && reply.ends_with("\"/a\""),
        "{reply}"
    );
}
