//! Connections to a web function's server that are kept for a next request, and end at any moment.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use serde_json::json;
use testkit::{Client, Server, programs};

use crate::VIRGA;
use crate::urls::{Reply, logged, send, send_in_chunks, url};

/// A server that replies with a length and then ends the connection at a random moment, in one of many ways. It says how often it
/// has replied to a request of the same id.
const ENDS: &[u8] = br#"
import collections, random, re, socket, struct, threading, time, zlib

choices, lock, replies = random.Random(7), threading.Lock(), collections.Counter()
WAYS = ["stay", "stay", "close", "close", "half", "reset", "swallow", "bite"]

def request(reader):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line:
            return None
        head += line
    length = re.search(rb"content-length: (\d+)", head.lower())
    body = reader.read(int(length[1])) if length else b""
    if b"chunked" in head.lower():
        while size := int(reader.readline(), 16):
            body += reader.read(size)
            reader.readline()
        reader.readline()
    return head.split()[0].decode(), head.split()[1].decode(), body

def serve(connection):
    reader = connection.makefile("rb")
    while asked := request(reader):
        method, path, body = asked
        with lock:
            replies[path] += 1
            count = replies[path]
            way, pause = choices.choice(WAYS), choices.random() * 0.004
        text = f"{method} {len(body)} {zlib.crc32(body)} {count}".encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        if way == "stay":
            continue
        if way in ("close", "half", "reset"):
            time.sleep(pause)
        if way == "half":
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        if way == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if way == "swallow":
            request(reader)
        if way == "bite":
            reader.read(1)
        break
    reader.close()
    connection.close()

listener = socket.create_server(("0.0.0.0", 9000), backlog=100)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// A server that replies to a head, and closes without reading on. It writes once: a closed socket may lose what waits to be sent.
const DEAF: &[u8] = br#"
import socket, threading

def serve(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo long")
    connection.close()

listener = socket.create_server(("0.0.0.0", 9000), backlog=100)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// A server that replies once on each connection, and then closes without a reply to further requests.
const NEVER: &[u8] = br#"
import socket, threading

def head(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        if not (read := connection.recv(4096)):
            return None
        head += read
    return head

def serve(connection):
    while asked := head(connection):
        if b" /never " in asked:
            print("asked never")
            break
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    connection.close()

listener = socket.create_server(("0.0.0.0", 9000), backlog=100)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// A server that serves one connection after another, each until it ends.
const ONE: &[u8] = br#"
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        text = b"%d" % len(body)
        self.send_response(200)
        self.send_header("content-length", len(text))
        self.end_headers()
        self.wfile.write(text)

HTTPServer(("0.0.0.0", 9000), Handler).serve_forever()
"#;

/// A server whose instances keep their connections: an instance that is frozen has none.
fn server() -> Server {
    Server::flags(VIRGA, &["--freeze-after-ms", "60000"])
}

/// Makes a web function of a server, and gives its path.
fn python(client: &Client, name: &str, source: &[u8], concurrency: u64) -> String {
    let start: &[u8] = b"#!/bin/bash\nexec /var/lang/python3/bin/python3 -u server.py\n";
    let code = programs(&[("scf_bootstrap", start), ("server.py", source)]);
    let many = json!({"DynamicEnabled": "FALSE", "MaxConcurrency": concurrency});
    let request = json!({
        "FunctionName": name, "Type": "HTTP", "Runtime": "Python3.9", "MemorySize": 256, "Timeout": 30,
        "Code": {"ZipFile": code}, "InstanceConcurrencyConfig": many,
    });
    client.ok("CreateFunction", &request);
    let (id, _) = url(client, name, &json!({"AuthType": "NONE"}));
    format!("/url/{id}")
}

/// Sends a request without a body, and without a word of one.
fn ask(client: &Client, request: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(client.host()).expect("a server");
    let host = client.host();
    let head = format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).expect("sent");
    let mut reply = String::new();
    socket.read_to_string(&mut reply).expect("text");
    let status = reply
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = reply.rsplit("\r\n").next().unwrap_or_default();
    (status.expect("a status"), body.to_owned())
}

fn text(reply: &Reply) -> (u16, String) {
    let body = String::from_utf8_lossy(&reply.body).into_owned();
    (reply.status, body)
}

/// CRC-32, as zlib has it.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn closed_keep_alive_connection_is_never_an_error_of_the_function() {
    let server = server();
    let client = server.client();
    let path = python(&client, "ends", ENDS, 8);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (client, path) = (&client, &path);
            scope.spawn(move || {
                for round in 0..250 {
                    let target = format!("{path}/{thread}/{round}");
                    let short = format!("body {round}").repeat(round % 9 * 100);
                    let large = vec![b'x'; 100_000];
                    let send = |method: &str, body: &[u8]| {
                        let request = format!("{method} {target}");
                        text(&send(client, &client.host(), &request, "", body))
                    };
                    let (reply, method, body) = match round % 7 {
                        0 | 1 => (ask(client, &format!("GET {target}")), "GET", &[][..]),
                        2 => (ask(client, &format!("POST {target}")), "POST", &[][..]),
                        3 => (send("GET", short.as_bytes()), "GET", short.as_bytes()),
                        4 => (send("POST", short.as_bytes()), "POST", short.as_bytes()),
                        5 => (send("PUT", &large), "PUT", &large[..]),
                        _ => {
                            let request = format!("POST {target}");
                            let reply = send_in_chunks(client, &request, large.len());
                            (text(&reply), "POST", &large[..])
                        }
                    };
                    // Replied to once, with all of its body, whatever became of the connection.
                    let said = format!("{method} {} {} 1", body.len(), crc(body));
                    assert_eq!(reply, (200, said), "{thread} {round}");
                }
            });
        }
    });
}

#[test]
fn a_reply_counts_though_its_server_closed_without_reading_all_of_the_request() {
    let server = server();
    let client = server.client();
    let path = python(&client, "deaf", DEAF, 1);
    let body = vec![b'x'; 5 << 20];
    for _ in 0..20 {
        let request = format!("POST {path}/");
        let reply = send(&client, &client.host(), &request, "", &body);
        assert_eq!(text(&reply), (413, "too long".to_owned()));
    }
}

#[test]
fn a_server_of_one_connection_at_a_time_is_not_kept_waiting_for_it() {
    let server = server();
    let client = server.client();
    let path = python(&client, "one", ONE, 1);
    for length in [
        10,
        100_000,
        0,
        200_000,
        300_000,
        64 << 10,
        (64 << 10) + 1,
        1,
    ] {
        let body = vec![b'x'; length];
        let request = format!("POST {path}/");
        let reply = send(&client, &client.host(), &request, "", &body);
        assert_eq!(text(&reply), (200, length.to_string()));
    }
}

#[test]
fn web_server_without_a_reply_on_a_new_connection_is_reported() {
    let server = server();
    let client = server.client();
    let path = python(&client, "never", NEVER, 1);
    assert_eq!(ask(&client, &format!("GET {path}/")).0, 200);
    let never = send(
        &client,
        &client.host(),
        &format!("GET {path}/never"),
        "",
        b"",
    );
    assert_eq!(
        (never.status, &never.json()["statusCode"]),
        (430, &json!(430))
    );
    // Once over the kept connection and once over a new one.
    let id = never.json()["requestId"].clone();
    let log = logged(&client, "never", &id);
    assert!(
        log.contains("closed the connection before its reply"),
        "{log}"
    );
    assert_eq!(log.matches("asked never").count(), 2, "{log}");
    assert_eq!(ask(&client, &format!("GET {path}/")).0, 200);
}
