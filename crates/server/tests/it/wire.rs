//! The envelope: signatures, quirks, and errors that every client understands.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testkit::{Client, HttpResponse, Server};

use crate::{VIRGA, server};

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

/// The code and message of an answer, which is an error in the API's shape.
fn refusal(answer: &HttpResponse) -> (String, String) {
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (200, "application/json")
    );
    let response = answer.json()["Response"].take();
    assert_eq!(
        response["RequestId"].as_str().map(str::len),
        Some(36),
        "{response}"
    );
    let part = |name: &str| {
        response["Error"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (part("Code"), part("Message"))
}

#[test]
fn each_invalid_request_gets_its_code_and_a_helpful_message() {
    let server = server();
    let client = server.client();
    let list = |client: &Client, time: i64, headers: &[(&str, &str)]| {
        refusal(&client.post("ListFunctions", b"{}", time, headers))
    };
    let mut stranger = client.clone();
    stranger.id = "AKIDstranger".into();
    let mut forger = client.clone();
    forger.key = scf::SecretKey::new("wrong");
    let rows = [
        (list(&client, now(), &[]), "", ""),
        (
            list(&stranger, now(), &[]),
            "AuthFailure.SecretIdNotFound",
            "not known",
        ),
        (
            list(&forger, now(), &[]),
            "AuthFailure.SignatureFailure",
            "does not match",
        ),
        (
            list(&client, now() - 400, &[]),
            "AuthFailure.SignatureExpire",
            "300 s",
        ),
        (
            list(&client, now() + 400, &[]),
            "AuthFailure.SignatureExpire",
            "300 s",
        ),
        (
            list(&client, now(), &[("X-TC-Token", "t")]),
            "AuthFailure.TokenFailure",
            "X-TC-Token",
        ),
        (
            list(&client, now(), &[("Authorization", "")]),
            "AuthFailure.InvalidAuthorization",
            "no signature",
        ),
        (
            list(&client, now(), &[("Authorization", "Basic x")]),
            "AuthFailure.InvalidAuthorization",
            "Credential=",
        ),
        (
            list(&client, now(), &[("X-TC-Timestamp", "")]),
            "MissingParameter",
            "X-TC-Timestamp",
        ),
        (
            list(&client, now(), &[("X-TC-Timestamp", "noon")]),
            "InvalidParameter",
            "X-TC-Timestamp",
        ),
        (
            list(&client, now(), &[("X-TC-Version", "2017-01-01")]),
            "NoSuchVersion",
            "2018-04-16",
        ),
        (
            list(&client, now(), &[("X-TC-Version", "")]),
            "MissingParameter",
            "X-TC-Version",
        ),
        (
            refusal(&client.post("Rain", b"{}", now(), &[])),
            "InvalidAction",
            "\"Rain\"",
        ),
        (
            refusal(&client.post("TerminateAsyncEvent", b"{}", now(), &[])),
            "MissingParameter",
            "FunctionName",
        ),
        (
            refusal(&client.post("ListFunctions", b"{\"Limit\":", now(), &[])),
            "InvalidParameter",
            "not whole JSON",
        ),
        (
            refusal(&client.post("ListFunctions", b"{\"Limit\":\"x\"}", now(), &[])),
            "InvalidParameter",
            "Limit",
        ),
        (
            refusal(&client.send("PUT", "/", &[], b"")),
            "UnsupportedProtocol",
            "POST",
        ),
    ];
    for ((code, message), expected, part) in rows {
        assert_eq!(code, expected, "{message}");
        assert!(message.contains(part), "{message}");
    }
    // A body that is changed on its way.
    let headers = [("Content-Type", "text/plain")];
    assert_eq!(
        list(&client, now(), &headers).0,
        "AuthFailure.SignatureFailure"
    );
}

#[test]
fn every_action_of_the_api_is_served() {
    let server = server();
    let client = server.client();
    for action in scf::ACTIONS {
        let code = client.code(
            action.name,
            &json!({"FunctionName": "nobody", "Namespace": "nowhere", "ZipFile": "UEs="}),
        );
        let unknown = ["UnsupportedOperation", "InvalidAction", "InternalError"];
        assert!(!unknown.contains(&code.as_str()), "{}: {code}", action.name);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_and_a_broken_one_too() {
    let server = server();
    let client = server.client();
    let (code, message) =
        refusal(&client.post("CreateFunction", &vec![b' '; 90 << 20], now(), &[]));
    assert_eq!(code, "RequestSizeLimitExceeded", "{message}");
    let mut stream = TcpStream::connect(client.host()).expect("connected");
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\n{{",
        client.host()
    )
    .expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("closed");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("an answer, or none");
    assert!(
        text.is_empty() || text.contains("\"InvalidParameter\""),
        "{text}"
    );
    client.ok("ListFunctions", &json!({}));
}

/// Asks with a request line and headers as they are.
fn raw(client: &Client, head: &str, body: &str) -> Value {
    let mut stream = TcpStream::connect(client.host()).expect("connected");
    write!(
        stream,
        "{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(
        head.contains("content-type: application/json\r\n"),
        "{head}"
    );
    let body = if head.contains("chunked") {
        body.split("\r\n").nth(1).expect("a chunk")
    } else {
        body
    };
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn host_header_is_accepted_as_the_client_signed_it() {
    let server = server();
    let client = server.client();
    let now = now();
    let authorization = |host: &str, service: &str| {
        scf::tc3::authorization(&scf::tc3::ToSign {
            secret_id: &client.id,
            secret_key: &client.key,
            service,
            host,
            content_type: "application/json",
            headers: &[],
            payload: b"{}",
            timestamp: now,
        })
    };
    let (real, scheme) = (client.host(), format!("http://{}", client.host()));
    let name = real.split(':').next().expect("a name");
    // As the Python SDK, tccli, and the Node.js SDK do.
    for (sent, signed, service) in [
        (&real[..], &real[..], "scf"),
        (&scheme, &scheme, "scf"),
        (&real, name, "127"),
    ] {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {sent}\r\nContent-Type: application/json\r\nAuthorization: {}\r\nX-TC-Action: \
             ListFunctions\r\nX-TC-Version: 2018-04-16\r\nX-TC-Timestamp: {}\r\n",
            authorization(signed, service),
            now
        );
        let answer = raw(&client, &head, "{}");
        assert_eq!(answer["Response"]["TotalCount"], 0, "{sent}: {answer}");
    }
}

#[test]
fn health_metrics_and_unknown_paths_are_answered() {
    let server = server();
    let client = server.client();
    assert_eq!(client.get("/healthz").status, 200);
    assert_eq!(client.get("/readyz").status, 200);
    assert_eq!(client.get("/nothing").status, 404);
    client.create("one", "def main_handler(e, c):\n    return 1\n", json!({}));
    client.invoke("one", &json!({}));
    let metrics = client.get("/metrics");
    assert!(metrics.content_type.starts_with("text/plain"));
    for name in [
        "virga_invocations_total{status=\"200\"} 1",
        "virga_cold_starts_total 1",
        "virga_requests_waiting 0",
        "virga_api_requests_total{action=\"Invoke\",code=\"\"} 1",
        "# HELP virga_instances",
    ] {
        assert!(
            String::from_utf8_lossy(&metrics.body).contains(name),
            "{name}"
        );
    }
}

#[test]
fn slow_request_head_is_closed() {
    let server = Server::flags(VIRGA, &["--head-timeout", "1"]);
    let client = server.client();
    let buckets = server.objects().endpoint;
    for host in [
        client.host().as_str(),
        buckets.trim_start_matches("http://"),
    ] {
        for sent in ["", "GET /healthz HTTP/1.1\r\nHost: so"] {
            let mut connection = TcpStream::connect(host).expect("a connection");
            connection.write_all(sent.as_bytes()).expect("sent");
            // It ends by itself.
            let mut answer = String::new();
            connection.read_to_string(&mut answer).expect("its end");
            assert!(!answer.contains("200 OK"), "{answer}");
        }
    }
    // What takes long after that may.
    let sleeps = "import time\ndef main_handler(e, c):\n    time.sleep(2.5)\n    return 'done'\n";
    client.create("sleeps", sleeps, json!({"Timeout": 10}));
    assert_eq!(client.answer("sleeps", &json!({})), json!("done"));
}

#[test]
fn body_after_the_response_is_drained_and_the_connection_stays_usable() {
    let server = server();
    let connection = TcpStream::connect(server.client().host()).expect("a connection");
    let mut connection = BufReader::new(connection);
    for round in 0..3 {
        let head = "POST /nowhere HTTP/1.1\r\nHost: virga\r\nContent-Length: 5\r\n\r\n";
        let to = connection.get_mut();
        to.write_all(head.as_bytes()).expect("sent");
        let answer = read_answer(&mut connection);
        assert!(answer.starts_with("HTTP/1.1 404"), "{round}: {answer}");
        let to = connection.get_mut();
        to.write_all(b"hello").expect("sent");
    }
}

/// Reads an answer whose length is announced; gives its head.
fn read_answer(from: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(from.read_line(&mut head).expect("text"), 0, "{head}");
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is = name.eq_ignore_ascii_case("content-length");
        is.then(|| value.parse::<usize>().ok())?
    });
    let mut body = vec![0; length.expect("a length")];
    from.read_exact(&mut body).expect("a body");
    head
}
