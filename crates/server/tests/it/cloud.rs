//! The cloud's own names inside functions: their addresses, their certificate, and the option that switches them off.

use serde_json::{Value, json};
use testkit::{Client, Options, Server, package};

use crate::signed_calls::CALLS;
use crate::{VIRGA, server};

/// Names that lead to the API, and names that lead to buckets.
const API: [&str; 4] = [
    "scf.tencentcloudapi.com",
    "scf.internal.tencentcloudapi.com",
    "scf.ap-guangzhou.tencentcloudapi.com",
    "tag.tencentcloudapi.com",
];
const BUCKETS: [&str; 6] = [
    "photos-1250000000.cos.ap-guangzhou.myqcloud.com",
    "photos-1250000000.cos-internal.ap-shanghai.myqcloud.com",
    "cos.ap-guangzhou.myqcloud.com",
    "service.cos.myqcloud.com",
    "photos-1250000000.cos.ap-guangzhou.tencentcos.cn",
    "service.cos.tencentcos.cn",
];
/// Names that are not virga's.
const OTHERS: [&str; 3] = [
    "cvm.tencentcloudapi.com",
    "scf.tencentcloudapi.com.example",
    "example.com",
];

/// Looks names up and asks hosts for pages, in the way that the event says.
const LOOKS: &str = r#"
import json, os, socket, ssl, struct, urllib.error, urllib.request

def lookup(name):
    try:
        return sorted({one[4][0] for one in socket.getaddrinfo(name, 443, 0, socket.SOCK_STREAM)})
    except socket.gaierror:
        return None

def page(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as refused:
        return [refused.code, refused.read().decode()]
    except (urllib.error.URLError, OSError) as error:
        return str(error)

def question(name, kind):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", 77, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)

def servers():
    with open("/etc/resolv.conf") as file:
        return [line.split()[1] for line in file if line.startswith("nameserver")]

def ask(name, kind, tcp):
    message, server = question(name, kind), (servers()[0], 53)
    if tcp:
        with socket.create_connection(server, 10) as stream:
            stream.sendall(struct.pack(">H", len(message)) + message)
            data = stream.makefile("rb")
            reply = data.read(struct.unpack(">H", data.read(2))[0])
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(10)
            datagrams.sendto(message, server)
            reply = datagrams.recv(4096)
    number, flags, _, answers = struct.unpack(">4H", reply[:8])
    return [number, flags & 15, answers]

def main_handler(event, context):
    unset = {name: os.environ.pop(name) for name in event.get("unset", [])}
    try:
        return look(event)
    finally:
        os.environ.update(unset)

def look(event):
    if "names" in event:
        return {name: lookup(name) for name in event["names"]}
    if "ask" in event:
        return ask(event["ask"], event["kind"], event["tcp"])
    if "file" in event:
        with open(event["file"]) as file:
            return file.read()
    if "connect" in event:
        try:
            socket.create_connection(tuple(event["connect"]), 5).close()
            return "connected"
        except OSError as error:
            return type(error).__name__
    if "environment" in event:
        return {name: value for name, value in os.environ.items() if name.endswith(("_FILE", "_BUNDLE", "_CERTS"))}
    return page(event["page"])
"#;

fn looks(client: &Client) {
    client.create("looks", LOOKS, json!({"Timeout": 60}));
}

fn addresses(client: &Client, names: &[&str]) -> Value {
    client.answer("looks", &json!({ "names": names }))
}

/// The address inside at which virga is.
fn gateway(client: &Client) -> Value {
    addresses(client, &["virga.internal"])["virga.internal"].clone()
}

#[test]
fn cloud_names_resolve_to_virga_and_others_fail_without_network() {
    let server = server();
    let client = server.client();
    looks(&client);
    let own = gateway(&client);
    let found = addresses(&client, &API);
    for name in API {
        assert_eq!(found[name], own, "{name}");
    }
    let found = addresses(&client, &BUCKETS);
    for name in BUCKETS {
        assert!(
            found[name].is_array() && found[name] != own,
            "{name}: {found}"
        );
        assert_eq!(found[name], found[BUCKETS[0]], "{name}");
    }
    let found = addresses(&client, &OTHERS);
    for name in OTHERS {
        assert_eq!(found[name], Value::Null, "{name}");
    }
}

#[test]
fn an_ordinary_user_s_virga_has_the_names_too() {
    let options = Options {
        user: true,
        ..Options::default()
    };
    let server = Server::with(VIRGA, options);
    let client = server.client();
    looks(&client);
    let event = json!({"page": format!("https://{}/healthz", API[0])});
    assert_eq!(client.answer("looks", &event), json!([200, "ok\n"]));
}

#[test]
fn the_name_server_answers_by_datagram_and_by_connection() {
    let server = server();
    let client = server.client();
    looks(&client);
    const REFUSED: u64 = 5;
    for tcp in [false, true] {
        for (name, kind, expected) in [
            (API[0], 1, [77, 0, 1]),
            // It has no address of version 6, and nobody else is asked for one.
            (API[0], 28, [77, 0, 0]),
            (BUCKETS[0], 1, [77, 0, 1]),
            ("example.com", 1, [77, REFUSED, 0]),
        ] {
            let event = json!({"ask": name, "kind": kind, "tcp": tcp});
            assert_eq!(client.answer("looks", &event), json!(expected), "{event}");
        }
    }
}

#[test]
fn a_function_trusts_the_certificate_of_the_cloud_s_names_in_each_usual_way() {
    let server = server();
    let client = server.client();
    looks(&client);
    // By the variable, and by the system's directory.
    for unset in [json!([]), json!(["SSL_CERT_FILE"])] {
        for name in API {
            let event = json!({"page": format!("https://{name}/healthz"), "unset": unset});
            assert_eq!(
                client.answer("looks", &event),
                json!([200, "ok\n"]),
                "{event}"
            );
        }
        for name in BUCKETS {
            let event = json!({"page": format!("https://{name}/"), "unset": unset});
            let answer = client.answer("looks", &event);
            let code = match name.starts_with("photos") {
                true => "NoSuchBucket",
                false => "AccessDenied",
            };
            let said = answer[1].as_str().unwrap_or_default();
            assert!(said.contains(code), "{event}: {answer}");
        }
    }
    for name in [API[0], BUCKETS[0]] {
        let answer = client.answer("looks", &json!({"page": format!("http://{name}/healthz")}));
        assert!(matches!(answer[0].as_u64(), Some(200 | 404)), "{answer}");
    }
    // The host's authorities are trusted as before.
    let bundle = client.answer(
        "looks",
        &json!({"file": "/etc/ssl/certs/ca-certificates.crt"}),
    );
    let bundle = bundle.as_str().expect("text");
    let own = std::fs::read_to_string(server.data().join("tls/ca.pem")).expect("an authority");
    assert!(bundle.ends_with(&own));
    if let Ok(host) = std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt") {
        assert!(bundle.starts_with(&host));
    }
    let found = client.answer("looks", &json!({"environment": true}));
    assert_eq!(
        found,
        json!({
            "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
            "REQUESTS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt",
            "CURL_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt",
            "AWS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt",
            "NODE_EXTRA_CA_CERTS": "/etc/ssl/certs/virga.pem",
        })
    );
}

#[test]
fn node_js_trusts_it_too() {
    let server = server();
    let client = server.client();
    let handler = "const https = require('https');\nexports.main_handler = (event) => new Promise((done) => https.get(event.url, \
                   (answer) => { answer.resume(); done(answer.statusCode); }).on('error', (error) => done(error.message)));\n";
    client.ok(
        "CreateFunction",
        &json!({"FunctionName": "gets", "Runtime": "Nodejs18.15", "Code": {"ZipFile": package(&[("index.js", handler)])}}),
    );
    for (url, status) in [
        ("https://scf.tencentcloudapi.com/healthz", 200),
        ("https://a-1.cos.ap-guangzhou.myqcloud.com/", 404),
    ] {
        assert_eq!(client.answer("gets", &json!({"url": url})), status, "{url}");
    }
}

/// certifi as far as its users know it, with a list of its own.
const CERTIFI: &str = "def where():\n    return '/own.pem'\ndef contents():\n    return 'own'\n";

#[test]
fn certifi_s_list_is_the_sandbox_s_unless_the_function_names_a_list_itself() {
    let server = server();
    let client = server.client();
    let index = "import certifi\nfrom certifi import where\ndef main_handler(event, context):\n    \
                 return [certifi.where(), where(), len(certifi.contents()) > 100, certifi.core.__name__]\n";
    let files = [
        ("index.py", index),
        ("certifi/__init__.py", "from .core import contents, where\n"),
        ("certifi/core.py", CERTIFI),
    ];
    let create = |name: &str, more: Value| {
        let mut request = json!({"FunctionName": name, "Runtime": "Python3.9", "Code": {"ZipFile": package(&files)}});
        if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
            request.extend(more);
        }
        client.ok("CreateFunction", &request);
    };
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    create("usual", json!({}));
    assert_eq!(
        client.answer("usual", &json!({})),
        json!([bundle, bundle, true, "certifi.core"])
    );
    let own = json!([{"Key": "SSL_CERT_FILE", "Value": "/var/user/mine.pem"}]);
    create("own", json!({"Environment": {"Variables": own}}));
    assert_eq!(
        client.answer("own", &json!({})),
        json!(["/own.pem", "/own.pem", false, "certifi.core"])
    );
}

#[test]
fn without_cloud_names_the_host_resolves_and_no_authority_is_added() {
    let server = Server::flags(VIRGA, &["--cloud-names", "off"]);
    let client = server.client();
    looks(&client);
    let own = gateway(&client);
    let found = addresses(
        &client,
        &[&API[..], &[BUCKETS[0], BUCKETS[2], OTHERS[2]]].concat(),
    );
    for (name, found) in found.as_object().expect("names") {
        assert_eq!(*found, Value::Null, "{name}");
    }
    assert_eq!(
        client.answer("looks", &json!({"environment": true})),
        json!({})
    );
    for port in [80, 443] {
        let event = json!({"connect": [own[0], port]});
        assert_ne!(client.answer("looks", &event), "connected", "{event}");
    }
    assert!(
        !server.data().join("tls").exists(),
        "an authority that nobody needs"
    );
}

#[test]
fn calls_by_cloud_names_are_bounded_by_the_role_of_the_function() {
    let server = server();
    let client = server.client();
    let policy = json!({"version": "2.0", "statement": [{"effect": "allow", "action": "scf:ListFunctions", "resource": "*"}]});
    let role = json!({"Name": "lister", "Policy": policy});
    client.operate("PutRole", &role).expect("a role");
    client.create("calls", CALLS, json!({"Role": "lister"}));
    let call = |host: &str, action: &str, version: &str, fields: Value| {
        let endpoint = format!("https://{host}");
        let event =
            json!({"endpoint": endpoint, "action": action, "version": version, "fields": fields});
        client.answer("calls", &event)
    };
    for host in &API[..3] {
        let listed = call(host, "ListFunctions", "2018-04-16", json!({}));
        assert_eq!(listed["TotalCount"], 1, "{host}: {listed}");
        let own = json!({"FunctionName": "calls"});
        for refused in [
            call(host, "DeleteFunction", "2018-04-16", own),
            call(host, "ListKeys", "virga-1", json!({})),
        ] {
            assert_eq!(
                refused["Error"]["Code"], "UnauthorizedOperation",
                "{host}: {refused}"
            );
        }
    }
    // The operator's faces are not there either.
    looks(&client);
    for path in ["metrics", "readyz"] {
        let event = json!({"page": format!("https://{}/{path}", API[0])});
        assert_eq!(client.answer("looks", &event)[0], 404, "{path}");
    }
}

#[test]
fn a_function_without_a_public_network_reaches_the_cloud_s_names() {
    let server = server();
    let client = server.client();
    let internal = json!({"PublicNetConfig": {"PublicNetStatus": "DISABLE"}, "Timeout": 60});
    client.create("looks", LOOKS, internal);
    let found = client.answer("looks", &json!({"environment": true}));
    assert_eq!(found["NODE_EXTRA_CA_CERTS"], "/etc/ssl/certs/virga.pem");
    for name in API {
        let event = json!({"page": format!("https://{name}/healthz")});
        assert_eq!(
            client.answer("looks", &event),
            json!([200, "ok\n"]),
            "{name}"
        );
    }
    for name in BUCKETS {
        let answer = client.answer("looks", &json!({"page": format!("https://{name}/")}));
        assert!(
            matches!(answer[0].as_u64(), Some(403 | 404)),
            "{name}: {answer}"
        );
    }
}
