//! Web functions: servers of users' own, reached by HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Client, Server, eventually, programs};

use crate::urls::{Reply, logged, send, send_in_chunks, url};
use crate::{VIRGA, server};

const START_NODE: &[u8] = b"#!/bin/bash\nexec /var/lang/node18/bin/node server.js\n";

/// A server as anybody writes it.
const NODE: &[u8] = br#"
const http = require('http');
const own = String(Math.random());
let waiting = null;
let flooded = 0;
const server = http.createServer((request, response) => {
  const path = request.url.split('?')[0];
  console.log('asked for', path);
  if (path === '/events') {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-own': 'yes' });
    response.write('data: one\n\n');
    waiting = response;
    return;
  }
  if (path === '/go') {
    waiting.end('data: two\n\n');
    return response.end('gone');
  }
  if (path.startsWith('/head/')) { response.writeHead(200, { 'x-long': 'x'.repeat(Number(path.slice(6))) }); return response.end(); }
  if (path === '/long') { response.writeHead(200, { 'content-length': 2 << 20 }); return response.end(Buffer.alloc(2 << 20)); }
  if (path === '/flood') {
    const part = Buffer.alloc(64 << 10);
    const more = () => {
      while (flooded < 64 << 20) {
        flooded += part.length;
        if (!response.write(part)) return;
      }
      response.end();
    };
    response.on('drain', more);
    return more();
  }
  if (path === '/flooded') return response.end(String(flooded));
  if (path === '/own') return response.end(own);
  if (path === '/hang') return;
  if (path === '/exit') process.exit(3);
  if (path === '/half') { response.writeHead(200, { 'content-length': 100 }); response.write('half'); return setTimeout(() => process.exit(4), 50); }
  if (path === '/eat') { const all = []; for (;;) all.push(Buffer.alloc(16 << 20, 1)); }
  if (path === '/status') { response.writeHead(503, { 'retry-after': '7', 'set-cookie': ['a=1', 'b=2'] }); return response.end('busy'); }
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts);
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ method: request.method, url: request.url, headers: request.headers, length: body.length, body: body.toString('utf8', 0, 100) }));
  });
});
server.on('upgrade', (request, socket) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Own: ' + request.headers['x-own'] + '\r\n\r\n');
  socket.on('data', (data) => socket.write(data.toString().toUpperCase()));
  socket.on('error', () => {});
});
server.listen(9000, '0.0.0.0');
console.log('listening');
"#;

/// Files of a package.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// Makes a web function, and gives the path below which it is reached.
fn create(client: &Client, name: &str, files: Files<'_>, more: Value) -> String {
    let mut request = json!({
        "FunctionName": name, "Type": "HTTP", "Runtime": "Nodejs18.15", "MemorySize": 256, "Code": {"ZipFile": programs(files)},
    });
    if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
        request.extend(more);
    }
    client.ok("CreateFunction", &request);
    let (id, _) = url(client, name, &json!({"AuthType": "NONE"}));
    format!("/url/{id}")
}

fn node(client: &Client, name: &str, more: Value) -> String {
    let files = [("scf_bootstrap", START_NODE), ("server.js", NODE)];
    create(client, name, &files, more)
}

fn get(client: &Client, path: &str) -> Reply {
    send(client, &client.host(), &format!("GET {path}"), "", b"")
}

/// Begins a request, and gives the connection.
fn begin(client: &Client, path: &str, headers: &str) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(client.host()).expect("a server");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n",
        client.host()
    );
    socket.write_all(head.as_bytes()).expect("sent");
    BufReader::new(socket)
}

/// Reads on up to a line, and gives all.
fn until(socket: &mut BufReader<TcpStream>, wanted: &str) -> String {
    let mut all = String::new();
    while !all.ends_with(&format!("{wanted}\n")) && !all.ends_with(&format!("{wanted}\r\n")) {
        assert_ne!(
            socket.read_line(&mut all).expect("text"),
            0,
            "it ended: {all}"
        );
    }
    all
}

#[test]
fn requests_and_replies_are_forwarded_unchanged() {
    let server = server();
    let client = server.client();
    let path = node(&client, "echo", json!({"Timeout": 9}));
    let sent = "X-Own: a\r\nX-Scf-Name: forged\r\nX-Scf-Remote-Addr: 9.9.9.9\r\n";
    let reply = send(
        &client,
        &client.host(),
        &format!("PATCH {path}/a%20b?x=1&x=2"),
        sent,
        b"text",
    );
    let seen = reply.json();
    assert_eq!(
        (&seen["method"], &seen["url"], &seen["body"]),
        (&json!("PATCH"), &json!("/a%20b?x=1&x=2"), &json!("text"))
    );
    let headers = &seen["headers"];
    for (name, value) in [
        ("x-own", "a"),
        ("host", client.host().as_str()),
        ("x-scf-name", "echo"),
        ("x-scf-namespace", "default"),
        ("x-scf-version", "$LATEST"),
        ("x-scf-memory", "256"),
        ("x-scf-timeout", "9"),
        ("x-scf-region", "ap-guangzhou"),
        ("x-scf-appid", "1250000000"),
        ("x-scf-uin", "100000000001"),
        ("x-scf-remote-addr", "127.0.0.1"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(
        json!(reply.header("x-scf-request-id")[0]),
        headers["x-scf-request-id"]
    );
    let busy = get(&client, &format!("{path}/status"));
    assert_eq!(
        (busy.status, busy.body.as_slice()),
        (503, b"busy".as_slice())
    );
    // By path functions share an origin, whose cookies are nobody's; by host they are the function's own.
    assert!(busy.header("set-cookie").is_empty());
    let host = format!(
        "1250000000-{}.ap-guangzhou.localhost",
        path.trim_start_matches("/url/")
    );
    let own = send(&client, &host, "GET /status", "", b"");
    assert_eq!(own.header("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(busy.header("retry-after"), ["7"]);
    let large = vec![b'x'; 5 << 20];
    let reply = send(
        &client,
        &client.host(),
        &format!("POST {path}/"),
        "",
        &large,
    );
    assert_eq!(reply.json()["length"], 5 << 20);
    let larger = vec![b'x'; (6 << 20) + 1];
    assert_eq!(
        send(
            &client,
            &client.host(),
            &format!("POST {path}/"),
            "",
            &larger
        )
        .status,
        413
    );
    // Its log is like any other's, with what it printed by then.
    let id = reply.header("x-scf-request-id")[0].to_owned();
    eventually("the log is written", || {
        let logs = client.ok(
            "GetFunctionLogs",
            &json!({"FunctionName": "echo", "FunctionRequestId": id}),
        );
        let log = logs["Data"][0]["Log"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        log.contains("asked for /") && log.contains("{\"statusCode\":200}")
    });
    // It is reached by HTTP alone.
    assert_eq!(
        client.code("Invoke", &json!({"FunctionName": "echo"})),
        "UnsupportedOperation"
    );
    let event = json!({"FunctionName": "echo", "InvocationType": "Event"});
    assert_eq!(client.code("Invoke", &event), "UnsupportedOperation");
    let timer = json!({"FunctionName": "echo", "TriggerName": "t", "Type": "timer", "TriggerDesc": "0 0 0 1 1 * *"});
    assert_eq!(
        client.code("CreateTrigger", &timer),
        "UnsupportedOperation.Trigger"
    );
}

#[test]
fn an_instance_serves_several_requests_and_streams_their_replies() {
    let server = server();
    let client = server.client();
    let many = json!({"InstanceConcurrencyConfig": {"DynamicEnabled": "FALSE", "MaxConcurrency": 10}, "Timeout": 30});
    let path = node(&client, "streams", many);
    let own = get(&client, &format!("{path}/own")).body;
    let mut events = begin(&client, &format!("{path}/events"), "Connection: close\r\n");
    let head = until(&mut events, "data: one");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("x-own: yes"),
        "{head}"
    );
    // The reply has begun and not ended, and the same instance answers others meanwhile.
    assert_eq!(get(&client, &format!("{path}/own")).body, own);
    assert_eq!(client.metric("virga_instances{state=\"busy\"}"), Some(1.0));
    assert_eq!(get(&client, &format!("{path}/go")).body, b"gone");
    until(&mut events, "data: two");
    let shown = client.ok("GetFunction", &json!({"FunctionName": "streams"}));
    assert_eq!(shown["InstanceConcurrencyConfig"]["MaxConcurrency"], 10);
    assert_eq!(shown["Type"], "HTTP");
    // Another one, at once: each has an instance of its own.
    let single = node(&client, "single", json!({"Timeout": 30}));
    let _held = begin(&client, &format!("{single}/events"), "");
    eventually("it runs", || {
        client.metric("virga_instances{state=\"busy\"}") == Some(1.0)
    });
    assert_eq!(get(&client, &format!("{single}/own")).status, 200);
    eventually("there are two", || {
        let count = |state: &str| {
            client
                .metric(&format!("virga_instances{{state=\"{state}\"}}"))
                .unwrap_or(0.0)
        };
        count("busy") + count("idle") + count("frozen") >= 3.0
    });
}

#[test]
fn a_websocket_goes_both_ways_until_it_is_silent_for_too_long() {
    let server = server();
    let client = server.client();
    let more = json!({"ProtocolType": "WS", "ProtocolParams": {"WSParams": {"IdleTimeOut": 1}}, "Timeout": 60});
    let path = node(&client, "socket", more);
    let asks = "Connection: Upgrade\r\nUpgrade: websocket\r\nX-Own: mine\r\n";
    let mut socket = begin(&client, &format!("{path}/"), asks);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(socket.read_line(&mut head).expect("text"), 0, "{head}");
    }
    assert!(
        head.starts_with("HTTP/1.1 101") && head.to_lowercase().contains("x-own: mine"),
        "{head}"
    );
    let mut sent = Instant::now();
    for text in ["first\n", "second\n"] {
        sent = Instant::now();
        socket.get_mut().write_all(text.as_bytes()).expect("sent");
        let mut line = String::new();
        socket.read_line(&mut line).expect("text");
        assert_eq!(line, text.to_uppercase());
    }
    // Silence ends it.
    let mut rest = Vec::new();
    socket
        .get_mut()
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a limit");
    assert_eq!(socket.read_to_end(&mut rest).expect("an end"), 0);
    assert!(sent.elapsed() >= Duration::from_secs(1));
    let shown = client.ok("GetFunction", &json!({"FunctionName": "socket"}));
    assert_eq!(shown["ProtocolParams"]["WSParams"]["IdleTimeOut"], 1);
    // It is how such a request ends, and no failure of the function's.
    eventually("its log is written", || {
        let logs = client.ok("GetFunctionLogs", &json!({"FunctionName": "socket"}));
        logs["Data"][0]["Log"]
            .as_str()
            .is_some_and(|log| log.contains("{\"statusCode\":101}"))
    });
}

#[test]
fn a_request_that_turns_out_too_long_is_refused_and_its_server_goes_on() {
    let server = server();
    let client = server.client();
    let path = node(&client, "echo", json!({"Timeout": 30}));
    let own = get(&client, &format!("{path}/own")).body;
    let fits = send_in_chunks(&client, &format!("POST {path}/"), 6 << 20);
    assert_eq!(fits.json()["length"], 6 << 20);
    let refused = send_in_chunks(&client, &format!("POST {path}/"), (6 << 20) + 1);
    assert_eq!(
        (refused.status, &refused.json()["statusCode"]),
        (413, &json!(406))
    );
    assert_eq!(get(&client, &format!("{path}/own")).body, own);
}

#[test]
fn a_reply_is_no_longer_than_it_may_be() {
    let server = Server::flags(VIRGA, &["--limits", "web_response_bytes=1048576"]);
    let client = server.client();
    let path = node(&client, "long", json!({"Timeout": 30}));
    let own = get(&client, &format!("{path}/own")).body;
    let announced = get(&client, &format!("{path}/long"));
    assert_eq!(
        (announced.status, &announced.json()["statusCode"]),
        (407, &json!(407))
    );
    let broken = get(&client, &format!("{path}/flood"));
    assert!(
        broken.status == 200 && broken.body.len() <= 1 << 20,
        "{}",
        broken.body.len()
    );
    let id = broken.header("x-scf-request-id")[0].to_owned();
    eventually("the log says why", || {
        let asked = json!({"FunctionName": "long", "FunctionRequestId": id});
        let logs = client.ok("GetFunctionLogs", &asked);
        logs["Data"][0]["Log"]
            .as_str()
            .is_some_and(|log| log.contains("the reply is over 1048576 bytes"))
    });
    assert_eq!(get(&client, &format!("{path}/own")).body, own);
}

#[test]
fn a_reply_s_headers_are_no_longer_than_they_may_be() {
    let server = server();
    let client = server.client();
    let path = node(&client, "heads", json!({"Timeout": 30}));
    let own = get(&client, &format!("{path}/own")).body;
    // Beside it there are a few short ones.
    let fits = get(&client, &format!("{path}/head/3900"));
    assert_eq!((fits.status, fits.header("x-long")[0].len()), (200, 3900));
    let refused = get(&client, &format!("{path}/head/4096"));
    assert_eq!(
        (refused.status, &refused.json()["statusCode"]),
        (407, &json!(407))
    );
    let message = logged(&client, "heads", &refused.json()["requestId"]);
    assert!(message.contains("headers are over 4096 bytes"), "{message}");
    assert_eq!(get(&client, &format!("{path}/own")).body, own);
}

#[test]
fn slow_reader_gets_the_whole_reply() {
    let server = Server::flags(VIRGA, &["--limits", "web_response_bytes=0"]);
    let client = server.client();
    let many = json!({"InstanceConcurrencyConfig": {"DynamicEnabled": "FALSE", "MaxConcurrency": 2}, "Timeout": 60});
    let path = node(&client, "floods", many);
    let mut flood = begin(&client, &format!("{path}/flood"), "Connection: close\r\n");
    let (mut last, mut same) = (0, 0);
    eventually("it waits", || {
        let written = get(&client, &format!("{path}/flooded")).json();
        let written = written.as_u64().expect("a number");
        same = if written == last { same + 1 } else { 0 };
        last = written;
        last > 0 && same == 10
    });
    // The difference is in the buffers of their sockets.
    assert!(last < 40 << 20, "{last}");
    let mut all = Vec::new();
    flood.read_to_end(&mut all).expect("a reply");
    assert!(all.len() >= 64 << 20, "{}", all.len());
}

#[test]
fn a_timeout_ends_one_request_and_the_end_of_its_server_all() {
    let server = server();
    let client = server.client();
    let more = json!({"InstanceConcurrencyConfig": {"DynamicEnabled": "FALSE", "MaxConcurrency": 10}, "Timeout": 2, "MemorySize": 128});
    let path = node(&client, "fails", more);
    let own = get(&client, &format!("{path}/own")).body;
    let late = get(&client, &format!("{path}/hang"));
    assert_eq!(
        (late.status, &late.json()["statusCode"]),
        (433, &json!(433))
    );
    assert_eq!(get(&client, &format!("{path}/own")).body, own);
    for (end, status, word) in [("exit", 439, "code 3"), ("eat", 434, "128 MB")] {
        thread::scope(|scope| {
            let other = scope.spawn(|| get(&client, &format!("{path}/hang")));
            eventually("it runs", || {
                client.metric("virga_instances{state=\"busy\"}") == Some(1.0)
            });
            let ended = get(&client, &format!("{path}/{end}"));
            let other = other.join().expect("a reply");
            // One that eats slowly on a busy machine runs into its timeout first.
            if end == "eat" && ended.status == 433 {
                return;
            }
            assert_eq!(ended.status, status, "{end}");
            let message = logged(&client, "fails", &ended.json()["requestId"]);
            assert!(message.contains(word), "{message}");
            assert!([status, 433].contains(&other.status), "{}", other.status);
        });
        assert_ne!(get(&client, &format!("{path}/own")).body, own);
    }
    // A reply that had begun is broken off, and its log says why.
    let half = get(&client, &format!("{path}/half"));
    assert_eq!(half.body, b"half");
    let id = half.header("x-scf-request-id")[0].to_owned();
    eventually("the log says why", || {
        let logs = client.ok(
            "GetFunctionLogs",
            &json!({"FunctionName": "fails", "FunctionRequestId": id}),
        );
        logs["Data"][0]["Log"]
            .as_str()
            .is_some_and(|log| log.contains("code 4"))
    });
    // A caller that goes away ends its request.
    drop(begin(&client, &format!("{path}/hang"), ""));
    eventually("it has failed permanently", || {
        client.metric("virga_instances{state=\"busy\"}") == Some(0.0)
    });
}

#[test]
fn web_server_that_does_not_start_is_reported_with_the_missing_file() {
    let server = server();
    let client = server.client();
    let silent: &[u8] = b"#!/bin/bash\nsleep 60\n";
    let ends: &[u8] = b"#!/bin/bash\nexit 3\n";
    let rows: [(&str, Files<'_>, u16, &str); 3] = [
        (
            "none",
            &[("server.js", NODE)],
            405,
            "scf_bootstrap was not found",
        ),
        ("ends", &[("scf_bootstrap", ends)], 405, "with code 3"),
        ("silent", &[("scf_bootstrap", silent)], 446, "0.0.0.0:9000"),
    ];
    for (name, files, status, word) in rows {
        let settings = if status == 446 {
            json!({"InitTimeout": 1})
        } else {
            json!({})
        };
        let path = create(&client, name, files, settings);
        let reply = get(&client, &path);
        assert_eq!(reply.status, status, "{name}");
        let message = logged(&client, name, &reply.json()["requestId"]);
        assert!(message.contains(word), "{message}");
    }
    for wrong in [
        json!({"InstanceConcurrencyConfig": {"DynamicEnabled": "FALSE", "MaxConcurrency": 101}}),
        json!({"InstanceConcurrencyConfig": {"DynamicEnabled": "perhaps"}}),
        json!({"ProtocolType": "FTP"}),
        json!({"ProtocolParams": {"WSParams": {"IdleTimeOut": 0}}}),
    ] {
        let mut request = json!({"FunctionName": "wrong", "Type": "HTTP", "Runtime": "Nodejs18.15", "Code": {"ZipFile": programs(&[])}});
        request
            .as_object_mut()
            .expect("an object")
            .extend(wrong.as_object().expect("an object").clone());
        assert!(
            client
                .code("CreateFunction", &request)
                .starts_with("InvalidParameterValue"),
            "{wrong}"
        );
    }
}

#[test]
fn a_web_function_needs_no_network_but_its_own_loopback() {
    let python: &[u8] = b"#!/bin/bash\nexec /var/lang/python39/bin/python3 -m http.server 9000\n";
    let server = Server::flags(VIRGA, &["--network", "none"]);
    let client = server.client();
    let files = [
        ("scf_bootstrap", python),
        ("page.html", b"a page".as_slice()),
    ];
    let path = create(&client, "files", &files, json!({"Runtime": "Python3.9"}));
    for _ in 0..3 {
        let page = get(&client, &format!("{path}/page.html"));
        assert_eq!(
            (page.status, page.body.as_slice()),
            (200, b"a page".as_slice())
        );
    }
    eventually("it is frozen", || {
        client.metric("virga_instances{state=\"frozen\"}") == Some(1.0)
    });
    assert_eq!(get(&client, &format!("{path}/page.html")).status, 200);
    let shared = Server::flags(VIRGA, &["--isolation", "process"]);
    shared.expect("failed to start an instance");
    let client = shared.client();
    let path = create(&client, "files", &files, json!({}));
    assert_ne!(get(&client, &path).status, 200);
}
