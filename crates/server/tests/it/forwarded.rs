//! The headers in which proxies describe a request: a function gets the platform's, or a trusted proxy's, never a caller's.

use std::process::Command;

use serde_json::{Value, json};
use testkit::{Client, Server};

use crate::urls::{Reply, send, url};
use crate::web_edge_cases::raw;
use crate::{VIRGA, server};

/// Each spelling that a server may read as one of these headers. No value of them may reach a function.
const FORGED: &str = "X-Forwarded-For: 7.7.7.7\r\nx_forwarded_for: 7.7.7.7\r\nX-Forwarded_For: 7.7.7.7\r\nX.Forwarded.For: 7.7.7.7\r\n\
    X-FORWARDED-PROTO: gopher-7.7.7.7\r\nX_Forwarded_Proto: 7.7.7.7\r\nX-Forwarded-Host: 7.7.7.7\r\nX_FORWARDED_HOST: 7.7.7.7\r\n\
    X-Forwarded-Port: 777\r\nX-Forwarded-Port: 7.7.7.7\r\nX_Forwarded-Port: 7.7.7.7\r\nX-Real-IP: 7.7.7.7\r\nX_Real_IP: 7.7.7.7\r\n\
    X-Real_Ip: 7.7.7.7\r\nForwarded: for=7.7.7.7;proto=https\r\nFORWARDED: for=7.7.7.7\r\nX-Forwarded: 7.7.7.7\r\n\
    X-Forwarded-Scheme: 7.7.7.7\r\nX-Forwarded-Ssl: 7.7.7.7\r\nX-Forwarded-Server: 7.7.7.7\r\nX-Forwarded-Prefix: /7.7.7.7\r\n\
    X_Forwarded_Prefix: /7.7.7.7\r\n";

/// An address of a function: a name, a host and a path.
type Address = (&'static str, String, String);

/// Creates a function of each kind, and returns each way that leads to one.
fn addresses(client: &Client) -> Vec<Address> {
    let shows =
        "def main_handler(event, context): return {'statusCode': 200, 'body': event['headers']}";
    client.create("shows", shows, json!({}));
    let (id, _) = url(client, "shows", &json!({"AuthType": "NONE"}));
    let own = |id: &str| format!("1250000000-{id}.ap-guangzhou.localhost");
    client.ok(
        "CreateCustomDomain",
        &json!({"Domain": "shows.example.com", "Protocol": "HTTP",
            "EndpointsConfig": [{"FunctionName": "shows", "PathMatch": "/*"}]}),
    );
    let desc =
        json!({"api": {"isIntegratedResponse": "TRUE"}, "release": {"environmentName": "release"}});
    let trigger = client.ok(
        "CreateTrigger",
        &json!({"FunctionName": "shows", "TriggerName": "gateway", "Type": "apigw", "TriggerDesc": desc.to_string()}),
    );
    let shown = trigger["TriggerInfo"]["TriggerDesc"]
        .as_str()
        .expect("text");
    let shown: Value = serde_json::from_str(shown).expect("JSON");
    let service = shown["service"]["serviceId"].as_str().expect("text");
    let gateway = format!("{service}-1250000000.ap-guangzhou.localhost");
    let web = raw(client, json!({}));
    let host = client.host();
    vec![
        ("url by path", host.clone(), format!("/url/{id}/a")),
        ("url by host", own(&id), "/a".to_owned()),
        ("domain", "shows.example.com:81".to_owned(), "/a".to_owned()),
        (
            "gateway by path",
            host.clone(),
            format!("/url/{service}/release/shows"),
        ),
        ("gateway by host", gateway, "/release/shows".to_owned()),
        ("web by path", host, format!("{web}/a")),
        ("web by host", own(&web[5..]), "/a".to_owned()),
    ]
}

/// The headers that a function gets, in lower case.
fn seen(reply: &Reply) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = match serde_json::from_slice::<Value>(&reply.body) {
        Ok(Value::Object(all)) => {
            let pairs = all.into_iter();
            pairs
                .map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned()))
                .collect()
        }
        _ => {
            let head = String::from_utf8_lossy(&reply.body);
            let lines = head.lines().skip(1);
            lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect()
        }
    };
    all.retain(|(name, _)| name.contains("forward") || name.contains("real"));
    all.sort();
    all
}

fn get(client: &Client, (_, host, path): &Address, headers: &str) -> Vec<(String, String)> {
    let reply = send(client, host, &format!("GET {path}"), headers, b"");
    assert_eq!(reply.status, 200);
    seen(&reply)
}

/// The prefix in a path of the path form.
fn prefix(path: &str) -> Option<String> {
    let end = path.rfind('/').filter(|_| path.starts_with("/url/"))?;
    Some(path[..end].to_owned())
}

fn sorted(pairs: &[(&str, String)]) -> Vec<(String, String)> {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    pairs
}

#[test]
fn forwarding_headers_of_callers_never_reach_functions() {
    let server = server();
    let client = server.client();
    for address in addresses(&client) {
        let (name, host, path) = &address;
        let port = host.rsplit_once(':').map_or("80", |(_, port)| port);
        let mut expected = vec![
            ("x-forwarded-for", "127.0.0.1".to_owned()),
            ("x-forwarded-host", host.clone()),
            ("x-forwarded-port", port.to_owned()),
            ("x-forwarded-proto", "http".to_owned()),
            ("x-real-ip", "127.0.0.1".to_owned()),
        ];
        expected.extend(prefix(path).map(|prefix| ("x-forwarded-prefix", prefix)));
        for headers in ["", FORGED] {
            assert_eq!(get(&client, &address, headers), sorted(&expected), "{name}");
        }
    }
}

#[test]
fn trusted_proxy_describes_the_client_to_functions() {
    let server = Server::flags(VIRGA, &["--trusted-proxies", "127.0.0.0/8"]);
    let client = server.client();
    let plain = "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example.com\r\n\
        X-Forwarded-Port: 8443\r\nX-Real-IP: 203.0.113.7\r\nForwarded: for=203.0.113.7;proto=https\r\nX-Forwarded-Server: edge\r\n";
    // Clients write those, and no proxy does.
    let odd = "X_Forwarded_For: 7.7.7.7\r\nX_Real_IP: 7.7.7.7\r\nX_Forwarded_Proto: 7.7.7.7\r\n";
    for address in addresses(&client) {
        let (name, host, path) = &address;
        let mut expected = vec![
            ("forwarded", "for=203.0.113.7;proto=https".to_owned()),
            (
                "x-forwarded-for",
                "198.51.100.1, 203.0.113.7, 127.0.0.1".to_owned(),
            ),
            ("x-forwarded-host", "shop.example.com".to_owned()),
            ("x-forwarded-port", "8443".to_owned()),
            ("x-forwarded-proto", "https".to_owned()),
            ("x-forwarded-server", "edge".to_owned()),
            ("x-real-ip", "203.0.113.7".to_owned()),
        ];
        let prefix = prefix(path).map(|prefix| ("x-forwarded-prefix", prefix));
        expected.extend(prefix.clone());
        let got = get(&client, &address, &format!("{plain}{odd}"));
        assert_eq!(got, sorted(&expected), "{name}");
        // What the proxy leaves out is added.
        let port = host.rsplit_once(':').map_or("80", |(_, port)| port);
        let mut expected = vec![
            ("x-forwarded-for", "203.0.113.7, 127.0.0.1".to_owned()),
            ("x-forwarded-host", host.clone()),
            ("x-forwarded-port", port.to_owned()),
            ("x-forwarded-proto", "http".to_owned()),
            ("x-real-ip", "203.0.113.7".to_owned()),
        ];
        expected.extend(prefix);
        let got = get(&client, &address, "X-Forwarded-For: 203.0.113.7\r\n");
        assert_eq!(got, sorted(&expected), "{name}");
    }
}

#[test]
fn functions_learn_that_a_request_came_over_tls() {
    let server = Server::flags(VIRGA, &["--tls-listen", "127.0.0.1:0"]);
    let client = server.client();
    let mut words = server.ready.split_whitespace();
    let secure = words.find(|word| word.starts_with("https://"));
    let secure = secure.expect("an address").trim_start_matches("https://");
    let ca = server.data().join("tls/ca.pem");
    for (name, host, path) in addresses(&client) {
        if host != client.host() {
            continue;
        }
        let output = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--http1.1", "--cacert"])
            .arg(&ca)
            .args(["--header", "X-Forwarded-Proto: http"])
            .args(["--connect-to", &format!("::{secure}")])
            .arg(format!("https://localhost{path}"))
            .output()
            .expect("curl");
        let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
        for (header, value) in [("proto", "https"), ("port", "443"), ("host", "localhost")] {
            let json = format!("\"x-forwarded-{header}\": \"{value}\"");
            let line = format!("x-forwarded-{header}: {value}\r\n");
            let compact = json.replace(": ", ":");
            let said = format!("{said}\r\n");
            let found = [json, line, compact].iter().any(|text| said.contains(text));
            assert!(found, "{name} {header}: {said}");
        }
    }
}
