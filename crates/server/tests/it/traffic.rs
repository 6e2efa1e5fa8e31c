//! Strangers' traffic: slow peers, many connections, large bodies. A signed call beside them goes on as ever.

mod bodies;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::json;
use testkit::{Client, Server, eventually};

use crate::{VIRGA, server};

/// A connection from an address of the loopback's network.
fn connect_from(source: Ipv4Addr, to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((source, 0).into()).expect("bound");
        let stream = socket.connect(to).await.expect("a connection");
        stream.into_std().expect("a socket")
    });
    stream.set_nonblocking(false).expect("it blocks");
    stream
}

fn connect(client: &Client) -> TcpStream {
    TcpStream::connect(client.host()).expect("a connection")
}

/// Sends a byte now and then until the other side ends the connection; gives what it said.
fn trickle(mut stream: TcpStream, head: &str) -> String {
    stream.write_all(head.as_bytes()).expect("sent");
    let mut writer = stream.try_clone().expect("a clone");
    let writes = thread::spawn(move || {
        while writer.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    let _ = stream.shutdown(std::net::Shutdown::Both);
    writes.join().expect("an end");
    String::from_utf8_lossy(&said).into_owned()
}

fn closed(client: &Client, reason: &str) -> f64 {
    let line = format!("virga_connections_closed_total{{reason=\"{reason}\"}}");
    client.metric(&line).unwrap_or(0.0)
}

/// Whether the other side has ended a connection on which nothing was asked.
fn is_over(stream: &TcpStream) -> bool {
    let mut stream = stream;
    stream.set_nonblocking(true).expect("it does not block");
    let mut byte = [0];
    !matches!(stream.read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn peers_that_are_too_slow_are_closed_each_within_its_bound() {
    let flags = [
        "--stall-timeout",
        "1",
        "--min-rate",
        "1000",
        "--head-timeout",
        "5",
    ];
    let server = Server::flags(VIRGA, &flags);
    let client = server.client();
    let large = "def main_handler(e, c):\n    return 'x' * (5 << 20)\n";
    client.create("large", large, json!({"MemorySize": 256}));
    client.answer("large", &json!({}));
    let buckets = server.objects().endpoint;
    let buckets = buckets.trim_start_matches("http://").to_owned();
    let slow: Vec<_> = [client.host(), buckets]
        .into_iter()
        .flat_map(|host| {
            let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nX-Long: ");
            let body =
                format!("PUT /a/b HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\n");
            [(host.clone(), head), (host, body)]
        })
        .map(|(host, head)| {
            thread::spawn(move || trickle(TcpStream::connect(host).expect("a connection"), &head))
        })
        .collect();
    // A reply that nobody reads, larger than what the kernel takes.
    let mut reader = connect(&client);
    for _ in 0..4 {
        let body = json!({"FunctionName": "large"}).to_string();
        let request = client.signed("Invoke", body.as_bytes());
        reader.write_all(&request).expect("sent");
    }
    for slow in slow {
        slow.join().expect("it was closed");
    }
    eventually("the reader is closed", || {
        closed(&client, "slow reader") == 1.0
    });
    assert_eq!(closed(&client, "slow head"), 2.0);
    assert!(closed(&client, "slow body") >= 1.0);
    client.answer("large", &json!({}));
    // One that sends nothing is closed when a head has taken too long.
    let mut idle = connect(&client);
    assert_eq!(idle.read(&mut [0]).expect("its end"), 0);
    assert!(closed(&client, "idle") >= 1.0);
}

#[test]
fn idle_connections_of_one_address_are_closed_for_others() {
    let server = Server::flags(VIRGA, &["--connections", "64"]);
    let client = server.client();
    let hostile = Ipv4Addr::new(127, 0, 0, 2);
    let held: Vec<_> = (0..300)
        .map(|_| connect_from(hostile, &client.host()))
        .collect();
    // New connections of any address get in at once, the same one's too.
    for source in [Ipv4Addr::LOCALHOST, hostile, Ipv4Addr::new(127, 0, 0, 3)] {
        let mut stream = connect_from(source, &client.host());
        let request = client.signed("ListFunctions", b"{}");
        stream.write_all(&request).expect("sent");
        let mut start = [0; 15];
        stream.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200 OK", "{source}");
    }
    eventually("the address has no more than half", || {
        held.iter().filter(|stream| !is_over(stream)).count() <= 32
    });
}

#[test]
fn recently_authenticated_addresses_are_admitted_among_many_unknown_ones() {
    let server = Server::flags(VIRGA, &["--connections", "64"]);
    let client = server.client();
    client.ok("ListFunctions", &json!({}));
    // Each of many addresses has a request under way that does not end by itself.
    let held: Vec<_> = (0..200u8)
        .map(|number| {
            let mut stream = connect_from(Ipv4Addr::new(127, 0, 1, number), &client.host());
            let head = "POST / HTTP/1.1\r\nHost: virga\r\nContent-Length: 1000\r\n\r\nx";
            let _ = stream.write_all(head.as_bytes());
            stream
        })
        .collect();
    for _ in 0..8 {
        let fresh = Client::new(&client.endpoint, &client.id, client.key.reveal());
        fresh.ok("ListFunctions", &json!({}));
        assert_eq!(fresh.get("/healthz").status, 200);
    }
    eventually("the others are bounded", || {
        held.iter().filter(|stream| !is_over(stream)).count() <= 56
    });
}

#[test]
fn connections_of_functions_have_a_quota_of_their_own() {
    let server = Server::flags(VIRGA, &["--connections", "256"]);
    let client = server.client();
    let takes = "import socket, time\ndef main_handler(e, c):\n    kept = []\n    for n in range(300):\n        \
                 for port in (9400, 9401):\n            kept.append(socket.create_connection(('virga.internal', port), 5))\n    \
                 time.sleep(e['s'])\n    return len(kept)\n";
    client.create("takes", takes, json!({"Timeout": 60}));
    let asks = "import http.client\ndef main_handler(e, c):\n    found = []\n    for port in (9400, 9401):\n        \
                one = http.client.HTTPConnection('virga.internal', port, timeout=5)\n        \
                one.request('GET', '/healthz')\n        found.append(one.getresponse().status)\n    return found\n";
    client.create("asks", asks, json!({"Timeout": 30}));
    let taking = thread::spawn({
        let client = client.clone();
        move || client.answer("takes", &json!({"s": 5}))
    });
    eventually("its oldest connections are closed for its new ones", || {
        closed(&client, "shed") > 200.0
    });
    for _ in 0..3 {
        assert_eq!(client.answer("asks", &json!({})), json!([200, 200]));
    }
    assert_eq!(taking.join().expect("an answer"), 600);
}

/// Files that a server holds open below its data directory and that have no name.
fn spooled(server: &Server) -> usize {
    let data = server.data().canonicalize().expect("a directory");
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("files");
    let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    targets
        .filter(|target| {
            let shown = target.to_string_lossy();
            // Nameless files, but those of stores, and of the disks that instances have as `/tmp`.
            let other = shown.contains("sqlite") || shown.contains("/disks");
            target.starts_with(&data) && shown.ends_with("(deleted)") && !other
        })
        .count()
}

/// Says what an open URL's function saw of its request, over a connection that begins with some bytes.
fn seen_over(client: &Client, first: &[u8], path: &str, headers: &str) -> String {
    let mut stream = connect(client);
    stream.write_all(first).expect("sent");
    let head = format!("GET {path} HTTP/1.1\r\nHost: virga\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("an answer");
    said
}

fn open_url(client: &Client, name: &str) -> String {
    let trigger = json!({"FunctionName": name, "TriggerName": "url", "Type": "http",
        "TriggerDesc": json!({"AuthType": "NONE"}).to_string()});
    let created = client.ok("CreateTrigger", &trigger);
    let id = created["TriggerInfo"]["TriggerName"]
        .as_str()
        .expect("an id");
    format!("/url/{id}/")
}

#[test]
fn client_address_is_accepted_from_trusted_proxies_alone() {
    let shows = "def main_handler(e, c):\n    return e['headers']\n";
    let v2 = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
        &[203, 0, 113, 10, 127, 0, 0, 1, 0, 1, 0, 2],
    ]
    .concat();
    let v1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n";
    let forwarded = "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n";
    for trusted in [true, false] {
        let flags = ["--auth-failures", "1", "--trusted-proxies", "127.0.0.0/8"];
        let server = Server::flags(VIRGA, &flags[..if trusted { 4 } else { 2 }]);
        let client = server.client();
        client.create("shows", shows, json!({}));
        let path = open_url(&client, "shows");
        let remote = |said: &str, address: &str| {
            let line = format!("\": \"{address}\"");
            said.contains(&line)
        };
        let said = seen_over(&client, b"", &path, forwarded);
        assert_eq!(remote(&said, "203.0.113.7"), trusted, "{said}");
        assert_eq!(remote(&said, "127.0.0.1"), !trusted, "{said}");
        for (first, address) in [(v1.as_slice(), "203.0.113.9"), (&v2, "203.0.113.10")] {
            let said = seen_over(&client, first, &path, "");
            assert_eq!(remote(&said, address), trusted, "{said}");
            assert!(trusted || said.starts_with("HTTP/1.1 400"), "{said}");
        }
        // Who fails to authenticate is the client, not the proxy.
        let forger = client.with_key("AKIDnobody", "x");
        let code = |address: &str| {
            let named = [("X-Forwarded-For", address)];
            let answer = forger.post("ListFunctions", b"{}", now(), &named);
            answer.json()["Response"]["Error"]["Code"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        eventually("it is blocked", || {
            code("203.0.113.7") == "RequestLimitExceeded"
        });
        let other = code("203.0.113.8");
        assert_eq!(other == "AuthFailure.SecretIdNotFound", trusted, "{other}");
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// A connection on which a request of a client's was served, and the head of the next has begun: it is busy, and somebody's.
fn busy(client: &Client, source: Ipv4Addr) -> TcpStream {
    let mut stream = connect_from(source, &client.host());
    stream
        .write_all(&client.signed("ListFunctions", b"{}"))
        .expect("sent");
    let mut said = [0; 12];
    stream.read_exact(&mut said).expect("an answer");
    assert_eq!(&said, b"HTTP/1.1 200");
    stream.write_all(b"POST / HTTP/1.1\r\n").expect("sent");
    stream
}

fn other_account(client: &Client) -> Client {
    let account = client.operate("CreateAccount", &json!({"Name": "greedy"}));
    client.with_new_key(&account.expect("an account")["Key"])
}

#[test]
fn connections_have_a_quota_per_account() {
    let server = Server::flags(VIRGA, &["--connections", "64"]);
    let client = server.client();
    let greedy = other_account(&client);
    // From many addresses, each of which signs, and none idle.
    let held: Vec<_> = (0..80u8)
        .map(|number| busy(&greedy, Ipv4Addr::new(127, 0, 9, number)))
        .collect();
    for number in 0..8 {
        let _own = busy(&client, Ipv4Addr::new(127, 0, 10, number));
    }
    eventually("it has half", || {
        held.iter().filter(|stream| !is_over(stream)).count() <= 32
    });
}

/// Returns the answer to a head, until the connection ends; empty without an answer.
fn answer_to(source: Ipv4Addr, to: &str, head: &[u8]) -> String {
    let mut stream = connect_from(source, to);
    let mut said = Vec::new();
    let _ = stream.write_all(head);
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn health_check_is_answered_while_all_connections_are_in_use() {
    let server = Server::flags(VIRGA, &["--connections", "64"]);
    let client = server.client();
    let other = other_account(&client);
    let _busy: Vec<_> = (0..64u8)
        .map(|number| match number / 32 {
            0 => busy(&client, Ipv4Addr::new(127, 0, 5, 1)),
            _ => busy(&other, Ipv4Addr::new(127, 0, 5, 2)),
        })
        .collect();
    let buckets = server.objects().endpoint;
    let listeners = [
        client.host(),
        buckets.trim_start_matches("http://").to_owned(),
    ];
    let stranger = Ipv4Addr::new(127, 0, 5, 9);
    let health = b"GET /healthz HTTP/1.1\r\nHost: virga\r\n\r\n";
    for listener in &listeners {
        for _ in 0..3 {
            let said = answer_to(stranger, listener, health);
            assert!(said.starts_with("HTTP/1.1 200"), "{listener}: {said}");
        }
        let said = answer_to(stranger, listener, &client.signed("ListFunctions", b"{}"));
        assert!(said.starts_with("HTTP/1.1 503"), "{listener}: {said}");
    }
    // Nor does one address with many connections keep another from it.
    let held: Vec<_> = (0..200)
        .map(|_| connect_from(Ipv4Addr::new(127, 0, 5, 10), &listeners[0]))
        .collect();
    for listener in &listeners {
        let said = answer_to(stranger, listener, health);
        assert!(said.starts_with("HTTP/1.1 200"), "{listener}: {said}");
    }
    eventually("few of them are left", || {
        held.iter().filter(|stream| !is_over(stream)).count() <= 32
    });
}

#[test]
fn unverified_requests_never_count_as_a_caller() {
    let server = Server::flags(VIRGA, &["--connections", "64"]);
    let client = server.client();
    let objects = server.objects();
    let buckets = objects.endpoint.trim_start_matches("http://").to_owned();
    objects.ok(
        "PUT",
        "/open-1250000000",
        &[("x-cos-acl", "public-read-write")],
        b"",
    );
    let rules = b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>";
    let md5 = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        <md5::Md5 as md5::Digest>::digest(rules),
    );
    objects.ok(
        "PUT",
        "/open-1250000000?cors",
        &[("content-md5", &md5)],
        rules,
    );
    // They name a key that there is, and are answered with success without a look at its signature.
    let claim = format!(
        "Authorization: AWS4-HMAC-SHA256 Credential={}/20260101/ap-guangzhou/s3/aws4_request, SignedHeaders=host, Signature=00",
        client.id
    );
    let asks = format!(
        "OPTIONS /open-1250000000/k HTTP/1.1\r\nHost: {buckets}\r\n{claim}\r\nOrigin: http://a\r\n\
         Access-Control-Request-Method: PUT\r\n\r\n"
    );
    let form = "--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--B\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nrain\r\n--B--\r\n";
    let uploads = format!(
        "POST /open-1250000000 HTTP/1.1\r\nHost: {buckets}\r\n{claim}\r\n\
         Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let held: Vec<_> = (0..64u8)
        .map(|number| {
            let source = Ipv4Addr::new(127, 0, 7, 1 + number / 32);
            let mut stream = connect_from(source, &buckets);
            let request = if number % 2 == 0 { &asks } else { &uploads };
            stream.write_all(request.as_bytes()).expect("sent");
            let mut said = [0; 10];
            if stream.read_exact(&mut said).is_ok() {
                assert_eq!(&said, b"HTTP/1.1 2");
                let _ = stream.write_all(b"POST / HTTP/1.1\r\n");
            }
            stream
        })
        .collect();
    // A caller from another address, and a stranger, are admitted among them.
    for number in 0..4 {
        let source = Ipv4Addr::new(127, 0, 8, number);
        let said = answer_to(
            source,
            &client.host(),
            b"GET /nothing HTTP/1.1\r\nHost: virga\r\nConnection: close\r\n\r\n",
        );
        assert!(said.starts_with("HTTP/1.1 404"), "{said}");
    }
    drop(held);
}

#[test]
fn request_body_memory_has_a_quota_per_account() {
    let flags = ["--wait", "600", "--traffic-memory-mb", "16"];
    let server = Server::flags(VIRGA, &flags);
    server.expect("some requests did not complete within the drain timeout");
    let client = server.client();
    let greedy = other_account(&client);
    let sleeps = "import time\ndef main_handler(e, c):\n    time.sleep(300)\n";
    greedy.create("sleeps", sleeps, json!({"MemorySize": 128, "Timeout": 600}));
    greedy.wait_until_ready("sleeps");
    greedy.ok(
        "PutReservedConcurrencyConfig",
        &json!({"FunctionName": "sleeps", "ReservedConcurrencyMem": 128}),
    );
    let counts = "def main_handler(e, c):\n    return len(e)\n";
    client.create("counts", counts, json!({}));
    // More than ever fit, over connections on which the account is known.
    let event = json!("x".repeat(6_000_000)).to_string();
    let request = json!({"FunctionName": "sleeps", "ClientContext": event}).to_string();
    let waiting: Vec<_> = (0..48u8)
        .map(|number| {
            let source = Ipv4Addr::new(127, 0, 6, 1 + number / 8);
            let mut stream = connect_from(source, &greedy.host());
            stream
                .write_all(&greedy.signed("ListFunctions", b"{}"))
                .expect("sent");
            let mut said = [0; 12];
            stream.read_exact(&mut said).expect("an answer");
            let whole = greedy.signed("Invoke", request.as_bytes());
            stream.write_all(&whole).expect("sent");
            stream
        })
        .collect();
    let event = json!("x".repeat(300_000)).to_string();
    let answer = client.ok(
        "Invoke",
        &json!({"FunctionName": "counts", "ClientContext": event}),
    );
    assert_eq!(answer["Result"]["RetMsg"], "300000");
    drop(waiting);
}

/// Memory of a server's process, MB.
fn resident(server: &Server) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kb.expect("a size") / 1024
}

#[test]
fn waiting_bodies_and_unread_replies_stay_within_the_memory_budget() {
    let server = Server::flags(VIRGA, &["--traffic-memory-mb", "32", "--wait", "60"]);
    let client = server.client();
    let source = "import time\ndef main_handler(e, c):\n    \
                  if e['queryString'].get('large'): return 'x' * (5 << 20)\n    time.sleep(3)\n    return len(e['body'])\n";
    client.create("open", source, json!({"MemorySize": 128, "Timeout": 60}));
    client.create(
        "small",
        "def main_handler(e, c):\n    return 1\n",
        json!({}),
    );
    client.answer("small", &json!({}));
    let path = open_url(&client, "open");
    client.ok(
        "PutReservedConcurrencyConfig",
        &json!({"FunctionName": "open", "ReservedConcurrencyMem": 128}),
    );
    let head = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: virga\r\nContent-Length: {length}\r\n\r\n")
    };
    // One gets its answer, as all do that fit.
    let quiet = resident(&server);
    let mut first = connect(&client);
    first
        .write_all(head(&path, 5 << 20).as_bytes())
        .expect("sent");
    first.write_all(&vec![b'x'; 5 << 20]).expect("sent");
    let waiting: Vec<_> = (0..40u8)
        .map(|number| {
            let mut stream = connect_from(Ipv4Addr::new(127, 0, 2, number), &client.host());
            let _ = stream.write_all(head(&path, 5 << 20).as_bytes());
            let _ = stream.write_all(&vec![b'x'; 5 << 20]);
            stream
        })
        .collect();
    eventually("they wait on disk", || spooled(&server) > 20);
    client.answer("small", &json!({}));
    assert!(
        resident(&server) < quiet + 100,
        "{quiet}, {}",
        resident(&server)
    );
    let mut said = [0; 12];
    first.read_exact(&mut said).expect("an answer");
    assert_eq!(&said, b"HTTP/1.1 200");
    drop(waiting);
    eventually("nothing is left", || spooled(&server) == 0);
    // Readers that do not read: more is asked for than the budget holds.
    let readers: Vec<_> = (0..20u8)
        .map(|number| {
            let mut stream = connect_from(Ipv4Addr::new(127, 0, 3, number), &client.host());
            let path = format!("{path}?large=1");
            stream.write_all(head(&path, 0).as_bytes()).expect("sent");
            stream
        })
        .collect();
    eventually("the largest are closed", || closed(&client, "shed") >= 8.0);
    client.answer("small", &json!({}));
    assert!(
        resident(&server) < quiet + 150,
        "{quiet}, {}",
        resident(&server)
    );
    drop(readers);
}

#[test]
fn unfinished_heads_are_shed_when_they_hold_too_much() {
    let server = Server::flags(VIRGA, &["--traffic-memory-mb", "16"]);
    let client = server.client();
    client.ok("ListFunctions", &json!({}));
    let quiet = resident(&server);
    let line = format!("X-Long: {}\r\n", "x".repeat(1000));
    let head = format!("GET / HTTP/1.1\r\nHost: virga\r\n{}", line.repeat(54));
    let held: Vec<_> = (0..400u16)
        .map(|number| {
            let source = Ipv4Addr::new(127, 0, 4, (number % 200) as u8);
            let mut stream = connect_from(source, &client.host());
            let _ = stream.write_all(head.as_bytes());
            stream
        })
        .collect();
    eventually("the largest are closed", || closed(&client, "shed") >= 50.0);
    client.ok("ListFunctions", &json!({}));
    assert!(
        resident(&server) < quiet + 60,
        "{quiet}, {}",
        resident(&server)
    );
    drop(held);
}
