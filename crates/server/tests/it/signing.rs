//! Captured requests: neither a replay nor a change of them is accepted.

mod operator;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scf::tc3::{self, ToSign};
use serde_json::{Value, json};
use testkit::{Client, OPERATOR_SERVICE, OPERATOR_VERSION, Server};

use crate::{VIRGA, server};

const NONCE: &str = "0123456789abcdef";

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time").as_secs() as i64
}

/// A request as it is sent: the headers that official SDKs sign, and others.
struct Request {
    service: &'static str,
    headers: Vec<(&'static str, String)>,
    signed: &'static [&'static str],
    body: String,
}

impl Request {
    fn new(service: &'static str, version: &str, action: &str, body: &Value) -> Self {
        let headers = vec![
            ("x-tc-action", action.to_owned()),
            ("x-tc-timestamp", now().to_string()),
            ("x-tc-version", version.to_owned()),
        ];
        Self {
            service,
            headers,
            signed: &[],
            body: body.to_string(),
        }
    }

    /// One of the operator's API that signs all that it must.
    fn of_operator(action: &str, body: &Value, nonce: &str) -> Self {
        let mut request = Self::new(OPERATOR_SERVICE, OPERATOR_VERSION, action, body);
        request.headers.insert(1, ("x-tc-nonce", nonce.to_owned()));
        request.signed = &[
            "x-tc-action",
            "x-tc-nonce",
            "x-tc-timestamp",
            "x-tc-version",
        ];
        request
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(have, _)| *have != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(have, _)| *have != name);
        self
    }

    /// Signs it with a client's key.
    fn sign(self, client: &Client) -> Self {
        let signed: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| self.signed.contains(name))
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let unsigned = self
            .headers
            .iter()
            .any(|(_, value)| value == tc3::UNSIGNED_PAYLOAD);
        let payload = if unsigned {
            tc3::UNSIGNED_PAYLOAD
        } else {
            &self.body
        };
        let authorization = tc3::authorization(&ToSign {
            secret_id: &client.id,
            secret_key: &client.key,
            service: self.service,
            host: &client.host(),
            content_type: "application/json",
            headers: &signed,
            payload: payload.as_bytes(),
            timestamp: now(),
        });
        self.set("authorization", &authorization)
    }

    /// The code that it is answered with; empty where it is served.
    fn code(&self, client: &Client) -> String {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        headers.push(("content-type", "application/json"));
        let answer = client
            .send("POST", "/", &headers, self.body.as_bytes())
            .json();
        let code = &answer["Response"]["Error"]["Code"];
        code.as_str().unwrap_or_default().to_owned()
    }
}

fn keys(client: &Client) -> usize {
    let listed = client.operate("ListKeys", &json!({})).expect("keys");
    listed["Keys"].as_array().expect("a list").len()
}

/// What official SDKs send: the action is not signed.
fn plain(action: &str, body: &Value) -> Request {
    Request::new("scf", scf::VERSION, action, body)
}

#[test]
fn strict_key_must_sign_action_headers_and_others_need_not() {
    let mut server = server();
    let root = server.client();
    root.create("fun", "def main_handler(e, c):\n    return 1\n", json!({}));
    let key = root.operate("CreateKey", &json!({"SignAction": true}));
    let marked = root.with_new_key(&key.expect("a key"));
    let get = || plain("GetFunction", &json!({"FunctionName": "fun"}));
    // The captured call of one action does not become another.
    for action in ["GetFunction", "DeleteFunction"] {
        let code = get().sign(&marked).set("x-tc-action", action).code(&marked);
        assert_eq!(code, "AuthFailure.SignatureFailure", "{action}");
    }
    let all: &[&str] = &["x-tc-action", "x-tc-timestamp", "x-tc-version"];
    let good = || Request {
        signed: all,
        ..get()
    };
    assert_eq!(good().sign(&marked).code(&marked), "");
    for (name, value) in [
        ("x-tc-action", "DeleteFunction"),
        ("x-tc-version", "2017-01-01"),
        ("x-tc-region", "ap-beijing"),
        ("x-tc-token", "t"),
    ] {
        let code = good().sign(&marked).set(name, value).code(&marked);
        // A version that does not exist is refused by the head, before the signature, whenever the body comes.
        match name {
            "x-tc-version" => assert_eq!(code, "NoSuchVersion"),
            _ => assert!(code.starts_with("AuthFailure."), "{name}: {code}"),
        }
    }
    for signed in [&all[1..], &all[..2], &["x-tc-action", "x-tc-version"]] {
        let less = Request { signed, ..get() };
        assert_eq!(
            less.sign(&marked).code(&marked),
            "AuthFailure.SignatureFailure",
            "{signed:?}"
        );
    }
    let unsigned = good().set("x-tc-content-sha256", tc3::UNSIGNED_PAYLOAD);
    assert_eq!(
        unsigned.sign(&marked).code(&marked),
        "AuthFailure.SignatureFailure"
    );
    // Its region is signed where it is sent; our own clients sign all.
    let with_region = Request {
        signed: &[
            "x-tc-action",
            "x-tc-region",
            "x-tc-timestamp",
            "x-tc-version",
        ],
        ..get()
    };
    let region = with_region.set("x-tc-region", "ap-guangzhou").sign(&marked);
    assert_eq!(region.code(&marked), "");
    assert_eq!(
        marked.code("GetFunction", &json!({"FunctionName": "fun"})),
        ""
    );
    // The root's own key is not marked, and what SDKs send goes on working.
    assert_eq!(get().sign(&root).code(&root), "");
    // The mark is stored, shown, and can be removed.
    server.kill();
    server.restart();
    let shown = |state: bool| {
        let listed = server
            .client()
            .operate("ListKeys", &json!({}))
            .expect("keys");
        let keys = listed["Keys"].as_array().expect("a list").clone();
        let key = keys
            .into_iter()
            .find(|key| key["SecretId"] == marked.id.as_str());
        assert_eq!(key.expect("listed")["SignAction"], state);
    };
    shown(true);
    let root = server.client();
    let marked = root.with_key(&marked.id, marked.key.reveal());
    assert_eq!(
        get().sign(&marked).code(&marked),
        "AuthFailure.SignatureFailure"
    );
    let done = server.cli(&["key", "sign-action", &marked.id, "off"]);
    assert!(done.status.success(), "{done:?}");
    shown(false);
    assert_eq!(get().sign(&marked).code(&marked), "");
    server.terminate();
    // Or every permanent key is as one that is marked.
    server.restart_with(&["--sign-action", "all"]);
    let root = server.client();
    assert_eq!(
        get().sign(&root).code(&root),
        "AuthFailure.SignatureFailure"
    );
    assert_eq!(
        root.code("GetFunction", &json!({"FunctionName": "fun"})),
        ""
    );
}

/// The code of the answer to a request whose body comes in one piece with its head, behind it, or after a while.
fn codes(client: &Client, request: &Request) -> [String; 3] {
    let headers: Vec<String> = request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n",
        client.host(),
        request.body.len(),
        headers.concat()
    );
    let answer = |mut stream: TcpStream| {
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("an answer");
        let body = said.split_once("\r\n\r\n").expect("a head").1;
        let answer: Value = serde_json::from_str(body).expect("JSON");
        let code = answer["Response"]["Error"]["Code"].as_str();
        code.unwrap_or_default().to_owned()
    };
    let connect = || TcpStream::connect(client.host()).expect("a connection");
    let mut whole = connect();
    let both = format!("{head}{}", request.body);
    whole.write_all(both.as_bytes()).expect("sent");
    let mut behind = connect();
    behind.set_nodelay(true).expect("at once");
    behind.write_all(head.as_bytes()).expect("sent");
    behind.write_all(request.body.as_bytes()).expect("sent");
    // Where the head is enough the answer comes without it.
    let mut late = connect();
    late.set_nodelay(true).expect("at once");
    late.write_all(head.as_bytes()).expect("sent");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let _ = late.write_all(request.body.as_bytes());
    [whole, behind, late].map(answer)
}

#[test]
fn error_is_the_same_however_late_the_body_arrives() {
    let server = server();
    let client = server.client();
    let forged = client.with_key(&client.id, "wrong");
    let unknown = client.with_key("AKIDnobody", "wrong");
    let old = || plain("ListFunctions", &json!({})).set("x-tc-timestamp", "1000000000");
    let operators = || Request::of_operator("ListKeys", &json!({}), NONCE);
    for (request, code) in [
        (
            plain("ListFunctions", &json!({})).sign(&forged),
            "AuthFailure.SignatureFailure",
        ),
        (
            plain("ListFunctions", &json!({})).sign(&unknown),
            "AuthFailure.SecretIdNotFound",
        ),
        (old().sign(&forged), "AuthFailure.SignatureExpire"),
        (old().sign(&unknown), "AuthFailure.SecretIdNotFound"),
        (plain("Rain", &json!({})).sign(&forged), "InvalidAction"),
        (
            plain("Rain", &json!({})).sign(&unknown),
            "AuthFailure.SecretIdNotFound",
        ),
        (plain("Rain", &json!({})).sign(&client), "InvalidAction"),
        (
            plain("ListFunctions", &json!({}))
                .set("x-tc-version", "2017-01-01")
                .sign(&forged),
            "NoSuchVersion",
        ),
        (
            plain("ListFunctions", &json!({}))
                .set("x-tc-version", "2017-01-01")
                .sign(&client),
            "NoSuchVersion",
        ),
        (operators().sign(&forged), "AuthFailure.SignatureFailure"),
        (
            operators().without("x-tc-nonce").sign(&forged),
            "MissingParameter",
        ),
        (
            operators().without("x-tc-nonce").sign(&unknown),
            "AuthFailure.SecretIdNotFound",
        ),
        (
            operators().set("x-tc-nonce", "short").sign(&unknown),
            "AuthFailure.SecretIdNotFound",
        ),
    ] {
        assert_eq!(codes(&client, &request), [code; 3]);
    }
}

#[test]
fn signature_lifetime_is_an_option_for_both_apis() {
    let server = Server::flags(VIRGA, &["--signature-window", "60"]);
    let client = server.client();
    for (age, code) in [
        (50, ""),
        (70, "AuthFailure.SignatureExpire"),
        (-70, "AuthFailure.SignatureExpire"),
    ] {
        for version in [scf::VERSION, OPERATOR_VERSION] {
            let action = if version == scf::VERSION {
                "ListFunctions"
            } else {
                "ListKeys"
            };
            let answer = client.post(action, b"{}", now() - age, &[("X-TC-Version", version)]);
            let found = answer.json()["Response"]["Error"]["Code"].take();
            assert_eq!(found.as_str().unwrap_or_default(), code, "{version} {age}");
        }
    }
}

#[test]
fn version_1_can_be_switched_off() {
    let form = |client: &Client| {
        let time = now().to_string();
        let mut pairs = vec![
            ("Action", "ListFunctions"),
            ("Nonce", "1"),
            ("SecretId", &client.id),
            ("Timestamp", &time),
            ("Version", scf::VERSION),
        ];
        let method = scf::v1::Method::Sha1;
        let signature = scf::v1::sign(
            &client.key,
            method,
            "GET",
            &client.host(),
            "/",
            pairs.clone(),
        );
        let signature = STANDARD.encode(signature);
        let signature = signature
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        pairs.push(("Signature", &signature));
        let query: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let answer = client.get(&format!("/?{}", query.join("&"))).json();
        answer["Response"]["Error"]["Code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let usual = server();
    assert_eq!(form(&usual.client()), "");
    let off = Server::flags(VIRGA, &["--signature-v1", "off"]);
    assert_eq!(form(&off.client()), "AuthFailure.InvalidAuthorization");
    assert_eq!(off.client().code("ListFunctions", &json!({})), "");
}

/// An address of this machine's that is not of the loopback; none where it has no network.
fn other_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the kernel only chooses the address.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn root_keys_over_plain_http_are_accepted_from_loopback_alone() {
    let Some(address) = other_address() else {
        eprintln!("this machine has no address but its loopback's");
        return;
    };
    let flags = [
        "--listen",
        "0.0.0.0:0",
        "--bucket-listen",
        "0.0.0.0:0",
        "--tls-listen",
        "127.0.0.1:0",
    ];
    let mut server = Server::flags(VIRGA, &flags);
    let near = |server: &Server| {
        let mut client = server.client();
        client.endpoint = client.endpoint.replace("0.0.0.0", "127.0.0.1");
        client
    };
    let far = |server: &Server| {
        let mut client = server.client();
        client.endpoint = client.endpoint.replace("0.0.0.0", &address.to_string());
        client
    };
    let root = near(&server);
    let policy = json!({"version": "2.0", "statement": [{"effect": "allow", "action": "scf:*", "resource": "*"}]});
    let key = root
        .operate("CreateKey", &json!({"Policy": policy}))
        .expect("a key");
    let account = root
        .operate("CreateAccount", &json!({"Name": "tenant"}))
        .expect("an account");
    let distant = far(&server);
    assert_eq!(root.code("ListFunctions", &json!({})), "");
    for refused in [distant.clone(), distant.with_new_key(&account["Key"])] {
        assert_eq!(
            refused.code("ListFunctions", &json!({})),
            "UnauthorizedOperation"
        );
        let operated = refused
            .operate("ListKeys", &json!({}))
            .expect_err("refused");
        assert_eq!(operated.code, "UnauthorizedOperation");
        assert!(
            operated
                .message
                .contains("root keys are not taken over plain HTTP"),
            "{}",
            operated.message
        );
    }
    let policed = distant.with_new_key(&key);
    assert_eq!(policed.code("ListFunctions", &json!({})), "");
    // Buckets hold to the same.
    let buckets = |server: &Server, client: &Client, host: &str| {
        let mut objects = server.objects_of(client);
        objects.endpoint = objects.endpoint.replace("0.0.0.0", host);
        objects
    };
    let host = address.to_string();
    let put = |objects: &testkit::Objects, bucket: &str| {
        let answer = objects.send("PUT", bucket, &[], b"");
        (
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        )
    };
    assert_eq!(
        put(&buckets(&server, &root, "127.0.0.1"), "/near-1250000000").0,
        200
    );
    let (status, said) = put(&buckets(&server, &root, &host), "/far-1250000000");
    assert_eq!(status, 403, "{said}");
    assert!(
        said.contains("<Code>AccessDenied</Code>") && said.contains("plain HTTP"),
        "{said}"
    );
    assert_eq!(
        buckets(&server, &policed, &host)
            .send("GET", "/", &[], b"")
            .status,
        403
    );
    let wide = json!({"version": "2.0", "statement": [{"effect": "allow", "action": "name/cos:*", "resource": "*"}]});
    let key = root.operate("CreateKey", &json!({"Policy": wide}));
    let wide = root.with_new_key(&key.expect("a key"));
    assert_eq!(
        put(&buckets(&server, &wide, &host), "/far-1250000000").0,
        200
    );
    server.terminate();
    let listen = ["--listen", "0.0.0.0:0", "--bucket-listen", "0.0.0.0:0"];
    server.restart_with(&[&listen[..], &["--root-http", "all"]].concat());
    let distant = far(&server);
    assert_eq!(distant.code("ListFunctions", &json!({})), "");
    assert_eq!(
        put(&buckets(&server, &distant, &host), "/all-1250000000").0,
        200
    );
}
