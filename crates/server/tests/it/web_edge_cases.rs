//! What lies at the edges of HTTP between callers and web functions: lengths, protocols, names of headers, time.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use testkit::{Client, Server, eventually, programs};

use crate::urls::{Reply, send, url};
use crate::{VIRGA, server};

/// A server that replies with the bytes that its caller names in hexadecimal, or with the head that it got.
const RAW: &[u8] = br#"
require('net').createServer((socket) => {
  let got = '';
  socket.on('error', () => {});
  socket.on('data', (data) => {
    got += data.toString('latin1');
    const end = got.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = got.slice(0, end);
    got = '';
    const asked = head.split(' ')[1];
    if (asked.startsWith('/raw?')) return socket.write(Buffer.from(asked.slice(5), 'hex'));
    if (asked === '/flood') {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
      const more = () => { while (socket.writable && socket.write('10000\r\n' + 'x'.repeat(65536) + '\r\n')); };
      socket.on('drain', more);
      return more();
    }
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: ' + head.length + '\r\n\r\n' + head);
  });
}).listen(9000, '0.0.0.0');
"#;

/// Makes a web function of it, and gives its path.
pub(crate) fn raw(client: &Client, more: serde_json::Value) -> String {
    let start: &[u8] = b"#!/bin/bash\nexec /var/lang/node18/bin/node server.js\n";
    let code = programs(&[("scf_bootstrap", start), ("server.js", RAW)]);
    let mut request = json!({"FunctionName": "raw", "Type": "HTTP", "Runtime": "Nodejs18.15", "MemorySize": 128, "Code": {"ZipFile": code}});
    for (name, value) in more.as_object().expect("an object") {
        request[name] = value.clone();
    }
    client.ok("CreateFunction", &request);
    let (id, _) = url(client, "raw", &json!({"AuthType": "NONE"}));
    format!("/url/{id}")
}

/// The path at which the function replies with these bytes.
pub(crate) fn replies(path: &str, bytes: &str) -> String {
    let mut text = format!("{path}/raw?");
    for byte in bytes.bytes() {
        write!(text, "{byte:02x}").expect("memory");
    }
    text
}

fn get(client: &Client, path: &str) -> Reply {
    send(client, &client.host(), &format!("GET {path}"), "", b"")
}

/// Sends bytes over a connection of their own, and gives what came until it closed.
fn exchange(client: &Client, request: &str) -> String {
    let mut socket = TcpStream::connect(client.host()).expect("a server");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut all = Vec::new();
    let _ = socket.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn protocol_upgrade_needs_a_request_for_it() {
    let server = server();
    let client = server.client();
    let path = raw(&client, json!({}));
    let host = client.host();
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nmine";
    let unnamed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\nmine";
    let asks = "Connection: Upgrade, close\r\nUpgrade: websocket\r\n";
    for (version, headers, reply) in [
        ("1.1", "Connection: close\r\n", switch),
        ("1.1", "Connection: close\r\nUpgrade: websocket\r\n", switch),
        (
            "1.1",
            "Connection: Upgrade, close\r\nUpgrade: h2c\r\n",
            switch,
        ),
        ("1.1", asks, unnamed),
        ("1.0", asks, switch),
    ] {
        let path = replies(&path, reply);
        let request = format!("GET {path} HTTP/{version}\r\nHost: {host}\r\n{headers}\r\n");
        let got = exchange(&client, &request);
        assert!(
            got.starts_with("HTTP/1.1 430") || got.starts_with("HTTP/1.0 430"),
            "{headers}: {got}"
        );
        assert!(
            got.contains("\"statusCode\":430") && !got.contains("mine"),
            "{got}"
        );
    }
    let path = replies(
        &path,
        &switch.replace(
            "Connection: Upgrade",
            "Connection: Upgrade\r\nContent-Length: 3",
        ),
    );
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, upgrade\r\nUpgrade: other, WebSocket\r\n\r\n"
    );
    let mut socket = TcpStream::connect(&host).expect("a server");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut got = String::new();
    while !got.ends_with("mine") {
        let mut byte = [0];
        assert_eq!(socket.read(&mut byte).expect("a reply"), 1, "{got}");
        got.push(byte[0].into());
    }
    assert!(
        got.starts_with("HTTP/1.1 101") && !got.to_lowercase().contains("content-length"),
        "{got}"
    );
}

#[test]
fn reply_length_is_that_of_the_received_body() {
    let server = server();
    let client = server.client();
    let path = raw(&client, json!({}));
    // One length that is true, however it was said.
    for (said, body) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 300\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "hello",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
            "hello",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "hello",
        ),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
            "",
        ),
    ] {
        let reply = get(&client, &replies(&path, said));
        assert_eq!(String::from_utf8_lossy(&reply.body), body, "{said}");
        let framed = (
            reply.header("content-length"),
            reply.header("transfer-encoding"),
        );
        let length = body.len().to_string();
        assert!(
            framed == (vec![length.as_str()], vec![])
                || framed == (vec![], vec!["chunked"])
                || body.is_empty() && framed == (vec![], vec![]),
            "{said}: {framed:?}"
        );
        assert!(reply.header("link").is_empty());
    }
    // What cannot be read, or not be passed on as it is, is no reply.
    for said in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: b\r\n continued\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX-A: b\rX-B: c\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let reply = get(&client, &replies(&path, said));
        assert_eq!(reply.status, 430, "{said}");
        assert!(reply.header("x-b").is_empty() && reply.header("x-a").is_empty());
    }
    // On one connection each request has its own reply, also after one whose length is of a body that is not there.
    let host = client.host();
    for (method, said, length) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            Some("1000"),
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            Some("5"),
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            None,
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
            None,
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
            None,
        ),
    ] {
        let first = replies(&path, said);
        let second = replies(&path, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond");
        let got = exchange(
            &client,
            &format!(
                "{method} {first} HTTP/1.1\r\nHost: {host}\r\n\r\nGET {second} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            ),
        );
        let (one, two) = got.split_once("\r\n\r\n").expect("two replies");
        assert!(
            two.starts_with("HTTP/1.1 200") && two.ends_with("\r\n\r\nsecond"),
            "{method} {said}: {got}"
        );
        let one = one.to_lowercase();
        let found = one
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if length.is_some() {
            assert_eq!(found, length, "{method} {said}");
        } else {
            assert!(found.is_none(), "{method} {said}: {found:?}");
        }
    }
}

#[test]
fn platform_headers_of_callers_are_removed() {
    let server = server();
    let client = server.client();
    let path = raw(&client, json!({}));
    let forged = "X_Scf_Name: forged\r\nx-scf_remote-addr: forged\r\nX.Scf.Appid: forged\r\nX_SCF_ANYTHING: forged\r\n\
                  X-Scf-Name: forged\r\nX!Scf~Uin: forged\r\nX_Own: passes\r\nXscf-Name: passes\r\n";
    let reply = send(
        &client,
        &client.host(),
        &format!("GET {path}/head"),
        forged,
        b"",
    );
    let head = String::from_utf8(reply.body).expect("text");
    assert!(!head.contains("forged"), "{head}");
    assert_eq!(head.matches(": passes").count(), 2, "{head}");
    let names = head.lines().filter_map(|line| line.split_once(':'));
    let names = names.map(|(name, _)| {
        name.to_lowercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_")
    });
    assert_eq!(names.filter(|name| name == "x_scf_remote_addr").count(), 1);
    // Both lengths at once: the function gets the body that was read, and one length or none.
    let host = client.host();
    let got = exchange(
        &client,
        &format!(
            "POST {path}/head HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ),
    );
    let inner = got
        .rsplit("\r\n\r\n")
        .next()
        .unwrap_or_default()
        .to_lowercase();
    assert!(
        got.starts_with("HTTP/1.1 400") || !(inner.contains("content-length: 3")),
        "{got}"
    );
    // Nor does a function become a proxy.
    let got = exchange(
        &client,
        &format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    );
    assert!(!got.starts_with("HTTP/1.1 2"), "{got}");
}

#[test]
fn caller_that_does_not_read_holds_nothing_beyond_the_timeout() {
    let server = Server::flags(VIRGA, &["--limits", "web_response_bytes=0"]);
    let client = server.client();
    let path = raw(&client, json!({"Timeout": 2}));
    let host = client.host();
    let mut socket = TcpStream::connect(&host).expect("a server");
    let request = format!("GET {path}/flood HTTP/1.1\r\nHost: {host}\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut id = String::new();
    while !id.ends_with("\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(socket.read(&mut byte).expect("a head"), 1, "{id}");
        id.push(byte[0].into());
    }
    let id = id
        .lines()
        .find_map(|line| line.strip_prefix("x-scf-request-id: ").map(str::to_owned));
    let id = id.expect("an id");
    eventually("its instance is free", || {
        client.metric("virga_instances{state=\"busy\"}") == Some(0.0)
    });
    eventually("the log says why", || {
        let logs = client.ok(
            "GetFunctionLogs",
            &json!({"FunctionName": "raw", "FunctionRequestId": id}),
        );
        logs["Data"][0]["Log"]
            .as_str()
            .is_some_and(|log| log.contains("timed out after 2 seconds"))
    });
    eventually("its connection is closed", || {
        client.metric("virga_connections_closed_total{reason=\"late\"}") == Some(1.0)
    });
    // What it finds when it reads at last is a reply that is not whole.
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}
