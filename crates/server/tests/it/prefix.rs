//! The path prefix of a URL by path: a web function gets it as a header, and its redirects and cookies are rewritten with it.

use serde_json::json;
use testkit::{Client, Server};

use crate::urls::{Reply, send, url};
use crate::web_edge_cases::{raw, replies};
use crate::{VIRGA, server};

/// Has a web function reply with a header, and gives what comes of it.
fn header(client: &Client, host: &str, path: &str, name: &str, value: &str) -> Vec<String> {
    let reply = format!(
        "HTTP/1.1 302 Found\r\n{name}: {value}\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n"
    );
    let reply = send(
        client,
        host,
        &format!("GET {}", replies(path, &reply)),
        "",
        b"",
    );
    assert_eq!(reply.status, 302);
    // A page that is led on keeps to what the path form allows.
    assert_eq!(reply.header("set-cookie").is_empty(), host == client.host());
    let values = reply.header(&name.to_lowercase());
    values.into_iter().map(str::to_owned).collect()
}

/// What a web function sees of a request, in lower case.
fn seen(client: &Client, host: &str, path: &str, headers: &str) -> String {
    let reply: Reply = send(client, host, &format!("GET {path}"), headers, b"");
    String::from_utf8_lossy(&reply.body).to_lowercase()
}

#[test]
fn redirect_of_a_web_function_keeps_its_path_prefix() {
    let server = server();
    let client = server.client();
    let path = raw(&client, json!({}));
    let other = {
        client.create(
            "other",
            "def main_handler(event, context): return 1",
            json!({}),
        );
        url(&client, "other", &json!({"AuthType": "NONE"})).0
    };
    let host = client.host();
    for (said, expected) in [
        ("/login?next=/a".to_owned(), format!("{path}/login?next=/a")),
        ("/".to_owned(), format!("{path}/")),
        (format!("http://{host}/a"), format!("http://{host}{path}/a")),
        (format!("//{host}/a"), format!("//{host}{path}/a")),
        // Of a server that heeds X-Forwarded-Prefix, and of one that knows another function's.
        (format!("{path}/a"), format!("{path}/a")),
        (format!("/url/{other}/a"), format!("/url/{other}/a")),
        ("/url/nobody-s".to_owned(), format!("{path}/url/nobody-s")),
        // Foreign, or relative to where the client is.
        (
            "https://example.com/a".to_owned(),
            "https://example.com/a".to_owned(),
        ),
        ("//example.com/a".to_owned(), "//example.com/a".to_owned()),
        ("a/b".to_owned(), "a/b".to_owned()),
    ] {
        for name in ["Location", "Content-Location"] {
            let got = header(&client, &host, &path, name, &said);
            assert_eq!(got, std::slice::from_ref(&expected), "{said}");
        }
    }
    assert_eq!(
        header(&client, &host, &path, "Refresh", "3; url=/a"),
        [format!("3; url={path}/a")]
    );
    // It leads there.
    let led = header(&client, &host, &path, "Location", "/there").remove(0);
    assert!(seen(&client, &host, &led, "").starts_with("get /there http/1.1"));
    // By host there is no prefix, and nothing to put before.
    let id = path.trim_start_matches("/url/");
    let own = format!("1250000000-{id}.ap-guangzhou.localhost");
    assert_eq!(header(&client, &own, "", "Location", "/a"), ["/a"]);
}

#[test]
fn path_prefix_header_is_set_and_only_trusted_proxies_may_extend_it() {
    let server = server();
    let client = server.client();
    let path = raw(&client, json!({}));
    let host = client.host();
    let own = format!("1250000000-{}.ap-guangzhou.localhost", &path[5..]);
    let forged = "X-Forwarded-Prefix: //evil.example\r\nX_Forwarded_Prefix: /evil\r\n";
    let header = format!("\r\nx-forwarded-prefix: {path}\r\n");
    for headers in ["", forged] {
        let by_path = format!(
            "{}\r\n",
            seen(&client, &host, &format!("{path}/a"), headers)
        );
        assert!(by_path.contains(&header), "{by_path}");
        assert_eq!(by_path.matches("prefix").count(), 1, "{by_path}");
        let by_host = seen(&client, &own, "/a", headers);
        assert!(
            by_host.contains("x-scf-name") && !by_host.contains("prefix"),
            "{by_host}"
        );
    }
    // Nor is a caller's address believed, however it is spelt.
    let spellings =
        "X-Forwarded-For: 7.7.7.7\r\nX_Forwarded_For: 7.7.7.7\r\nX-Forwarded_For: 7.7.7.7\r\n";
    let hops = seen(&client, &host, &format!("{path}/a"), spellings);
    assert!(hops.contains("x-forwarded-for: 127.0.0.1"), "{hops}");
    assert!(!hops.contains("7.7.7.7"), "{hops}");
    // A handler's event, and its reply in full.
    let source = "def main_handler(event, context): return {'statusCode': 302, 'headers': {'Location': '/to' + event['headers']['x-forwarded-prefix']}}";
    client.create("leads", source, json!({}));
    let (id, _) = url(&client, "leads", &json!({"AuthType": "NONE"}));
    let reply = send(&client, &host, &format!("GET /url/{id}/"), forged, b"");
    assert_eq!(reply.header("location"), [format!("/url/{id}/to/url/{id}")]);
}

#[test]
fn prefix_removed_by_a_trusted_proxy_is_part_of_the_path_prefix() {
    let server = Server::flags(VIRGA, &["--trusted-proxies", "127.0.0.0/8"]);
    let client = server.client();
    let path = raw(&client, json!({}));
    let host = client.host();
    let of_proxy = "X-Forwarded-Prefix: /fn/\r\nX-Forwarded-Host: example.com\r\n";
    let by_path = format!(
        "{}\r\n",
        seen(&client, &host, &format!("{path}/a"), of_proxy)
    );
    let header = format!("\r\nx-forwarded-prefix: /fn{path}\r\n");
    assert!(by_path.contains(&header), "{by_path}");
    for (said, expected) in [
        ("/a", format!("/fn{path}/a")),
        (
            "https://example.com/a",
            format!("https://example.com/fn{path}/a"),
        ),
    ] {
        let reply = format!("HTTP/1.1 302 Found\r\nLocation: {said}\r\nContent-Length: 0\r\n\r\n");
        let request = format!("GET {}", replies(&path, &reply));
        let reply = send(&client, &host, &request, of_proxy, b"");
        assert_eq!(reply.header("location"), [expected]);
    }
}
